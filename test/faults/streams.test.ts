/** What a bad network between a shard process and its database does to records: each ends once, and is accounted for. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { documents, type Stream, stream, topic, z } from 'sluice'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { leaseTimes } from '../../src/core/lease.ts'
import { statement } from '../../src/ports/database.ts'
import { openDatabase, openHeartbeat } from '../../src/postgres/pool.ts'
import { totals } from '../../src/store/ledger.ts'
import { openStreams, type Streams } from '../../src/streams/streams.ts'
import { until } from '../engine-world.ts'
import { breaches } from '../invariants/check.ts'
import { builtIn, plainCapabilities, StreamWorld } from '../stream-world.ts'
import { cutsOf, seed, timeout } from './cuts.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

let world: StreamWorld
let proxy: TcpProxy
let url: string
let closing: (() => Promise<void>)[] = []
const reports: string[] = []
const aborted: number[] = []
/** Steps wait as long as this is set, or until they are aborted. */
let blocked = false

const readings = topic('readings', { schema: z.object({ n: z.number(), key: z.string() }), partitions: 2 })
const definition = stream('readings', {
  from: readings,
  id: (record) => String(record.n),
  key: (record) => record.key,
  retry: { attempts: 3, base: '1ms' },
  steps: (records) =>
    records.step(async (record, { signal, attempt }) => {
      while (blocked) {
        await delay(10)
        if (signal.aborted) aborted.push(record.n)
        signal.throwIfAborted()
      }
      await delay(record.n % 3)
      if (record.n % 11 === 0 && attempt === 1) throw new Error('once')
      return { id: `row-${record.n}`, n: record.n }
    }),
  to: documents('readings', { key: 'id' }),
}) as unknown as Stream

beforeEach(async () => {
  blocked = false
  reports.length = 0
  aborted.length = 0
  world = await StreamWorld.open()
  ;({ proxy, url } = await proxyFor(world.options.url!))
})
afterEach(async () => {
  proxy.set({ kind: 'pass' })
  for (const close of closing) await close()
  closing = []
  await proxy.close()
  await world.close()
})

async function start(options: { readonly faulty: boolean; readonly leaseMs?: number }): Promise<Streams> {
  const { faulty, leaseMs = 6_000 } = options
  const place = { ...world.options, ...(faulty ? { url } : {}), applicationName: 'shards' }
  const database = openDatabase({ ...place, max: 6, answerTimeoutMs: 10_000, idleInTransactionMs: leaseMs })
  const heartbeat = openHeartbeat(place, leaseTimes(leaseMs).answerMs)
  const streams = await openStreams({
    ...{ database, heartbeat, streams: [definition], node: randomUUID(), random: Math.random },
    ...{ capabilities: plainCapabilities, adapters: builtIn(database), leaseMs, sweepMs: 1_000 },
    abandonConnections: () => database.abandon(),
    report: (message, fields) => reports.push(`${message} ${JSON.stringify(fields)}`),
  })
  closing.push(async () => {
    await streams.stop(1_000)
    await Promise.all([database.close(), heartbeat.close()])
  })
  return streams
}

const publish = (from: number, count: number) =>
  world.publishValues(
    'readings',
    Array.from({ length: count }, (_, index) => ({ n: from + index, key: `key ${(from + index) % 7}` })),
  )
const written = async () => (await totals(world.db, 'readings')).written
const holders = statement<{ holder: string | null }>('test.holders', 'select holder from sluice.shards')

describe(`a connection cut at any message (seed ${seed})`, () => {
  it('loses and doubles no record', { timeout }, async () => {
    await start({ faulty: true })
    const cuts = cutsOf(6, 60)
    for (const [round, cut] of cuts.entries()) {
      proxy.cut(cut)
      await publish(round * 100, 100)
      await until(
        `the records of round ${round} (${JSON.stringify(cut)})`,
        async () => (await written()) === round * 100 + 100,
      )
    }
    const received = cuts.length * 100
    expect(await totals(world.db, 'readings')).toMatchObject({ received, written: received, pending: 0 })
    expect(await breaches(world.db, { atRest: true })).toEqual([])
  })
})

describe('a shard process that cannot renew its leases', () => {
  it('ends its steps before another takes its shards, and takes its share again when it can', {
    timeout: 60_000,
  }, async () => {
    const first = await start({ faulty: true, leaseMs: 4_000 })
    const second = await start({ faulty: false, leaseMs: 4_000 })
    await until('each to have its share', () => first.held().length === 1 && second.held().length === 1)
    blocked = true
    await publish(0, 40)
    const [shard] = first.held()
    await until(
      'its steps to be under way',
      async () => (await world.db.query(reading, [shard!.partition])).length === 1,
    )
    proxy.set({ kind: 'vanish', of: 'both' })
    await until('its steps to be ended', () => aborted.length > 0)
    expect(second.held()).toHaveLength(1)
    expect(reports.join('\n')).toContain('the shards are given up')
    blocked = false
    await until('the records', async () => (await written()) === 40)
    proxy.set({ kind: 'pass' })
    await until('the first to have its share again', () => first.held().length === 1 && second.held().length === 1)
    expect(await totals(world.db, 'readings')).toMatchObject({ received: 40, written: 40, pending: 0 })
    expect(await breaches(world.db, { atRest: true })).toEqual([])
  })

  it('is refused when its commit arrives late', { timeout: 60_000 }, async () => {
    await start({ faulty: true, leaseMs: 3_000 })
    proxy.set({ kind: 'hold' })
    await publish(0, 50)
    await until('it to give up', () => reports.some((line) => line.includes('given up')))
    await start({ faulty: false, leaseMs: 3_000 })
    await until('the records', async () => (await written()) === 50)
    proxy.set({ kind: 'pass' })
    await until('both to hold a shard', async () => {
      const rows = await world.db.query(holders)
      return rows.every(({ holder }) => holder !== null) && new Set(rows.map(({ holder }) => holder)).size === 2
    })
    expect(await totals(world.db, 'readings')).toMatchObject({ received: 50, written: 50, pending: 0 })
    expect(await breaches(world.db, { atRest: true })).toEqual([])
  })
})

const reading = statement('test.reading', 'select 1 from sluice.shards where partition = $1 and in_flight > 0')
