/** Backup and restore: everything is there again, nothing is touched by what is not sound. */
import { createHash, randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { mayMount, mountSmall } from '../../../test/faults/small-disk.ts'
import { testManifest } from '../../../test/test-api.ts'
import { newRunId } from '../../core/ids.ts'
import { openFiles } from '../../objects/files.ts'
import { type Database, statement } from '../../ports/database.ts'
import { openDatabase } from '../../postgres/pool.ts'
import { listTables, withoutBackup, withSnapshot } from '../../store/backup.ts'
import { totals } from '../../store/ledger.ts'
import { appendLogs } from '../../store/logs.ts'
import { migrate, migrationState, platformMigrations } from '../../store/migrate.ts'
import { claimObjects, referToObjects } from '../../store/objects.ts'
import { insertNewRuns } from '../../store/runs.ts'
import { acquire, advance, ensureShards } from '../../store/shards.ts'
import { append, ensureTopic } from '../../store/topics.ts'
import { deployVersion } from '../../store/versions.ts'
import { restoreBackup } from './restore.ts'
import { takeBackup } from './take.ts'
import { readTape, writeTape } from './tape.ts'
import { verifyBackup } from './verify.ts'

const nobody = new AbortController().signal
const holder = '0199c7a8-5f2e-7c31-9d0a-5b8000000001'
const nothing = () => {}

let folder: string
let source: TestDatabase
let sound: string
const store = () => openFiles(join(folder, 'objects'))
const versionsFolder = () => join(folder, 'versions')

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-backup-'))
  source = await testDatabase()
  await fill(source.db)
  sound = join(folder, 'sound.backup')
  await take(sound)
})
afterAll(async () => {
  await source.drop()
  await rm(folder, { recursive: true })
})

const fillRows = statement(
  'test.fill-backup',
  `
  with ledger as (
    insert into sluice.ledger_batches
      (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at)
    values ('images', 0, 0, 3, 3, 1, 0, 0, 0, 2, 0, sluice.sluice_now())
  ), dead as (
    insert into sluice.stream_waiting (stream, partition, "offset", record_id, key, value, state, attempts, reason, detail, since)
    select 'images', 0, n, 'r' || n, E'tab\\there\\\\n' || n, json_build_object('n', n, 'text', E'line\\nbreak \\\\ é 😀')::text, 'dead', 5, null, '', now()
    from generate_series(1, 2) as n
  ), old as (
    insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
    select '0199c7a8-5f2e-7c31-9d0a-5b8000000009', n, now() - interval '3 days', 0, -1, 1, 'none', 'running', repeat('x', 1000)
    from generate_series(1, 20) as n
  ), running as (
    insert into sluice.tasks (run_id, node, state, attempt, token) values ('0199c7a8-5f2e-7c31-9d0a-5b8000000009', 0, 'running', 1, 77)
  )
  insert into sluice.documents (collection, key, body) select 'images', 'd' || n, '{"a":1}' from generate_series(1, 5) as n`,
)
const makeOldDay = statement(
  'test.make-old-day',
  `select sluice.ensure_day_partitions('sluice.transitions', (now() at time zone 'UTC')::date - 4, 3)`,
)

/** A bit of everything that a Sluice that runs has. */
async function fill(db: Database): Promise<void> {
  await deployVersion(db, testManifest)
  await mkdir(join(versionsFolder(), testManifest.hash, 'chunks'), { recursive: true })
  await writeFile(join(versionsFolder(), testManifest.hash, 'main.js'), 'export {}')
  await writeFile(join(versionsFolder(), testManifest.hash, 'chunks/a.js'), 'export {} // a')
  await ensureTopic(db, 'urls', 2)
  await ensureShards(db, 'images', 'urls')
  await db.transaction((session) =>
    append(
      session,
      'urls',
      Array.from({ length: 50 }, (_, n) => ({ id: `id-${n}`, key: `k${n}`, value: `{"n":${n}}` })),
    ),
  )
  const run = { workflow: 'catalog', version: testManifest.hash, plan: 'manual', logicalTime: null, params: '{}' }
  const id = newRunId(1_770_000_000_000, () => 0.5)
  await insertNewRuns(db, [{ ...run, id, idempotencyKey: null, requestHash: null }])
  await appendLogs(db, [{ source: id, attempt: 1, seq: 0, lines: '{"message":"a\\nb"}\n' }])
  await acquire(db, ['images'], holder, 60_000, 10)
  await db.execute(makeOldDay)
  await db.execute(fillRows)
  for (const size of [0, 1, 70_000, 3_000_000]) await put(db, randomBytes(size), `document-${size}`)
  await store().put(Buffer.from('nobody refers to this'), (object) => claimObjects(db, 'x', [object], 60_000))
}

async function put(db: Database, bytes: Uint8Array, referrer: string): Promise<string> {
  const { sha256 } = await store().put(bytes, (object) => claimObjects(db, 'x', [object], 60_000))
  await db.transaction((session) => referToObjects(session, 'x', [{ sha256, kind: 'document', id: referrer }]))
  return sha256
}

async function take(file: string, wishes: { db?: Database; signal?: AbortSignal } = {}) {
  const database = openDatabase({ ...source.options, max: 2, idleInTransactionMs: 0 })
  try {
    return await takeBackup({
      ...{ database: wishes.db ?? database, store: store(), versionsFolder: versionsFolder(), file, now: new Date() },
      ...{ signal: wishes.signal ?? nobody, onProgress: nothing },
    })
  } finally {
    await database.close()
  }
}

/** An empty database and home. */
async function target() {
  const home = await mkdtemp(join(tmpdir(), 'sluice-restore-'))
  const test = await testDatabase({ migrated: false })
  onTestFinished(async () => {
    await test.drop()
    await rm(home, { recursive: true })
  })
  const files = openFiles(join(home, 'objects'))
  const restore = async (file: string, signal = nobody) => {
    const { head, manifest } = await verifyBackup(file, nothing)
    const places = { store: files, versionsFolder: join(home, 'versions') }
    await restoreBackup({
      file,
      head,
      manifest,
      database: test.db,
      ...places,
      signal,
      folders: [platformMigrations],
      onRead: nothing,
    })
    return manifest
  }
  return { db: test.db, home, files, restore }
}

/** The rows of every table, as sorted text. */
async function contents(db: Database): Promise<Map<string, string[]>> {
  const tables = await listTables(db)
  const found = new Map<string, string[]>()
  for (const { schema, name, copyOut } of tables) {
    let text = ''
    await db.copyOut(copyOut, async (piece) => {
      text += Buffer.from(piece).toString()
    })
    found.set(`${schema}.${name}`, text.split('\n').slice(0, -1).sort())
  }
  return found
}

const schemas = statement<{ schemas: number }>(
  'test.count-schemas',
  "select count(*)::int as schemas from pg_namespace where nspname = 'sluice'",
)
const untouched = async (db: Database) => expect(await db.query(schemas)).toEqual([{ schemas: 0 }])

describe('a backup that is restored', () => {
  it('has every row of every table, and the objects and code that they need', async () => {
    const { db, home, files, restore } = await target()
    const manifest = await restore(sound)
    const [before, after] = [await contents(source.db), await contents(db)]
    expect([...after.keys()]).toEqual([...before.keys()])
    // What a restore changes on purpose is looked at below.
    for (const [name, rows] of before)
      if (!/\.(shards|runs|tasks|objects)$/.test(name)) expect([name, after.get(name)]).toEqual([name, rows])
    expect(after.get('sluice.runs')).toHaveLength(1)
    expect(before.get('sluice.stream_waiting')).toHaveLength(2)
    const stored: string[] = []
    for await (const sha256 of files.list()) stored.push(sha256)
    expect(stored).toHaveLength(4)
    for (const sha256 of stored)
      expect(
        createHash('sha256')
          .update(await files.read(sha256))
          .digest('hex'),
      ).toBe(sha256)
    expect(after.get('sluice.objects')).toHaveLength(4)
    expect(manifest.objects).toMatchObject({ count: 4, missing: [], damaged: [] })
    expect(await readFile(join(home, 'versions', testManifest.hash, 'chunks/a.js'), 'utf8')).toBe('export {} // a')
    expect(await totals(db, 'images')).toEqual(await totals(source.db, 'images'))
    expect(await migrationState(db)).toMatchObject({ pending: [] })
  })

  it('numbers on where the old one was, in days as the old one had them', async () => {
    const { db, restore } = await target()
    await restore(sound)
    const [row] = await db.query(
      statement<{ seq: number; most: number; days: number }>(
        'test.next-document',
        `with fresh as (insert into sluice.documents (collection, key, body) values ('images', 'new', '{}') returning seq)
         select seq, (select max(seq) from sluice.documents) as most,
           (select count(*)::int from only sluice.transitions_default) as days from fresh`,
      ),
    )
    expect(row!.seq).toBeGreaterThan(row!.most)
    expect(row!.days).toBe(0)
  })

  it('refuses whoever held something before: leases are free, epochs and tokens are others', async () => {
    const { db, restore } = await target()
    const [old] = await source.db.query(
      statement<{ epoch: number }>(
        'test.epoch',
        "select epoch from sluice.shards where stream = 'images' and partition = 0",
      ),
    )
    await restore(sound)
    const move = { stream: 'images', partition: 0, from: 0, to: 1, inFlight: 0, parked: 0 }
    const zombie = db.transaction((session) => advance(session, { ...move, epoch: old!.epoch }))
    await expect(zombie).rejects.toMatchObject({ code: 'FENCED' })
    const held = await acquire(db, ['images'], holder, 60_000, 10)
    expect(held).toHaveLength(2)
    // However often the old system's shards change hands yet, they do not come to this number.
    expect(held[0]!.epoch).toBeGreaterThan(old!.epoch + 1_000_000)
    const left = await db.query(
      statement(
        'test.left-holders',
        `
        select (select count(*) from sluice.nodes)::int as nodes, (select count(*) from sluice.object_claims)::int as claims,
          (select token from sluice.tasks)::int as token, (select count(*) from sluice.runs where node_id is not null)::int as owned`,
      ),
    )
    expect(left).toEqual([{ nodes: 0, claims: 0, token: -77, owned: 0 }])
  })

  it('of an older version is brought up to this one', async () => {
    const older = join(folder, 'older')
    await mkdir(older)
    for (const name of (await readdir(platformMigrations.folder)).slice(0, 3)) {
      await copyFile(join(platformMigrations.folder, name), join(older, name))
    }
    const test = await testDatabase({ migrated: false })
    onTestFinished(() => test.drop())
    await migrate(test.db, { folders: [{ scope: 'sluice', folder: older }] })
    await ensureTopic(test.db, 'urls', 2)
    const file = join(folder, 'older.backup')
    await take(file, { db: test.db })
    const { db, restore } = await target()
    await restore(file)
    expect(await migrationState(db)).toMatchObject({ pending: [] })
    expect((await contents(db)).get('sluice.topics')).toHaveLength(1)
  })
})

describe('a backup that is taken while everything goes on', () => {
  it('is of one moment: all that was acknowledged before it, and no half of anything', async () => {
    const test = await testDatabase({ max: 8 })
    onTestFinished(() => test.drop())
    await ensureTopic(test.db, 'busy', 4)
    let stop = false
    let acknowledged = 0
    const writer = async (who: number) => {
      for (let n = 0; !stop; n += 1) {
        const ids = Array.from({ length: 5 }, (_, index) => `${who}-${n}-${index}`)
        await test.db.transaction((session) =>
          append(
            session,
            'busy',
            ids.map((id) => ({ id, key: id, value: JSON.stringify({ id }) })),
          ),
        )
        acknowledged += 5
      }
    }
    const writers = [0, 1, 2].map(writer)
    const file = join(folder, 'busy.backup')
    while (acknowledged < 100) await new Promise((resolve) => setTimeout(resolve, 5))
    const before = acknowledged
    const database = openDatabase({ ...test.options, max: 2, idleInTransactionMs: 0 })
    await take(file, { db: database })
    await database.close()
    const after = acknowledged
    stop = true
    await Promise.all(writers)
    const { db, restore } = await target()
    await restore(file)
    const [found] = await db.query(
      statement<{ records: number; ids: number; groups: number; next: number }>(
        'test.count-busy',
        `select (select count(*) from sluice.topic_records)::int as records, (select count(*) from sluice.topic_ids)::int as ids,
           (select count(*) from (select split_part(id, '-', 1), split_part(id, '-', 2) from sluice.topic_records
             group by 1, 2 having count(*) <> 5) as torn)::int as groups,
           (select sum(next_offset) from sluice.topic_partitions)::int as next`,
      ),
    )
    expect(found).toEqual({ records: found!.records, ids: found!.records, groups: 0, next: found!.records })
    expect(found!.records).toBeGreaterThanOrEqual(before)
    // One transaction of each writer may have been committed and not yet acknowledged.
    expect(found!.records).toBeLessThanOrEqual(after + 15)
  })

  it('keeps from removal what no snapshot keeps, as long as it lasts', async () => {
    const database = openDatabase({ ...source.options, max: 2, idleInTransactionMs: 0 })
    onTestFinished(() => database.close())
    const mayRemove = () => source.db.transaction((session) => withoutBackup(session))
    expect(await mayRemove()).toBe(true)
    await withSnapshot(database, async () => expect(await mayRemove()).toBe(false))
    expect(await mayRemove()).toBe(true)
  })
})

describe('the file', () => {
  it('is readable by its owner alone, and never replaces another', async () => {
    expect((await stat(sound)).mode & 0o777).toBe(0o600)
    const before = await readFile(sound)
    await expect(take(sound)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await readFile(sound)).toEqual(before)
    await expect(take(join(folder, 'nowhere/a.backup'))).rejects.toMatchObject({ code: 'USAGE' })
    expect((await readdir(folder)).filter((name) => name.includes('partial'))).toEqual([])
  })

  it('leaves nothing when it is interrupted', async () => {
    const stop = new AbortController()
    const database: Database = {
      ...source.db,
      transaction: (work) => {
        stop.abort()
        return source.db.transaction(work)
      },
    }
    await expect(take(join(folder, 'b.backup'), { db: database, signal: stop.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    })
    expect((await readdir(folder)).filter((name) => name.startsWith('b.backup'))).toEqual([])
  })

  const without = mayMount ? '' : ' (skipped: this user cannot mount a small disk)'
  it.skipIf(!mayMount)(`leaves nothing on a disk that is full${without}`, async () => {
    const disk = join(folder, 'disk')
    await mkdir(disk)
    onTestFinished(mountSmall(disk, 1))
    await expect(take(join(disk, 'c.backup'))).rejects.toMatchObject({ code: 'STORAGE_FULL' })
    expect(await readdir(disk)).toEqual([])
  })

  it('names objects that were missing or damaged, and puts none of them back', async () => {
    const file = join(folder, 'lacking.backup')
    const [missing, damaged] = [
      await put(source.db, Buffer.from('goes'), 'm'),
      await put(source.db, Buffer.from('rots'), 'd'),
    ]
    const pathOf = (sha256: string) => join(folder, 'objects', sha256.slice(0, 2), sha256)
    await rm(pathOf(missing))
    await rm(pathOf(damaged))
    await writeFile(pathOf(damaged), 'rotx')
    expect(await take(file)).toMatchObject({ missing: [missing], damaged: [damaged] })
    const { files, restore } = await target()
    await restore(file)
    expect(await files.stat(missing)).toBeUndefined()
    expect(await files.stat(damaged)).toBeUndefined()
    await rm(pathOf(damaged))
    await put(source.db, Buffer.from('goes'), 'm')
    await put(source.db, Buffer.from('rots'), 'd')
  })
})

describe('a restore refuses', () => {
  const changed = async (name: string, change: (path: string) => Promise<void>) => {
    const path = join(folder, name)
    await copyFile(sound, path)
    await change(path)
    return path
  }

  it('a file that was cut short, wherever', async () => {
    const { size } = await stat(sound)
    for (const length of [0, 1, 10, 1_000, size >> 1, size - 100, size - 10, size - 1]) {
      const path = await changed(`cut-${length}`, (file) => truncate(file, length))
      await expect(verifyBackup(path, nothing), `${length} of ${size}`).rejects.toMatchObject({
        code: 'BACKUP_INVALID',
      })
    }
  })

  it('a file in which a byte is another, wherever', async () => {
    const { size } = await stat(sound)
    for (let step = 0; step < 24; step += 1) {
      const at = Math.floor((size * step) / 24)
      const path = await changed('flipped', async (file) => {
        const handle = await open(file, 'r+')
        const byte = Buffer.alloc(1)
        await handle.read(byte, 0, 1, at)
        byte[0]! ^= 0x10
        await handle.write(byte, 0, 1, at)
        await handle.close()
      })
      await expect(verifyBackup(path, nothing), `byte ${at} of ${size}`).rejects.toMatchObject({
        code: 'BACKUP_INVALID',
      })
      await rm(path)
    }
  })

  it('what is no backup: another file, another archive, a folder, nothing', async () => {
    const text = join(folder, 'text')
    await writeFile(text, 'hello')
    await expect(verifyBackup(text, nothing)).rejects.toMatchObject({
      code: 'BACKUP_INVALID',
      message: expect.stringContaining('another sort of file'),
    })
    const archive = join(folder, 'archive')
    await writeTape(archive, nobody, (tape) => tape.add('etc/passwd', Buffer.from('x'), 1))
    await expect(verifyBackup(archive, nothing)).rejects.toMatchObject({
      code: 'BACKUP_INVALID',
      message: expect.stringContaining('begins with etc/passwd'),
    })
    await expect(verifyBackup(folder, nothing)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(verifyBackup(join(folder, 'none'), nothing)).rejects.toMatchObject({ code: 'USAGE' })
  })

  /** The same parts, with another text in one of them. */
  const rewritten = async (name: string, part: string, edit: (text: string) => string) => {
    const path = join(folder, name)
    await writeTape(path, nobody, async (tape) => {
      for await (const { name: of, content } of readTape(sound)) {
        const pieces: Uint8Array[] = []
        for await (const piece of content) pieces.push(piece)
        const bytes = of === part ? Buffer.from(edit(Buffer.concat(pieces).toString())) : Buffer.concat(pieces)
        await tape.add(of, bytes, bytes.length)
      }
    })
    return path
  }

  it.each([
    [
      'a newer format',
      'sluice-backup.json',
      (text: string) => text.replace('"format":1', '"format":2'),
      'a newer Sluice made it',
    ],
    ['a head that is none', 'sluice-backup.json', () => '{"format":1,', 'is damaged'],
    [
      'other rows than it lists',
      'tables/sluice.documents/000000.copy',
      (text: string) => text.replace('d1', 'd9'),
      'rows of sluice.documents',
    ],
    [
      'a path that leads outside',
      'manifest.json',
      (text: string) => text.replace('chunks/a.js', '../../a.js'),
      'is no path inside',
    ],
    [
      'a manifest that counts other objects',
      'manifest.json',
      (text: string) => text.replace('"count":4', '"count":5'),
      '4 objects of the 5',
    ],
  ])('%s', async (name, part, edit, why) => {
    const { db, restore } = await target()
    const path = await rewritten(name.replaceAll(' ', '-'), part, edit)
    await expect(restore(path)).rejects.toMatchObject({ code: 'BACKUP_INVALID', message: expect.stringContaining(why) })
    await untouched(db)
  })

  it.each([
    [
      'migrations that are not known here',
      (text: string) => text.replace('0001-engine.sql', '0001-engine.sql').replace('"number":4', '"number":9999'),
    ],
    [
      'another migration of the same number',
      (text: string) => text.replace(/"sha256":"[0-9a-f]{8}/, '"sha256":"00000000'),
    ],
  ])('%s, and leaves the database as it was', async (name, edit) => {
    const { db, restore } = await target()
    const path = await rewritten(name.replaceAll(' ', '-'), 'sluice-backup.json', edit)
    await expect(restore(path)).rejects.toMatchObject({ code: 'MIGRATION_FAILED' })
    await untouched(db)
  })

  it('a database with a Sluice in it', async () => {
    const { db, restore } = await target()
    await migrate(db)
    await ensureTopic(db, 'mine', 1)
    await expect(restore(sound)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect((await contents(db)).get('sluice.topics')).toHaveLength(1)
  })

  it('to go on when it is interrupted: the database is as it was, and takes the backup afterwards', async () => {
    const { db, restore } = await target()
    const stop = new AbortController()
    stop.abort()
    await expect(restore(sound, stop.signal)).rejects.toMatchObject({ code: 'CANCELLED' })
    await untouched(db)
    await restore(sound)
    expect((await contents(db)).get('sluice.documents')).toHaveLength(5)
  })
})
