import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { StreamWorld } from '../../test/stream-world.ts'
import { SluiceError } from '../errors.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Step, type Stream, type StreamOptions, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { listDeadLetters } from '../store/dead-letters.ts'
import { totals } from '../store/ledger.ts'
import { replayDeadLetters } from '../store/replay-dead-letters.ts'

interface Line {
  n: number
  key?: string
  to?: string
  again?: boolean
}
interface Row {
  id: string
  lines: number[]
}

let world: StreamWorld
let made = 0
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterEach(async () => {
  expect(await world.breaches()).toEqual([])
})
afterAll(() => world.close())

const quick = { attempts: 3, base: '1ms', max: '1ms' } as const
const addLine = (document: Row, line: Line): Row => ({ ...document, lines: [...document.lines, line.n] })

/** A stream of lines with a topic and a collection of its own; `work` gives the row. */
function lineStream(work: Step<Line, Line, Row>, options: Partial<StreamOptions<Line, never>> = {}) {
  made += 1
  const lines = topic(`lines-${made}`, {
    schema: z.object({
      n: z.number(),
      key: z.string().optional(),
      to: z.string().optional(),
      again: z.boolean().optional(),
    }),
  })
  const to = documents(`rows-${made}`, { key: 'id', merge: addLine })
  const definition: unknown = stream(`stream-${made}`, {
    from: lines as never,
    id: (line: Line) => line.n,
    retry: quick,
    ...(options as object),
    steps: (records) => records.step(work),
    to,
  })
  return { definition: definition as Stream, topic: lines.name, collection: to.collection, name: `stream-${made}` }
}

const rowOf = (line: Line): Row => ({ id: line.to ?? `row-${line.n}`, lines: [line.n] })
const range = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

async function balanced(name: string) {
  const sums = await totals(world.db, name)
  const { received, pending, written, duplicate, filtered, rejected, dead } = sums
  expect(pending + written + duplicate + filtered + rejected + dead).toBe(received)
  const ends = await world.ends(name)
  const count = (outcome: string) => ends.filter((end) => end.outcome === outcome).length
  expect({ written, duplicate, filtered, rejected, dead, waiting: sums.waiting }).toEqual({
    written: count('written'),
    duplicate: count('duplicate'),
    filtered: count('filtered'),
    rejected: count('rejected'),
    dead: count('dead'),
    waiting: count('waiting'),
  })
  return sums
}

describe('a shard', () => {
  it('writes a row for each record and accounts for every end', async () => {
    const one = lineStream((line, context) => {
      if (line.n % 10 === 1) context.filter()
      if (line.n % 10 === 2) context.reject('two', 'ends in 2')
      return rowOf(line)
    })
    await world.make(one.definition)
    await world.publishValues(one.topic, range(500))
    await world.publish(one.topic, [
      { id: 'broken', key: null, value: '{"n":' },
      { id: 'wrong', key: null, value: '{"n":"text"}' },
    ])
    await world.runToRest(one.definition)
    const sums = await balanced(one.name)
    expect(sums).toMatchObject({ received: 502, written: 400, filtered: 50, rejected: 52, pending: 0, dead: 0 })
    expect(sums.rejectedByReason).toEqual({ malformed: 2, two: 50 })
    expect(await world.documents(one.collection)).toHaveLength(400)
  })

  it('rejects what the sink cannot take and what functions of the author throw for, and goes on', async () => {
    const rows: unknown[] = [
      { id: 'ok', lines: [] },
      { id: 5 },
      'text',
      null,
      { id: '' },
      { id: 'a\0b' },
      { id: 'zero', text: 'a\0b' },
      { id: 'half', text: '\ud800' },
      { id: 'escaped', text: '\\u0000' },
      { id: 'big', text: 'x'.repeat(1_100_000) },
      { id: 'cyclic', n: 1n },
    ]
    const one = lineStream((line) => rows[line.n] as Row, {
      id: ((line: Line) => {
        if (line.n === 11) throw new Error('no id')
        return line.n
      }) as never,
    })
    await world.make(one.definition)
    await world.publishValues(one.topic, range(12))
    await world.runToRest(one.definition)
    const sums = await balanced(one.name)
    expect(sums.rejectedByReason).toEqual({ 'invalid document': 8, 'document too large': 1, 'function failed': 1 })
    expect((await world.documents(one.collection)).map(({ key }) => key)).toEqual(['escaped', 'ok'])
  })

  it('finds the one record whose data the server refuses', async () => {
    const one = lineStream((line) => ({ ...rowOf(line), deep: line.n === 33 ? nested(6_000) : 0 }) as Row)
    await world.make(one.definition)
    await world.publishValues(one.topic, range(50))
    await world.runToRest(one.definition)
    const sums = await balanced(one.name)
    expect(sums.written + sums.rejected).toBe(50)
    expect(sums.written).toBeGreaterThanOrEqual(49)
  })

  it('retries what fails, rejects what cannot succeed, and ends in a dead letter with value and reason', async () => {
    const tries = new Map<number, number>()
    const one = lineStream((line, { attempt }) => {
      tries.set(line.n, attempt)
      if (line.n === 1 && attempt < 3) throw new Error('not yet')
      if (line.n === 2) throw new Error('never')
      if (line.n === 3) throw new SluiceError('ADDRESS_BLOCKED', 'loopback')
      if (line.n === 4) throw new SluiceError('CONNECTION_UNKNOWN', 'none')
      return rowOf(line)
    })
    await world.make(one.definition)
    await world.publishValues(one.topic, range(6))
    await world.runToRest(one.definition)
    const sums = await balanced(one.name)
    expect(sums).toMatchObject({ written: 3, rejected: 1, dead: 2, pending: 0 })
    expect(sums.rejectedByReason).toEqual({ 'address blocked': 1 })
    expect([...tries]).toEqual([
      [0, 1],
      [1, 3],
      [2, 3],
      [3, 1],
      [4, 1],
      [5, 1],
    ])
    const { items } = await listDeadLetters(world.db, one.name)
    expect(items).toMatchObject([
      { recordId: '2', value: '{"n":2}', reason: 'failed', detail: 'never', attempts: 3 },
      { recordId: '4', reason: 'connection unknown', attempts: 1 },
    ])
  })

  it('replays a dead letter', async () => {
    let mended = false
    const one = lineStream((line) => {
      if (line.n % 2 === 1 && !mended) throw new Error('broken')
      return rowOf(line)
    })
    await world.make(one.definition)
    await world.publishValues(one.topic, range(6))
    await world.runToRest(one.definition)
    expect(await balanced(one.name)).toMatchObject({ written: 3, dead: 3 })
    mended = true
    expect(await replayDeadLetters(world.db, one.name, { ids: ['1'] }, { distinct: false })).toEqual({
      replayed: 1,
      remaining: 0,
      notDead: [],
    })
    expect(await balanced(one.name)).toMatchObject({ written: 3, dead: 2, waiting: 1 })
    await world.runToRest(one.definition)
    expect(await balanced(one.name)).toMatchObject({ written: 4, dead: 2, pending: 0 })
    expect(await replayDeadLetters(world.db, one.name, {}, { distinct: false, maxOfShard: 1 })).toEqual({
      replayed: 1,
      remaining: 1,
      notDead: [],
    })
    expect(await replayDeadLetters(world.db, one.name, {}, { distinct: false })).toEqual({
      replayed: 1,
      remaining: 0,
      notDead: [],
    })
    await world.runToRest(one.definition)
    expect(await balanced(one.name)).toMatchObject({ written: 6, dead: 0, pending: 0 })
    expect(await world.waiting(one.name)).toEqual([])
  })

  it('times out a step that does not end, and aborts its signal', async () => {
    let aborted = 0
    const one = lineStream(
      (line, { signal }) => {
        if (line.n !== 1) return rowOf(line)
        return new Promise(() => signal.addEventListener('abort', () => (aborted += 1)))
      },
      { timeout: '10ms', retry: { attempts: 2, base: '1ms', max: '1ms' } },
    )
    await world.make(one.definition)
    await world.publishValues(one.topic, range(3))
    await world.runToRest(one.definition)
    expect(await balanced(one.name)).toMatchObject({ written: 2, dead: 1 })
    expect((await listDeadLetters(world.db, one.name)).items[0]).toMatchObject({ reason: 'timeout', attempts: 2 })
    expect(aborted).toBe(2)
  })

  it('does not let a slow group hold up others, nor the offset', async () => {
    const gate = Promise.withResolvers<void>()
    const one = lineStream(
      async (line) => {
        if (line.key === 'slow') await gate.promise
        return rowOf(line)
      },
      { concurrency: { total: 8, per: ((line: Line) => line.key ?? '') as never, each: 2 } },
    )
    const limits = { moveAfterMs: 10, distance: 50 }
    await world.make(one.definition)
    // More slow ones in front than the distance has room for.
    await world.publishValues(one.topic, [
      ...Array.from({ length: 200 }, (_, n) => ({ n, key: 'slow' })),
      ...Array.from({ length: 100 }, (_, n) => ({ n: 200 + n, key: 'quick' })),
    ])
    const [shard] = await world.openShards(one.definition, { limits })
    await until(async () => (await world.documents(one.collection)).length === 100)
    expect(await balanced(one.name)).toMatchObject({ written: 100, waiting: 200, queued: 0, received: 300 })
    expect(shard!.inFlight).toBe(2)
    gate.resolve()
    await shard!.settled()
    expect(await balanced(one.name)).toMatchObject({ written: 300, pending: 0 })
    await shard!.drain(1_000)
    expect(await world.waiting(one.name)).toEqual([])
  })

  it('stops reading when the durable table is full, and goes on when it is not', async () => {
    const gate = Promise.withResolvers<void>()
    const one = lineStream(
      async (line) => {
        await gate.promise
        return rowOf(line)
      },
      { concurrency: { total: 500 } },
    )
    const limits = { moveAfterMs: 5, distance: 20, waiting: 50 }
    await world.make(one.definition)
    await world.publishValues(one.topic, range(200))
    const [shard] = await world.openShards(one.definition, { limits })
    await until(async () => (await world.waiting(one.name)).length === 50)
    await settleDown()
    expect((await world.waiting(one.name)).length).toBe(50)
    expect(shard!.inFlight).toBeLessThanOrEqual(70)
    gate.resolve()
    await shard!.settled()
    expect(await balanced(one.name)).toMatchObject({ written: 200, pending: 0 })
    await shard!.drain(1_000)
  })

  it('keeps the order of each key, through failures and moves', async () => {
    const seen = new Map<string, number[]>()
    const one = lineStream(
      async (line, { attempt }) => {
        await new Promise((resolve) => setTimeout(resolve, line.n % 3))
        if (line.n % 7 === 0 && attempt === 1) throw new Error('once more')
        seen.set(line.key!, [...(seen.get(line.key!) ?? []), line.n])
        return rowOf(line)
      },
      { key: ((line: Line) => line.key) as never },
    )
    await world.make(one.definition)
    await world.publishValues(
      one.topic,
      Array.from({ length: 300 }, (_, n) => ({ n, key: `k${n % 5}` })),
    )
    await world.runToRest(one.definition, { limits: { moveAfterMs: 5, distance: 40 } })
    expect(await balanced(one.name)).toMatchObject({ written: 300 })
    for (const numbers of seen.values()) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
  })

  it('refuses the commit of a zombie', async () => {
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let runs = 0
    const one = lineStream(async (line) => {
      const mine = runs++
      await gates[mine]!.promise
      return { id: `by-${mine}-${line.n}`, lines: [] }
    })
    await world.make(one.definition)
    await world.publishValues(one.topic, range(1))
    const [zombie] = await world.openShards(one.definition)
    await until(async () => runs === 1)
    const [holder] = await world.openShards(one.definition)
    await until(async () => runs === 2)
    gates[0]!.resolve()
    expect(await zombie!.closed).toMatchObject({ code: 'FENCED' })
    gates[1]!.resolve()
    await holder!.settled()
    expect((await world.documents(one.collection)).map(({ key }) => key)).toEqual(['by-1-0'])
    await balanced(one.name)
    await holder!.drain(1_000)
  })

  it('drains: ends what is in its steps, commits it, and leaves the rest to the next holder', async () => {
    const gate = Promise.withResolvers<void>()
    let started = 0
    const one = lineStream(
      async (line) => {
        started += 1
        await gate.promise
        return rowOf(line)
      },
      { concurrency: { total: 3 } },
    )
    await world.make(one.definition)
    await world.publishValues(one.topic, range(10))
    const [shard] = await world.openShards(one.definition)
    await until(async () => started === 3)
    const drained = shard!.drain(60_000)
    gate.resolve()
    await drained
    expect(started).toBe(3)
    expect(await balanced(one.name)).toMatchObject({ written: 3, queued: 7 })
    await world.runToRest(one.definition)
    expect(await balanced(one.name)).toMatchObject({ written: 10, pending: 0 })
  })
})

const nested = (depth: number): unknown => {
  let value: unknown = 1
  for (let level = 0; level < depth; level += 1) value = [value]
  return value
}

/** Waits for a condition that must come true; the test's time limit ends it otherwise. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** Lets several rounds of reading and moving pass. */
const settleDown = () => new Promise((resolve) => setTimeout(resolve, 60))
