/** Streams that run while operators pause, drain, rewind and scale them. */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { until } from '../../test/engine-world.ts'
import { breaches } from '../../test/invariants/check.ts'
import { builtIn, plainCapabilities, StreamWorld } from '../../test/stream-world.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { totals } from '../store/ledger.ts'
import { rewindShards } from '../store/rewind-shards.ts'
import { scaleTopic } from '../store/scale-topic.ts'
import { type StreamMode, setStreamMode, streamOperations } from '../store/stream-controls.ts'
import { openStreams, type Streams } from './streams.ts'

let world: StreamWorld
let opened: Streams[] = []
let made = 0
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterEach(async () => {
  for (const streams of opened) await streams.stop(1_000)
  opened = []
})
afterAll(async () => {
  expect(await breaches(world.db)).toEqual([])
  await world.close()
})

/** Two streams in one process: what is asked of the one leaves the other alone. */
async function running(work: (n: number) => void = () => {}, partitions = 2) {
  made += 1
  const define = (name: string) => {
    const from = topic(name, { schema: z.object({ n: z.number() }), partitions })
    const definition: unknown = stream(name, {
      from,
      id: (line) => line.n,
      retry: { attempts: 100, base: '20ms', max: '50ms' },
      steps: (records) =>
        records.step((line) => {
          if (name.startsWith('asked')) work(line.n)
          return { id: `${name}-${line.n}` }
        }),
      to: documents(name, { key: 'id' }),
    })
    return definition as Stream
  }
  const names = { asked: `asked-${made}`, other: `other-${made}` }
  const streams = [define(names.asked), define(names.other)]
  for (const one of streams) await world.make(one)
  const open = async () => {
    const process = await openStreams({
      ...{ database: world.db, streams, node: randomUUID(), random: Math.random, adapters: builtIn(world.db) },
      ...{ capabilities: plainCapabilities, leaseMs: 3_000, sweepMs: 60_000 },
    })
    opened.push(process)
    return process
  }
  return { ...names, open }
}

const ask = (name: string, mode: StreamMode) =>
  world.db.transaction((session) => setStreamMode(session, name, mode, { id: randomUUID(), by: 'ada', note: null }))

const publish = (name: string, from: number, count: number) =>
  world.publishValues(
    name,
    Array.from({ length: count }, (_, index) => ({ n: from + index })),
  )

const written = async (name: string) => (await totals(world.db, name)).written
const shardsOf = (streams: Streams, name: string) => streams.held().filter((one) => one.stream === name).length

it('pause: its shards are given back and what is published waits, the other stream goes on; resume: it all comes', async () => {
  const { asked, other, open } = await running()
  const streams = await open()
  await publish(asked, 0, 10)
  await until('the first ten', async () => (await written(asked)) === 10)
  expect(await ask(asked, 'paused')).toBe(true)
  expect(await ask(asked, 'paused')).toBe(false)
  await until('no shard held', () => shardsOf(streams, asked) === 0)
  await publish(asked, 10, 10)
  await publish(other, 0, 10)
  await until('the other stream', async () => (await written(other)) === 10)
  // A process that comes meanwhile takes none of it either.
  const second = await open()
  await until('a share of the other', () => shardsOf(streams, other) === 1 && shardsOf(second, other) === 1)
  expect([shardsOf(streams, asked), shardsOf(second, asked)]).toEqual([0, 0])
  expect(await totals(world.db, asked)).toMatchObject({ received: 20, written: 10, queued: 10 })
  expect(await ask(asked, 'running')).toBe(true)
  await until('all', async () => (await written(asked)) === 20)
  const acts = await streamOperations(world.db, asked, { before: null, limit: 10 })
  expect(acts.map(({ act }) => act).sort()).toEqual(['pause', 'resume'])
})

it('drain: what was taken in ends, retries and all, and nothing more is read', async () => {
  let failing = true
  const { asked, open } = await running((n) => {
    if (failing && n < 10) throw new Error('not yet')
  })
  const first = await open()
  await publish(asked, 0, 10)
  await until('all tried', async () => (await totals(world.db, asked)).waiting === 10)
  await ask(asked, 'draining')
  // Whoever takes the shards from now on knows of it from the beginning.
  await first.stop(1_000)
  await open()
  await publish(asked, 100, 5)
  failing = false
  await until('what was taken in has ended', async () => (await totals(world.db, asked)).waiting === 0)
  expect(await totals(world.db, asked)).toMatchObject({ pending: 5, queued: 5, waiting: 0, dead: 0 })
  await ask(asked, 'running')
  await until('the rest', async () => (await totals(world.db, asked)).pending === 0)
})

it('rewind: a stream that runs goes back and counts each record once', async () => {
  const { asked, open } = await running()
  await open()
  await publish(asked, 0, 50)
  await until('all', async () => (await written(asked)) === 50)
  for (let nth = 0; nth < 3; nth += 1) {
    await world.db.transaction((session) =>
      rewindShards(
        session,
        asked,
        { target: 'beginning', partition: null },
        { id: randomUUID(), by: 'ada', note: null },
      ),
    )
    await publish(asked, 50 + nth, 1)
    await until('all again', async () => (await written(asked)) === 51 + nth)
  }
  expect(await totals(world.db, asked)).toMatchObject({ received: 53, written: 53, pending: 0 })
  expect(await world.documents(asked)).toHaveLength(53)
})

it('scale: new shards are taken at once, and a topic never loses a partition', async () => {
  const { asked, other, open } = await running()
  const streams = await open()
  const asks = { id: randomUUID(), by: 'ada', note: 'more to do' }
  const scaled = await world.db.transaction((session) =>
    scaleTopic(session, { stream: asked, topic: asked, partitions: 5 }, asks),
  )
  expect(scaled).toEqual({ before: 2, partitions: 5 })
  await until('five shards', () => shardsOf(streams, asked) === 5)
  expect(shardsOf(streams, other)).toBe(2)
  await publish(asked, 0, 100)
  await until('all', async () => (await written(asked)) === 100)
  const fewer = world.db.transaction((session) =>
    scaleTopic(session, { stream: asked, topic: asked, partitions: 4 }, { ...asks, id: randomUUID() }),
  )
  await expect(fewer).rejects.toThrow('has 5 partitions; none is ever taken away')
})
