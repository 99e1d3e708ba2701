/**
 * The checker finds nothing in what is right, and finds each of many wrong things that are done to the rows. That it also
 * finds what bugs do is shown in test/seeded-bugs.test.ts.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openFiles } from '../../src/objects/files.ts'
import type { Session } from '../../src/ports/database.ts'
import { z } from '../../src/sdk/schema.ts'
import { documents, type Stream, stream } from '../../src/sdk/stream.ts'
import { topic } from '../../src/sdk/topic.ts'
import { EngineWorld } from '../engine-world.ts'
import { StreamWorld } from '../stream-world.ts'
import { breaches, type CheckOptions, Memory } from './check.ts'

interface World {
  readonly db: EngineWorld['db']
}

/** The numbers of the breaches after something was done to the rows, which is undone. */
async function brokenBy(world: World, sql: string, options: CheckOptions = {}): Promise<number[]> {
  const undo = new Error('undone')
  let found: number[] = []
  await world.db
    .transaction(async (session: Session) => {
      await session.script(sql)
      found = (await breaches(session, options)).map(({ invariant }) => invariant)
      throw undo
    })
    .catch((thrown) => {
      if (thrown !== undo) throw thrown
    })
  return found
}

describe('of an engine at work', () => {
  let world: EngineWorld
  let ids: string[]
  beforeAll(async () => {
    world = await EngineWorld.open('seeded-project')
    const engine = await world.engine()
    ids = await Promise.all([
      world.start('rules', world.place('graph')),
      world.start('maps', { n: 50 }),
      ...['stages', 'fails', 'writes', 'telling'].map((workflow) => world.start(workflow)),
      world.start('weighs', { seed: 'ab' }),
      world.start('keeping', { name: 'one' }),
    ])
    for (let look = 0; look < 3; look += 1) expect(await world.breaches({ undisturbed: true })).toEqual([])
    await world.go('graph')
    for (const id of ids) await world.ended(id)
    await engine.stop()
  })
  afterAll(() => world.close())

  it('there are no breaches, while runs go on and when they have ended', async () => {
    expect(await world.breaches({ atRest: true, undisturbed: true, acknowledged: { runs: ids } })).toEqual([])
  })

  const wrongs: [number, string, string][] = [
    [2, 'an attempt that was left out', `update sluice.transitions set attempt = attempt + 1 where attempt = 2`],
    [3, 'a token after the end', `update sluice.tasks set token = 1 where node = 0`],
    [3, 'an epoch that went back', `update sluice.runs set epoch = 0`],
    [3, 'progress of what never ran', `insert into sluice.task_progress select id, 99, -1, 1, 2 from sluice.runs`],
    [3, 'lines of an attempt that never was', `update sluice.log_chunks set attempt = 9`],
    [4, 'an edge that is none', `update sluice.transitions set from_state = 'failed' where to_state = 'success'`],
    [4, 'a gap in the log', `delete from sluice.transitions where seq = 3`],
    [4, 'a row without its log', `update sluice.tasks set state = 'cancelled' where state = 'skipped'`],
    [4, 'an end that was changed', `update sluice.runs set state = 'cancelled' where state = 'success'`],
    [4, 'a result of what failed', `update sluice.tasks set result = '1' where state = 'failed'`],
    [4, 'a task beyond its list', `update sluice.map_ranges set width = width - 1 where width > 3`],
    [
      5,
      'a start before its rule',
      `update sluice.transitions set seq = seq - 1000 where node = 11 and to_state = 'running' and run_id = (select id from sluice.runs where workflow = 'stages')`,
    ],
    [
      5,
      'a verdict against its leaves',
      `update sluice.runs set state = 'failed', error = 'failed: x' where state = 'success'`,
    ],
    [
      7,
      'a loss that was not counted',
      `update sluice.transitions set detail = 'RUNNER_LOST: x' where to_state = 'up_for_retry'`,
    ],
    [
      7,
      'a failure beyond its policy',
      `update sluice.versions set manifest = replace(manifest::text, '"attempts":3', '"attempts":2')::json`,
    ],
    [8, 'a task that goes on after its run', `update sluice.tasks set state = 'up_for_retry' where state = 'failed'`],
    [9, 'a run that says it runs', `update sluice.runs set state = 'running', finished_at = null`],
    [12, 'a task without its run', `delete from sluice.runs where workflow = 'stages'`],
    [12, 'a result without its reference', `delete from sluice.object_refs where referrer_kind = 'run'`],
    [
      12,
      'an object that no sweep will see',
      `delete from sluice.object_refs; update sluice.objects set idle_since = null`,
    ],
    [13, 'a secret in a row', `update sluice.tasks set error = 'c3ByaW5nLW9mLXRydXRo' where node = 0`],
    [
      13,
      'a secret in bytes',
      `insert into sluice.document_bytes values ('kept', 'one', 'f', 'spring-of-truth'::bytea, null, 15)`,
    ],
  ]
  it.each(wrongs)('invariant %i is broken by %s', async (number, _, sql) => {
    const secrets = ['spring-of-truth']
    expect(await brokenBy(world, sql, { atRest: true, secrets })).toContain(number)
  })

  it('6: too many attempts at once are found', async () => {
    const sql = `update sluice.versions set manifest = replace(manifest::text, '"workers":4', '"workers":1')::json`
    expect(await brokenBy(world, sql)).toEqual([6])
  })

  it('1, 8, 12, 13: what was acknowledged, processes, bytes and files are looked for', async () => {
    const [home, planted] = [await mkdtemp(join(tmpdir(), 'sluice-invariants-')), 'spring-of-truth']
    await writeFile(join(home, 'dump'), `${'x'.repeat(100_000)}${planted}`)
    const found = await breaches(world.db, {
      acknowledged: { runs: [randomUUID()], records: [{ topic: 'things', id: 'unknown' }] },
      processes: [process.pid],
      objects: openFiles(join(home, 'objects')),
      secrets: [planted],
      home,
      texts: [`it is ${Buffer.from(planted).toString('base64')}`],
    })
    await rm(home, { recursive: true })
    const numbers = found.map(({ invariant }) => invariant)
    // The bytes of the large result, and of the document.
    expect(numbers.sort((a, b) => a - b)).toEqual([1, 1, 8, 12, 12, 13, 13])
  })

  it('3, 4: what was remembered is compared', async () => {
    const memory = new Memory()
    expect(await breaches(world.db, { memory })).toEqual([])
    expect(await breaches(world.db, { memory })).toEqual([])
    const sql = `update sluice.transitions set detail = 'changed' where detail is null; update sluice.runs set seq = seq - 1`
    const found = await brokenBy(world, sql, { memory })
    expect(found).toContain(3)
    expect(found).toContain(4)
  })

  it('3: another owner under the same epoch is found', async () => {
    const memory = new Memory()
    await breaches(world.db, { memory })
    const taken = `update sluice.runs set node_id = gen_random_uuid() where workflow = 'stages'`
    expect(await brokenBy(world, taken, { memory })).toEqual([3])
  })
})

describe('of streams', () => {
  let world: StreamWorld
  beforeAll(async () => {
    world = await StreamWorld.open()
    const lines = topic('lines', { schema: z.object({ n: z.number(), key: z.string() }), partitions: 2 })
    const definition: unknown = stream('lines', {
      from: lines,
      id: (line) => line.n,
      key: (line) => line.key,
      retry: { attempts: 2, base: '1ms', max: '1ms' },
      steps: (records) =>
        records.step((line: { n: number }, context) => {
          if (line.n % 7 === 0) context.reject('asked for')
          if (line.n % 7 === 1) throw new Error('always')
          return { id: line.n % 7 === 2 ? 'same' : `line ${line.n}` }
        }),
      to: documents('lines', { key: 'id' }),
    })
    await world.publishValues('lines', []).catch(() => {})
    await world.make(definition as Stream)
    await world.publishValues(
      'lines',
      Array.from({ length: 70 }, (_, n) => ({ n, key: `key ${n % 9}` })),
    )
    await world.runToRest(definition as Stream)
  })
  afterAll(() => world.close())

  it('there are no breaches', async () => {
    expect(await world.breaches({ atRest: true })).toEqual([])
  })

  const wrongs: [number, string, string][] = [
    [1, 'a record that is gone', `delete from sluice.topic_records where "offset" = 3`],
    [2, 'an id that was not taken', `delete from sluice.topic_ids where id = 'id-5'`],
    [3, 'a holder without a lease', `update sluice.shards set holder = gen_random_uuid(), lease_until = null`],
    [
      7,
      'an error of an attempt that never was',
      `update sluice.stream_waiting set errors = jsonb_set(errors, '{1,attempt}', '3') where state = 'dead'`,
    ],
    [
      7,
      'an attempt without its error',
      `update sluice.stream_waiting set attempts = attempts + 1 where state = 'dead'`,
    ],
    [9, 'a record that waits at rest', `update sluice.stream_waiting set state = 'waiting' where "offset" < 20`],
    [11, 'an offset without rows', `update sluice.shards set committed_offset = committed_offset - 1`],
    [11, 'a batch that is gone', `delete from sluice.ledger_batches where from_offset = 0`],
    [
      11,
      'a batch that counts otherwise',
      `update sluice.ledger_batches set written = written - 1, filtered = filtered + 1 where written > 0`,
    ],
    [11, 'a written record that is not there', `delete from sluice.documents where key <> 'same'`],
    [11, 'a document that nobody wrote', `update sluice.documents set "offset" = 1000 where key = 'same'`],
    [
      11,
      'a record that ended twice',
      `insert into sluice.ledger_records select * from sluice.ledger_records where outcome = 'dead' limit 1`,
    ],
    [11, 'a move that is none', `update sluice.ledger_records set was = 'rejected' where outcome = 'dead'`],
    [11, 'a dead letter that is gone', `delete from sluice.stream_waiting where state = 'dead'`],
    [11, 'a key in two partitions', `update sluice.topic_records set key = 'one'`],
  ]
  it.each(wrongs)('invariant %i is broken by %s', async (number, _, sql) => {
    expect(await brokenBy(world, sql, { atRest: true })).toContain(number)
  })
})
