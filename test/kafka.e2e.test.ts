/** SLUICE_KAFKA_BROKERS alone moves every topic to Kafka: what runs publish, what streams read and write, what starts runs. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KafkaWorld } from './kafka-world.ts'
import { named, ownBroker, withoutOwnKafka } from './services/broker.ts'
import type { Broker } from './services/kafka.ts'
import {
  type Project,
  projectOf,
  type RunningSluice,
  sluice,
  sluiceEnds,
  startSluice,
  until,
} from './sluice-process.ts'

interface Figures {
  readonly totals: {
    readonly received: number
    readonly pending: number
    readonly written: number
    readonly duplicate: number
  }
}

describe.skipIf(withoutOwnKafka)(named('a deployment on Kafka'), () => {
  let broker: Broker
  let project: Project
  let server: RunningSluice
  let world: KafkaWorld
  beforeAll(async () => {
    broker = await ownBroker()
    project = await projectOf('../test/programs/kafka-project', { SLUICE_KAFKA_BROKERS: broker.brokers })
    server = await startSluice(project)
    world = await KafkaWorld.open(broker.brokers)
  }, 240_000)
  afterAll(async () => {
    await server?.stop()
    await project?.remove()
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
})
