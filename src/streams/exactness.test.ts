/** Random scripts of publishing, failing, crashing and replaying, against a naive model: nothing lost, nothing doubled. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GappedLog } from '../../test/gapped-log.ts'
import { builtIn, StreamWorld } from '../../test/stream-world.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { totals } from '../store/ledger.ts'
import { replayDeadLetters } from '../store/replay-dead-letters.ts'
import { shardFigures } from '../store/stream-figures.ts'
import { partitionOf } from '../store/topics.ts'

const acts = ['ok', 'fail-once', 'fail', 'reject', 'filter', 'slow', 'rest'] as const
type Act = (typeof acts)[number]
interface Line {
  n: number
  key: string
  to: string
  act: Act
}
interface Row {
  id: string
  lines: number[]
}

type Crash = 'before' | 'after' | 'none'

/** Whose transactions fail as planned: rolled back, or committed though the answer never comes. */
function crashing(db: Database, plan: readonly Crash[]): Database {
  let next = 0
  return {
    ...db,
    transaction: async (work) => {
      const crash = plan[next++] ?? 'none'
      const result = await db.transaction(async (session) => {
        const result = await work(session)
        if (crash === 'before') throw new SluiceError('DATABASE_UNREACHABLE', 'crash before the commit')
        return result
      })
      if (crash === 'after') throw new SluiceError('DATABASE_UNREACHABLE', 'crash after the commit')
      return result
    },
  }
}

let made = 0

function scriptStream(distinct: boolean, mended: { now: boolean }, partitions: number) {
  made += 1
  const lines = topic(`script-${made}`, {
    schema: z.object({ n: z.number(), key: z.string(), to: z.string(), act: z.enum(acts) }),
    partitions,
  })
  const started = new Map<string, number[]>()
  const rested = new Set<number>()
  const definition: unknown = stream(`script-${made}`, {
    from: lines,
    id: (line) => line.n,
    key: (line) => line.key,
    distinct,
    concurrency: { total: 4 },
    retry: { attempts: 2, base: '1ms', max: '1ms' },
    steps: (records) =>
      records.step(async (line: Line, context): Promise<Row> => {
        if (line.act === 'rest' && !rested.has(line.n)) {
          rested.add(line.n)
          throw new SluiceError('HOST_RESTING', 'not now', { retryAfterMs: 15 })
        }
        started.set(line.key, [...(started.get(line.key) ?? []), line.n])
        await new Promise((resolve) => setTimeout(resolve, line.act === 'slow' ? 8 : 0))
        if (line.act === 'reject') context.reject('asked for')
        if (line.act === 'filter') context.filter()
        if (line.act === 'fail-once' && context.attempt === 1) throw new Error('once')
        if (line.act === 'fail' && !mended.now) throw new Error('always')
        return { id: line.to, lines: [line.n] }
      }),
    to: documents(`script-${made}`, {
      key: 'id',
      merge: (document: Row, line: Line): Row => ({ ...document, lines: [...document.lines, line.n] }),
    }),
  })
  return { definition: definition as Stream, name: `script-${made}`, started }
}

/** What must come out: the end of each line (`written or duplicate` where it depends on time), and who led to each document. */
function model(lines: readonly Line[], distinct: boolean, mended: boolean) {
  const firsts = new Map<string, Line>()
  const ends = new Map<number, 'kept' | 'filtered' | 'rejected' | 'dead' | 'duplicate'>()
  const contributors = new Map<string, number[]>()
  for (const line of lines) {
    const first = distinct ? (firsts.get(line.key) ?? line) : line
    firsts.set(line.key, first)
    const own = first.act === 'reject' ? 'rejected' : first.act === 'filter' ? 'filtered' : 'kept'
    const end = first.act === 'fail' && !mended ? 'dead' : own
    ends.set(line.n, line === first || end === 'dead' ? end : 'duplicate')
    if (end === 'kept') contributors.set(first.to, [...(contributors.get(first.to) ?? []), line.n])
  }
  return { ends, contributors }
}

async function check(
  world: StreamWorld,
  { name, gaps }: { readonly name: string; readonly gaps: boolean },
  lines: readonly Line[],
  expected: ReturnType<typeof model>,
) {
  const found = await world.documents(name)
  const merged = new Map(found.map(({ key, body }) => [key, (body.lines as number[]).toSorted((a, b) => a - b)]))
  expect([...merged]).toEqual([...expected.contributors].sort(([a], [b]) => (a < b ? -1 : 1)))
  const count = (...ends: string[]) => [...expected.ends.values()].filter((end) => ends.includes(end)).length
  const written = expected.contributors.size
  const sums = await totals(world.db, name)
  expect(sums).toMatchObject({
    received: lines.length,
    pending: 0,
    written,
    duplicate: count('kept', 'duplicate') - written,
    filtered: count('filtered'),
    rejected: count('rejected'),
    dead: count('dead'),
  })
  expect(await world.breaches({ atRest: true })).toEqual([])
  const ends = await world.ends(name)
  // Of records that were filtered nothing tells where they lay between the gaps.
  const untold = gaps ? sums.filtered - ends.filter((end) => end.outcome === 'filtered').length : 0
  expect(ends).toHaveLength(lines.length - untold)
  for (const outcome of ['written', 'duplicate', 'filtered', 'rejected', 'dead'] as const) {
    const told = sums[outcome] - (outcome === 'filtered' ? untold : 0)
    expect(ends.filter((end) => end.outcome === outcome)).toHaveLength(told)
  }
}

describe('exactness', () => {
  let world: StreamWorld
  beforeAll(async () => {
    world = await StreamWorld.open()
  })
  afterAll(() => world.close())

  const line = fc.record({
    key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'),
    to: fc.constantFrom('x', 'y', 'z', 'u', 'v'),
    act: fc.constantFrom(...acts),
  })
  const script = fc.record({
    distinct: fc.boolean(),
    partitions: fc.constantFrom(1, 3),
    batches: fc.array(fc.array(line, { minLength: 1, maxLength: 25 }), { minLength: 1, maxLength: 3 }),
    crashes: fc.array(fc.constantFrom<Crash>('before', 'after', 'none', 'none'), { maxLength: 8 }),
    limits: fc.record({
      distance: fc.constantFrom(3, 10, 100),
      waiting: fc.constantFrom(1, 2, 8, 1_000),
      moveAfterMs: fc.constantFrom(2, 500),
      readRecords: fc.constantFrom(2, 100),
    }),
  })

  type Script = typeof script extends fc.Arbitrary<infer Drawn> ? Drawn : never

  /** `gapOf` draws the gap before a record of a log that leaves some; without it the log is a topic of the tables. */
  async function play({ distinct, partitions, batches, crashes, limits }: Script, gapOf?: () => number): Promise<void> {
    const mended = { now: false }
    const one = scriptStream(distinct, mended, partitions)
    const database = crashing(world.db, crashes)
    const log = gapOf === undefined ? undefined : new GappedLog(one.name, partitions)
    const given = log === undefined ? {} : { adapters: log.adapters(builtIn(database)) }
    const gaps = log !== undefined
    await world.make(one.definition, given.adapters)
    const runOn = async () => {
      for (;;) {
        try {
          return await world.runToRest(one.definition, { database, limits, ...given })
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'DATABASE_UNREACHABLE' })
        }
      }
    }
    const publish = async (fresh: readonly Line[]) => {
      if (log === undefined) return void (await world.publishValues(one.name, fresh as never))
      for (const line of fresh) {
        const record = { id: `id-${line.n}`, key: line.key, value: JSON.stringify(line) }
        log.append(partitionOf(line.key, partitions), { ...record, gap: gapOf!() })
      }
      for (let partition = 0; partition < partitions; partition += 1) log.pass(partition, gapOf!())
    }
    const lines: Line[] = []
    for (const batch of batches) {
      const fresh = batch.map((line, index) => ({ ...line, n: lines.length + index }))
      lines.push(...fresh)
      await publish(fresh)
      await runOn()
    }
    await check(world, { ...one, gaps }, lines, model(lines, distinct, false))
    // Each key's lines began in order, but for those that were begun again after a crash or a failure.
    if (crashes.length === 0) {
      for (const numbers of one.started.values()) {
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
        if (distinct) expect(new Set(numbers).size).toBe(1)
      }
    }
    mended.now = true
    await replayDeadLetters(world.db, one.name, {}, { distinct })
    await runOn()
    await check(world, { ...one, gaps }, lines, model(lines, distinct, true))
    expect(await world.waiting(one.name)).toEqual([])
    if (log === undefined) return
    // The offset is at the end of the log, also where that has no record; a crash of the last commit of all left it behind.
    crashes.length = 0
    await runOn()
    const ends = Array.from({ length: partitions }, (_, partition) => log.end(partition))
    const shards = await shardFigures(world.db, one.name)
    expect(shards.map(({ committedOffset }) => committedOffset)).toEqual(ends)
  }

  // Many runs through the database: 40 s and more on a busy machine.
  it('holds for any script', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(script, (drawn) => play(drawn)),
      { numRuns: 60 },
    )
  })

  it('holds for any script of a log that leaves gaps', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(script, fc.array(fc.nat(40), { minLength: 1, maxLength: 20 }), (drawn, gaps) => {
        let next = 0
        return play(drawn, () => gaps[next++ % gaps.length]!)
      }),
      { numRuns: 15 },
    )
  })
})
