/** A deployment on Kafka whose processes are killed, or stopped for a while, where it matters: between a write and its commit. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { outMessage } from '../src/connectors/kafka/sink.ts'
import { kill } from './chaos/processes.ts'
import { KafkaDeployment, patienceMs } from './kafka-deployment.ts'
import { KafkaWorld } from './kafka-world.ts'
import { named, ownBroker, withoutOwnKafka } from './services/broker.ts'
import type { Broker } from './services/kafka.ts'
import { projectOf, sluice, until } from './sluice-process.ts'

const keys = 7

describe.skipIf(withoutOwnKafka)(named('a deployment on Kafka that is killed'), () => {
  let broker: Broker
  let world: KafkaWorld
  let deployed: KafkaDeployment
  /** So many lines have been published. */
  let published = 0
  beforeAll(async () => {
    broker = await ownBroker()
    world = await KafkaWorld.open(broker.brokers)
    const project = await projectOf('../test/programs/kafka-project', {
      SLUICE_KAFKA_BROKERS: broker.brokers,
      SLUICE_SHARD_PROCESSES: '2',
      SLUICE_LEASE: '3s',
    })
    deployed = await KafkaDeployment.start(project)
    await until(
      () => world.client.shapeOf('lines'),
      (shape) => shape?.leaders.length === 2,
      patienceMs,
    )
  }, 240_000)
  afterAll(async () => {
    await deployed?.close()
    await world?.close()
    await broker?.remove()
  })

  /** From outside, as anybody's producer. */
  const produce = async (count: number, ms = 0) => {
    const some = Array.from({ length: count }, (_, n) => ({
      key: `key-${(published + n) % keys}`,
      n: published + n,
      ms,
    }))
    published += count
    await world.publish('lines', 2, some)
  }
  /** By a run of ours. */
  const posted = (count: number) => {
    const params = [`keys=${keys}`, `count=${count}`, `from=${published}`].flatMap((param) => ['--param', param])
    published += count
    return sluice<{ state: string }>(deployed.project, 'run', 'posting', ...params, '--wait')
  }
  const allEnded = () =>
    deployed.until('accounts', ({ written, duplicate, waiting }) => written + duplicate === published && waiting === 0)
  /** By key, the numbers in the order in which they were written. */
  const accounts = async () => {
    const rows = await deployed.rows<{ key: string; lines: number[] }>(
      `select key, body -> 'lines' as lines from sluice.documents where collection = 'accounts' order by key`,
    )
    return Object.fromEntries(rows.map(({ key, lines }) => [key, lines]))
  }
  const wanted = () => {
    const numbers = Array.from({ length: published }, (_, n) => n)
    return Object.groupBy(numbers, (n) => `key-${n % keys}`)
  }
  interface Held {
    readonly partition: number
    readonly epoch: number
    readonly committed: number
    readonly pid: number
  }
  const shards = () =>
    deployed.rows<Held>(
      `select s.partition, s.epoch::int as epoch, s.committed_offset::int as committed, n.pid
       from sluice.shards s join sluice.nodes n on n.id = s.holder where s.stream = 'accounts' order by partition`,
    )

  it.each([
    ['between the insert and its commit', 'after'],
    ['in the middle of its commit', 'commit'],
  ] as const)(
    'a shard, %s: nothing lost, nothing doubled, the order per key kept',
    async (_, at) => {
      await produce(50)
      await allEnded()
      const gate = await deployed.gate({ table: 'sluice.ledger_batches', does: 'insert', at })
      await produce(150)
      await gate.reached()
      const pids = deployed.processes('shard')
      expect(pids).toHaveLength(2)
      for (const pid of pids) kill(pid)
      // What waits in its COMMIT is committed though nobody hears of it, what waits before it is not.
      await gate.open()
      await allEnded()
      expect(await accounts()).toEqual(wanted())
      expect(deployed.processes('shard').filter((pid) => pids.includes(pid))).toEqual([])
    },
    300_000,
  )

  it('a shard, between delivering to a topic and its commit: delivered again under the same ids, seen once', async () => {
    const ids = Array.from({ length: 30 }, (_, n) => `order-${n}`)
    const gate = await deployed.gate({ table: 'sluice.ledger_batches', does: 'insert', at: 'after' })
    await world.raw(
      ids.map((id, n) => ({
        ...outMessage('orders', { id: '', key: id, value: JSON.stringify({ id, cents: n }) }, 2),
        headers: [],
      })),
    )
    const bills = async () => (await world.read('bills')).map(({ headers }) => headers['sluice-record-id']!)
    const delivered = await until(bills, ({ length }) => length > 0, patienceMs)
    await gate.reached()
    for (const pid of deployed.processes('shard')) kill(pid)
    await gate.open()
    await deployed.until(
      'billing',
      ({ received, pending, written }) => received === 30 && pending === 0 && written === 30,
    )
    const there = await bills()
    expect(there.length).toBeGreaterThanOrEqual(30 + delivered.length)
    expect([...new Set(there)].sort()).toEqual(ids.toSorted())
    const filing = await deployed.until('filing', ({ received, pending }) => received === there.length && pending === 0)
    expect(filing).toMatchObject({ written: 30, duplicate: there.length - 30, rejected: 0, dead: 0 })
    expect(await deployed.count(`sluice.documents where collection = 'bills'`)).toBe(30)
  }, 300_000)

  it('a shard that was only stopped: its lease lapses, and what it does late, under its old epoch, is refused', async () => {
    const [zombie] = await until(shards, (held) => held.length === 2, patienceMs)
    // Both shards come to their commit; the guard of the zombie's is on its way when it is stopped.
    const only = `current_query() like '%set committed_offset = $5%'`
    const gate = await deployed.gate({ table: 'sluice.shards', does: 'update', at: 'before', only })
    await produce(70)
    await gate.reached(2)
    kill(zombie!.pid, 'SIGSTOP')
    const others = (held: readonly Held[]) => held.length === 2 && held.every(({ pid }) => pid !== zombie!.pid)
    const [taken] = await until(shards, others, patienceMs)
    expect(taken!.epoch).toBeGreaterThan(zombie!.epoch)
    expect(taken!.committed).toBe(zombie!.committed)
    await gate.open()
    await allEnded()
    expect(await accounts()).toEqual(wanted())
    kill(zombie!.pid, 'SIGCONT')
    // It lives on, and is given a share again, under new epochs.
    await until(
      () => deployed.count('sluice.shards s join sluice.nodes n on n.id = s.holder where n.pid = $1', [zombie!.pid]),
      (count) => count > 0,
      patienceMs,
    )
    const said = `lines like any (array['%is no longer held under epoch%', '%shards are given up%', '%lease of a shard was lost%'])`
    expect(await deployed.count(`sluice.log_chunks where ${said}`)).toBeGreaterThan(0)
    await produce(20)
    await allEnded()
    expect(await accounts()).toEqual(wanted())
  }, 300_000)

  it('the engine, while a run publishes: each record lies in Kafka once', async () => {
    const gate = await deployed.gate({ table: 'sluice.kafka_outbox', does: 'insert', at: 'after' })
    const run = posted(40)
    await gate.reached()
    await deployed.kill('engine')
    await gate.cut()
    await gate.open()
    expect(await run).toMatchObject({ state: 'success' })
    await allEnded()
    expect(await accounts()).toEqual(wanted())
  }, 300_000)

  it('the engine, between sending to Kafka and noting it: each record lies in Kafka once', async () => {
    const before = (await world.read('lines')).length
    const gate = await deployed.gate({ table: 'sluice.kafka_outbox', does: 'delete', at: 'after' })
    await posted(40)
    await gate.reached()
    // It is sent, and not noted.
    expect(await world.read('lines')).toHaveLength(before + 40)
    await deployed.kill('engine')
    await gate.cut()
    await gate.open()
    await until(
      () => deployed.count('sluice.kafka_outbox'),
      (count) => count === 0,
      patienceMs,
    )
    await allEnded()
    expect(await world.read('lines')).toHaveLength(before + 40)
    expect(await accounts()).toEqual(wanted())
    expect(await deployed.breaches({ otherSinks: ['billing'] })).toEqual([])
  }, 300_000)
})
