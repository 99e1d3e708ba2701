import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EngineWorld } from '../../test/engine-world.ts'
import { taskIdOf } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { openFiles } from '../objects/files.ts'
import { statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import { withSnapshot } from '../store/backup.ts'
import { appendLogs } from '../store/logs.ts'
import { claimObjects } from '../store/objects.ts'
import { currentVersion, deployVersion } from '../store/versions.ts'
import { Retain } from './retain.ts'

const day = 86_400_000
let world: EngineWorld
let store: ObjectStore
const notes: string[] = []
beforeAll(async () => {
  world = await EngineWorld.open()
  store = openFiles(join(world.dir, 'home/objects'))
})
afterAll(() => world.close())

const age = statement('test.age', `update sluice.runs set created_at = $2, finished_at = $2 where id = $1`)
const born = statement('test.born', 'update sluice.runs set created_at = $2 where id = $1')
const idle = statement('test.idle', `update sluice.objects set idle_since = idle_since - interval '40 days'`)
const expire = statement('test.expire', `update sluice.object_claims set expires_at = now() - interval '1 day'`)
const tables = statement<{ name: string }>(
  'test.partitions',
  `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent in ('sluice.transitions'::regclass, 'sluice.log_chunks'::regclass) order by 1`,
)
const makeDays = statement(
  'test.make-days',
  `select sluice.ensure_day_partitions('sluice.transitions', $1, 2), sluice.ensure_day_partitions('sluice.log_chunks', $1, 2)`,
)
const rowsOf = statement<{ count: number }>(
  'test.rows-of',
  `select ((select count(*) from sluice.runs where id = any($1::uuid[])) + (select count(*) from sluice.tasks where run_id = any($1::uuid[]))
    + (select count(*) from sluice.inbox where run_id = any($1::uuid[])))::int as count`,
)
const chunksInDefault = statement<{ count: number }>(
  'test.in-default',
  'select count(*)::int as count from only sluice.log_chunks_default',
)
const spoil = statement(
  'test.spoil',
  `insert into sluice.log_chunks (source, attempt, seq, at, lines) values ($1, 0, 0, $2, 'late')`,
)

const spoilAudit = statement(
  'test.spoil-audit',
  `with answer as (insert into sluice.answered_requests (key, request_hash, answer, at) values ('k', 'h', 'null', $1)),
     dead as (
       insert into sluice.stream_waiting (stream, partition, "offset", record_id, value, state, attempts, since)
       values ('s', 0, 1, 'r', '1', 'dead', 1, $1))
   insert into sluice.record_edits (stream, partition, "offset", edit, at, by, before, after)
   select 's', 0, n, 1, $1, 'ada', '0', '1' from generate_series(1, 2) as n`,
)
const auditLeft = statement<{ edits: string[]; answers: number }>(
  'test.audit-left',
  `select array(select "offset"::text from sluice.record_edits) as edits, (select count(*) from sluice.answered_requests)::int as answers`,
)

const removedVersions: string[] = []
let folders: readonly string[] = []
const retain = (historyMs: number, now = Date.now()) =>
  new Retain({
    db: world.db,
    store,
    clock: { now: () => now },
    note: (line) => notes.push(line),
    historyMs,
    versionFolders: async () => folders,
    removeVersion: async (hash) => void removedVersions.push(hash),
  })
const dayName = (ms: number) => new Date(ms).toISOString().slice(0, 10).replaceAll('-', '')

describe('retention', () => {
  it('deletes what is past its horizon, keeps what is not, and what has not ended', async () => {
    const engine = await world.engine()
    const old = await world.start('weighs', { bytes: 300_000 })
    const recent = await world.start('weighs', { bytes: 400_000 })
    const open = await world.start('gated', world.place('open'))
    for (const id of [old, recent]) expect(await world.ended(id)).toBe('success')
    await world.started('open')
    await world.cancel(open)
    expect(await world.ended(open)).toBe('cancelled')
    const live = await world.start('gated', world.place('live'))
    await world.started('live')
    await world.db.execute(age, [old, new Date(Date.now() - 40 * day)])
    await world.db.execute(born, [live, new Date(Date.now() - 50 * day)])
    await world.db.execute(expire)
    await world.db.execute(idle)
    expect((await everyObject()).length).toBe(2)
    expect(await retain(30 * day).once()).toBe(1)
    expect((await world.db.query(rowsOf, [[old]]))[0]!.count).toBe(0)
    expect((await world.db.query(rowsOf, [[recent, live]]))[0]!.count).toBe(5)
    await world.db.execute(idle)
    await retain(30 * day).once()
    const kept = await everyObject()
    expect(kept).toHaveLength(1)
    expect((await world.tasks(recent))[0]?.result).toContain(kept[0])
    await world.go('live')
    expect(await world.ended(live)).toBe('success')
    await engine.stop()
    expect(notes).toEqual([])
  })

  it('drops the days before the horizon, unless an unfinished run began before', async () => {
    const long = Date.now() - 40 * day
    await world.db.execute(makeDays, [new Date(long).toISOString().slice(0, 10)])
    const oldDays = async () =>
      (await world.db.query(tables)).map((row) => row.name).filter((name) => name.endsWith(dayName(long)))
    expect(await oldDays()).toHaveLength(2)
    const waiting = await world.start('none')
    await world.db.execute(born, [waiting, new Date(long)])
    await retain(30 * day).once()
    expect(await oldDays()).toHaveLength(2)
    await world.db.execute(born, [waiting, new Date()])
    await retain(30 * day).once()
    expect(await oldDays()).toEqual([])
    expect((await world.db.query(tables)).map((row) => row.name)).toContain(
      `transitions_${dayName(Date.now() + 2 * day)}`,
    )
  })

  it('goes on when lines came for a day that nobody had prepared, and forgets them too', async () => {
    const source = taskIdOf(await world.start('none'), 0, -1)
    await world.db.execute(spoil, [source, new Date(Date.now() - 35 * day)])
    // Today and two days more are prepared: this is noon of the third, at whatever hour the test runs.
    const later = new Date((Math.floor(Date.now() / day) + 3.5) * day)
    await world.db.execute(spoil, [source, later])
    await world.db.execute(makeDays, [later.toISOString().slice(0, 10)])
    await retain(30 * day).once()
    await appendLogs(world.db, [{ source, attempt: 1, seq: 0, lines: 'on\n' }])
    expect((await world.db.query(chunksInDefault))[0]!.count).toBe(1)
  })

  it('removes versions that nothing names any more, and their bundles', async () => {
    const manifest = (hash: string): Manifest => ({
      ...{
        format: 1,
        hash,
        entries: [],
        workflows: [],
        topics: [],
        streams: [],
        endpoints: [],
        commands: [],
        faults: [],
      },
    })
    const current = await currentVersion(world.db)
    folders = [current!.hash, 'a'.repeat(64)]
    await deployVersion(world.db, manifest('a'.repeat(64)))
    await deployVersion(world.db, current!)
    await retain(30 * day).once()
    expect(removedVersions).toEqual([])
    await retain(30 * day, Date.now() + 31 * day).once()
    expect(removedVersions).toEqual(['a'.repeat(64)])
  })

  it('leaves what the snapshot of a backup needs until that is over', async () => {
    const long = Date.now() - 60 * day
    await world.db.execute(makeDays, [new Date(long).toISOString().slice(0, 10)])
    const oldDays = async () =>
      (await world.db.query(tables)).map((row) => row.name).filter((name) => name.endsWith(dayName(long)))
    await store.put(Buffer.from('idle'), async (object) => claimObjects(world.db, 'a', [object], 1))
    await world.db.execute(expire)
    await world.db.execute(idle)
    const before = [(await oldDays()).length, (await everyObject()).length]
    expect(before).toEqual([2, expect.any(Number)])
    await withSnapshot(world.db, async () => {
      await retain(30 * day).once()
      expect([(await oldDays()).length, (await everyObject()).length]).toEqual(before)
    })
    await retain(30 * day).once()
    expect([(await oldDays()).length, (await everyObject()).length]).toEqual([0, 0])
  })

  it('forgets answers and edits that are past the horizon, but those of letters that are still dead', async () => {
    await world.db.execute(spoilAudit, [new Date(Date.now() - 31 * day)])
    await retain(30 * day).once()
    expect(await world.db.query(auditLeft)).toEqual([{ edits: ['1'], answers: 0 }])
  })

  it('sweeps a file that lost its row', async () => {
    const bytes = Buffer.from('a stray')
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    await store.put(bytes, async () => {})
    await retain(30 * day).once()
    await world.db.execute(idle)
    await retain(30 * day).once()
    expect(await store.stat(sha256)).toBeUndefined()
  })
})

async function everyObject(): Promise<string[]> {
  const found: string[] = []
  for await (const sha256 of store.list()) found.push(sha256)
  return found
}
