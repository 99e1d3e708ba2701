/** Which processes hold which shards: of streams that not all of them run, while some come, stop, or are of another kind. */
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../../test/engine-world.ts'
import { builtIn, plainCapabilities, StreamWorld } from '../../test/stream-world.ts'
import { statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { registerNode } from '../store/nodes.ts'
import { shardFigures } from '../store/stream-figures.ts'
import { sharesOf, surplusOf } from './shares.ts'
import { openStreams, type Streams } from './streams.ts'

const timeout = 120_000
/** So long that nothing but a notification wakes a process. */
const leaseMs = 600_000

const wakeStatement = statement('test.wake-all', `select pg_notify('sluice_shards', '')`)

let world: StreamWorld
let opened: Streams[]
let gates: (() => void)[]
beforeEach(async () => {
  world = await StreamWorld.open()
  opened = []
  gates = []
})
afterEach(async () => {
  for (const open of gates) open()
  for (const streams of opened) await streams.stop(1_000)
  await world.close()
})

function define(name: string, partitions: number): Stream {
  const definition: unknown = stream(name, {
    from: topic(name, { schema: z.object({ n: z.number(), slow: z.boolean().optional() }), partitions }),
    id: (line) => line.n,
    steps: (records) =>
      records.step(async (line) => {
        if (line.slow) await new Promise<void>((resolve) => gates.push(resolve))
        return { id: `${name}-${line.n}` }
      }),
    to: documents(name, { key: 'id' }),
  })
  return definition as Stream
}

async function open(...streams: Stream[]): Promise<Streams> {
  const process = await openStreams({
    ...{ database: world.db, streams, node: randomUUID(), random: Math.random, adapters: builtIn(world.db) },
    ...{ capabilities: plainCapabilities, leaseMs, sweepMs: 600_000 },
  })
  opened.push(process)
  return process
}

const heldOf = (streams: Streams, name: string) => streams.held().filter((one) => one.stream === name).length
const counts = (...all: Streams[]) => all.map((streams) => streams.held().length).sort()
const holders = async () => (await shardFigures(world.db, null)).filter(({ holder }) => holder !== null).length

/** As after a third of a lease. */
const wake = () => world.db.execute(wakeStatement)

describe('the shares of processes', () => {
  it('add up to all shards that anybody may hold, whoever runs and holds what', () => {
    const runs = fc.array(
      fc.record({
        shards: fc.integer({ min: 1, max: 20 }),
        items: fc.nat(50),
        by: fc.subarray(['a', 'b', 'c', 'd'], { minLength: 1 }),
        held: fc.array(fc.nat(9), { minLength: 4, maxLength: 4 }),
        most: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
      }),
      { minLength: 1, maxLength: 6 },
    )
    fc.assert(
      fc.property(runs, (given) => {
        const streams = given.map(({ shards, items, by, held }, n) => ({
          ...{ stream: `s${n}`, shards, items },
          living: by.map((node, index) => ({ node, held: held[index]! })),
        }))
        const limits = given.flatMap(({ most }, n) => (most === undefined ? [] : [[`s${n}`, most] as const]))
        const shares = new Map<string, number>()
        for (const node of ['a', 'b', 'c', 'd']) {
          const own = streams.filter(({ living }) => living.some((one) => one.node === node))
          for (const one of sharesOf(node, own, new Map(limits)))
            shares.set(one.streams.join(), (shares.get(one.streams.join()) ?? 0) + one.share)
        }
        for (const [names, share] of shares) {
          const all = streams.filter(({ stream }) => names.split(',').includes(stream))
          expect(share).toBe(all.reduce((sum, { shards }) => sum + shards, 0))
        }
        expect([...shares.keys()].flatMap((names) => names.split(',')).sort()).toEqual(streams.map((one) => one.stream))
      }),
    )
  })

  it('leave a process some of each stream, and what is being given back is chosen again', () => {
    const held = ['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'c0'].map((name) => ({ id: { stream: name[0]!, name } }))
    const names = (shards: typeof held) => shards.map(({ id }) => id.name)
    const given = surplusOf(held, 4)
    expect(names(given)).toEqual(['a3', 'b2', 'a2', 'b1'])
    for (const gone of given) {
      const left = held.filter((one) => one !== gone)
      expect(names(surplusOf(left, 3)).sort()).toEqual(names(given.filter((one) => one !== gone)).sort())
    }
  })
})

describe('the shards of a stream', { timeout }, () => {
  it('are all held by the processes that run it, whatever other processes live', async () => {
    for (const kind of ['engine', 'serving', 'worker'] as const)
      await registerNode(world.db, { id: randomUUID(), kind, host: 'here', pid: 1, leaseMs })
    const [old, common, fresh] = [define('old', 4), define('common', 4), define('fresh', 4)]
    // As while a new version of the definitions is rolled out: neither has all streams.
    const [first, second] = [await open(old, common), await open(common, fresh)]
    await wake()
    await until('all are held by who may', async () => (await holders()) === 12 && heldOf(second, 'common') > 0)
    expect([heldOf(first, 'old'), heldOf(second, 'fresh')]).toEqual([4, 4])
    await until('the common ones are shared', () => heldOf(first, 'common') === 2 && heldOf(second, 'common') === 2)
  })

  it('go to the others as a process that stops gives them back, while it still waits for a slow record', async () => {
    const lines = define('lines', 6)
    const [first, second] = [await open(lines), await open(lines)]
    await wake()
    await until('both hold some', () => counts(first, second).every((count) => count === 3))
    await world.publish(
      'lines',
      Array.from({ length: 60 }, (_, n) => ({ id: `${n}`, key: null, value: `{"n":${n},"slow":${n === 59}}` })),
    )
    const unended = async () => (await shardFigures(world.db, 'lines')).filter(({ lag, waiting }) => lag + waiting > 0)
    await until('the slow record alone is open', async () => gates.length === 1 && (await unended()).length === 1)
    const { partition } = (await unended())[0]!
    const has = (streams: Streams) => streams.held().some((one) => one.partition === partition)
    const [stopped, other] = has(first) ? [first, second] : [second, first]
    const stopping = stopped.stop(600_000)
    await until('the other holds all but one', () => other.held().length === 5)
    expect(stopped.held()).toEqual([{ stream: 'lines', partition }])
    gates[0]!()
    await stopping
    await until('it holds all', () => other.held().length === 6)
  })

  it('are shared evenly, and so are those of each stream', async () => {
    const [one, other] = [define('one', 4), define('other', 4)]
    const processes = [await open(one, other)]
    expect(counts(...processes)).toEqual([8])
    processes.push(await open(one, other))
    await wake()
    await until('two share them', async () => counts(...processes).every((count) => count === 4))
    for (const process of processes) expect([heldOf(process, 'one'), heldOf(process, 'other')]).toEqual([2, 2])
    processes.push(await open(one, other))
    await wake()
    await until('three do', () => counts(...processes).join() === '2,3,3')
    processes.push(await open(one, other), await open(one, other))
    await wake()
    await until('five do, none of them without any', () => counts(...processes).join() === '1,1,2,2,2')
  })
})
