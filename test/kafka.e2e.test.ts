/** SLUICE_KAFKA_BROKERS alone moves every topic to Kafka: what runs publish, what streams read and write, what starts runs. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { outMessage } from '../src/connectors/kafka/sink.ts'
import { KafkaDeployment, type Totals } from './kafka-deployment.ts'
import { KafkaWorld } from './kafka-world.ts'
import { named, ownBroker, withoutOwnKafka } from './services/broker.ts'
import type { Broker } from './services/kafka.ts'
import { type Project, projectOf, type RunningSluice, sluice, sluiceEnds, until } from './sluice-process.ts'

interface Figures {
  readonly totals: Totals
}

describe.skipIf(withoutOwnKafka)(named('a deployment on Kafka'), () => {
  let broker: Broker
  let project: Project
  let deployed: KafkaDeployment
  let server: RunningSluice
  let world: KafkaWorld
  beforeAll(async () => {
    broker = await ownBroker()
    deployed = await KafkaDeployment.start(
      await projectOf('../test/programs/kafka-project', { SLUICE_KAFKA_BROKERS: broker.brokers }),
    )
    project = deployed.project
    server = deployed.server
    world = await KafkaWorld.open(broker.brokers)
  }, 240_000)
  afterAll(async () => {
    await deployed?.close()
    await world?.close()
    await broker?.remove()
  })
  const written = async (stream: string, count: number) =>
    until(
      () => server.get<Figures>(`/api/v1/streams/${stream}`),
      ({ totals }) => totals.written === count && totals.pending === 0,
      60_000,
    )

  it('publishes, reads and writes there, and starts runs for its records', async () => {
    await sluice(project, 'run', 'entry', '--param', 'count=10', '--wait')
    await written('billing', 10)
    await written('filing', 10)
    const there = await world.read('bills')
    expect(there.map(({ headers }) => headers['sluice-record-id']).sort()).toEqual(
      Array.from({ length: 10 }, (_, n) => `order-${n}`).sort(),
    )
    expect(await world.read('orders')).toHaveLength(10)
    const { items } = await until(
      () => server.get<{ items: { state: string }[] }>('/api/v1/runs?workflow=reminder'),
      (runs) => runs.items.some(({ state }) => state === 'success'),
      60_000,
    )
    expect(items).toHaveLength(1)
  }, 240_000)

  it('stays up while the brokers are down, says so, and goes on when they are there', async () => {
    await broker.kill()
    const down = await until(
      () =>
        fetch(`${server.url}/readyz`).then((answer) => answer.text().then((text) => ({ status: answer.status, text }))),
      ({ status }) => status === 503,
    )
    expect(down.text).toContain('"name":"kafka","ok":false')
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    const { code, answer } = await sluiceEnds<{ check: string; state: string }[]>(project, 'doctor')
    expect(code).toBe(1)
    expect(JSON.stringify(answer)).toContain(`${broker.brokers}:`)
    // Whether Kafka keeps what a stream is to receive again cannot be known now.
    const refused = await sluiceEnds(project, 'streams', 'rewind', 'filing', '--to', 'beginning').catch(String)
    expect(refused).toMatch(/Kafka: .*bills/)
    expect(await deployed.count('sluice.stream_rewinds')).toBe(0)
    // A run is taken, done and published while there is no Kafka: it waits in the outbox.
    await sluice(project, 'run', 'entry', '--param', 'count=25', '--wait')
    await broker.start()
    await until(
      () => server.get<Figures>('/api/v1/streams/billing'),
      ({ totals }) => totals.received === 35 && totals.pending === 0,
      90_000,
    )
    // The second run's orders are other records with the identity of the first's: there once each.
    await until(
      () => server.get<Figures>('/api/v1/streams/filing'),
      ({ totals }) => totals.written === 25 && totals.duplicate === 10 && totals.pending === 0,
      90_000,
    )
    await until(
      () => fetch(`${server.url}/readyz`),
      ({ status }) => status === 200,
    )
  }, 240_000)

  const act = <Answer>(...args: string[]) => sluice<Answer>(project, 'streams', ...args)
  /** Orders of somebody else's producer. */
  const order = (from: number, count: number) =>
    world.raw(
      Array.from({ length: count }, (_, n) => {
        const id = `order-${from + n}`
        const value = JSON.stringify({ id, cents: (from + n) * 100 })
        return { ...outMessage('orders', { id: '', key: id, value }, 2), headers: [] }
      }),
    )
  /** Ids of the records of the topic, as often as they lie there. */
  const billsThere = async () => (await world.read('bills')).map(({ headers }) => headers['sluice-record-id']!)
  const documents = () =>
    deployed.rows<{ key: string; body: object }>(
      `select key, body from sluice.documents where collection = 'bills' order by key`,
    )
  /** All that the two streams have to do with is passed by their offsets. */
  const settled = async () => {
    const [orders, bills] = await Promise.all([world.read('orders'), billsThere()])
    await deployed.until('billing', ({ received, pending }) => received === orders.length && pending === 0)
    const there = await billsThere()
    if (there.length !== bills.length) return settled()
    return deployed.until('filing', ({ received, pending }) => received === there.length && pending === 0)
  }

  it('is paused: nobody holds its shards, and what is published waits and is shown; resumed, it all comes', async () => {
    await settled()
    const before = await billsThere()
    expect(await act('pause', 'billing', '--note', 'a move')).toMatchObject({ mode: 'paused', changed: true })
    const held = () => deployed.count(`sluice.shards where stream = 'billing' and holder is not null`)
    await until(held, (count) => count === 0, 60_000)
    await order(100, 8)
    const paused = await deployed.until('billing', ({ queued }) => queued >= 8)
    expect(paused).toMatchObject({ written: 35, waiting: 0 })
    const sent = (await world.read('orders')).filter(({ key }) => Number(key?.slice(6)) >= 100)
    const oldest = new Date(Math.min(...sent.map(({ timestamp }) => timestamp))).toISOString()
    const figures = () => server.get<{ oldest: { queued: string | null } }>('/api/v1/streams/billing')
    await until(figures, ({ oldest: { queued } }) => queued === oldest, 60_000)
    expect(await billsThere()).toEqual(before)
    await act('resume', 'billing')
    await settled()
    expect((await billsThere()).length).toBe(before.length + 8)
    await until(figures, ({ oldest: { queued } }) => queued === null, 60_000)
  }, 240_000)

  it('is drained: what was taken in ends, nothing more is read, and resumed it goes on', async () => {
    const { written } = await deployed.totals('billing')
    expect(await act('drain', 'billing', '--wait')).toMatchObject({ mode: 'draining', open: 0 })
    await order(108, 8)
    await deployed.until('billing', ({ queued }) => queued >= 8)
    expect(await deployed.totals('billing')).toMatchObject({ written, waiting: 0 })
    await act('resume', 'billing')
    await settled()
    expect(await deployed.totals('billing')).toMatchObject({ written: written + 8, received: written + 8 })
  }, 240_000)

  it('is rewound: each record is received again and counted once, and no document is written twice', async () => {
    interface Rewound {
      readonly shards: readonly { readonly from: number; readonly to: number; readonly records: number }[]
    }
    const before = { totals: await settled(), documents: await documents() }
    const { shards } = await act<Rewound>('rewind', 'filing', '--to', 'beginning')
    expect(shards.map(({ to }) => to)).toEqual([0, 0])
    expect(shards.reduce((sum, { records }) => sum + records, 0)).toBe(before.totals.received)
    expect({ totals: await settled(), documents: await documents() }).toEqual(before)
    // One partition, from the batch of an offset on.
    const [one] = (await act<Rewound>('rewind', 'filing', '--to', '3', '--partition', '0')).shards
    expect(one!.to).toBeLessThanOrEqual(3)
    expect(one!.records).toBeGreaterThan(0)
    expect({ totals: await settled(), documents: await documents() }).toEqual(before)
  }, 240_000)

  it('is rewound with a topic as its sink: records are delivered again under their ids, and seen once', async () => {
    const before = { filing: await settled(), billing: await deployed.totals('billing'), documents: await documents() }
    const ids = await billsThere()
    await act('rewind', 'billing', '--to', 'beginning')
    // Those that it published itself were orders of the same identities twice.
    await until(billsThere, (now) => now.length === ids.length + before.billing.received, 60_000)
    const filing = await settled()
    expect(await deployed.totals('billing')).toEqual(before.billing)
    expect(new Set(await billsThere())).toEqual(new Set(ids))
    expect(filing).toMatchObject({ written: before.filing.written, dead: 0, rejected: 0 })
    expect(filing.duplicate).toBe(before.filing.duplicate + before.billing.received)
    expect(await documents()).toEqual(before.documents)
  }, 240_000)

  it('is not rewound to where Kafka keeps nothing any more, and begins where it does', async () => {
    const before = await settled()
    const ends = await world.client.endsOf('bills')
    const partitions = ends.map((_, partition) => ({ partition, offset: 5n }))
    await world.client.admin().deleteRecords({ topics: [{ name: 'bills', partitions }] })
    const refused = await sluiceEnds<{ detail: string }>(project, 'streams', 'rewind', 'filing', '--to', '0').catch(
      String,
    )
    expect(refused).toContain('the topic keeps its records from 5 on')
    expect(await deployed.totals('filing')).toEqual(before)
    const { shards } = await act<{ shards: { to: number }[] }>('rewind', 'filing', '--to', 'beginning')
    for (const { to } of shards) expect(to).toBeGreaterThanOrEqual(5)
    await deployed.until('filing', ({ received, pending }) => received === before.received && pending === 0)
    expect(await deployed.totals('filing')).toEqual(before)
    expect(await deployed.count('sluice.offset_gaps')).toBe(0)
  }, 240_000)

  it('is scaled in Kafka alone, which is said', async () => {
    const refused = await sluiceEnds(project, 'streams', 'scale', 'billing', '--partitions', '4').catch(String)
    expect(refused).toContain('add partitions to it where it lies')
    const { items } = await server.get<{ items: { act: string; note: string | null }[] }>(
      '/api/v1/streams/billing/operations',
    )
    expect(items.map((one) => one.act)).toEqual(['rewind', 'resume', 'drain', 'resume', 'pause'])
    expect(items.at(-1)).toMatchObject({ note: 'a move' })
    expect(await deployed.breaches({ otherSinks: ['billing'] })).toEqual([])
  }, 240_000)
})
