/** A broker of their own that is stopped, killed and started again; TLS and SASL; what a relay that dies leaves behind. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authority, good, key } from '../src/connectors/fetch/certificates.fixture.ts'
import { KafkaClient } from '../src/connectors/kafka/client.ts'
import type { KafkaSettings } from '../src/connectors/kafka/settings.ts'
import { type Database, type Statement, statement } from '../src/ports/database.ts'
import { putOut } from '../src/store/kafka-outbox.ts'
import { offsetGaps } from '../src/store/kafka-shards.ts'
import { totals } from '../src/store/ledger.ts'
import { ensureTopic } from '../src/store/topics.ts'
import { until } from './engine-world.ts'
import { accounts, KafkaWorld } from './kafka-world.ts'
import { named, ownBroker, withoutOwnKafka } from './services/broker.ts'
import type { Broker } from './services/kafka.ts'

const keys = ['anna', 'berta', 'cleo']
const lines = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => ({ key: keys[(from + index) % 3]!, n: from + index }))
const ledgerOf = (all: readonly { key: string; n: number }[]) =>
  Object.fromEntries(keys.map((key) => [key, all.filter((one) => one.key === key).map(({ n }) => n)]))

const users = { alice: 'wonderland' }
const outbox = statement<{ count: number }>('test.outbox', 'select count(*)::int as count from sluice.kafka_outbox')

/** Calls of one statement go through `act` first, or instead. */
function watching(db: Database, name: string, act: (go: () => Promise<unknown>) => Promise<unknown>): Database {
  const through =
    (method: 'query' | 'execute') =>
    (asked: Statement, values?: readonly unknown[]): Promise<never> => {
      const go = () =>
        (db[method] as (asked: Statement, values?: readonly unknown[]) => Promise<unknown>)(asked, values)
      return (asked.name === name ? act(go) : go()) as Promise<never>
    }
  return { ...db, query: through('query'), execute: through('execute') }
}

describe.skipIf(withoutOwnKafka)(named('a Kafka that fails'), () => {
  let broker: Broker
  let world: KafkaWorld
  beforeAll(async () => {
    broker = await ownBroker({ users, tls: { key, certificate: good } })
    world = await KafkaWorld.open(broker.brokers)
  }, 240_000)
  afterAll(async () => {
    await world?.close()
    await broker?.remove()
  })
  const fresh = (partitions: number) => accounts(`accounts-${randomUUID().slice(0, 8)}`, partitions)
  const drained = () => until('an empty outbox', async () => (await world.db.query(outbox))[0]!.count === 0)

  it('goes on after the broker was stopped, and after it was killed, with nothing lost or doubled', async () => {
    const stream = fresh(2)
    const { name } = stream
    const member = await world.join([stream])
    await world.publish(name, 2, lines(100))
    await broker.stop()
    await until('the outage to be noticed', () => member.reports.some((line) => line.includes('cannot be reached')))
    expect(member.streams.held()).toHaveLength(2)
    await broker.start()
    await world.publish(name, 2, lines(100, 100))
    await world.ended(name, 200)
    await broker.kill()
    await broker.start()
    await world.publish(name, 2, lines(100, 200))
    await world.ended(name, 300)
    await until('the news', () => member.reports.some((line) => line.includes('can be reached again')))
    await member.stop()
    expect(await world.accounts(name)).toEqual(ledgerOf(lines(300)))
  }, 240_000)

  it('begins while the broker is down, and reads once it is there', async () => {
    const stream = fresh(2)
    await broker.stop()
    const member = await world.join([stream])
    expect(member.streams.held()).toHaveLength(2)
    expect(member.reports.filter((line) => line.includes('cannot be reached'))).toHaveLength(1)
    await broker.start()
    await until('its topic', async () => (await world.client.shapeOf(stream.name))?.leaders.length === 2)
    await world.publish(stream.name, 2, lines(50))
    await world.ended(stream.name, 50)
    await member.stop()
    expect(await world.accounts(stream.name)).toEqual(ledgerOf(lines(50)))
  }, 240_000)

  it('sends what is in the outbox once, though the node dies after the send', async () => {
    const name = `out-${randomUUID().slice(0, 8)}`
    await ensureTopic(world.db, name, 2)
    let deaths = 2
    const dying = watching(world.db, 'kafka-outbox.sent', async (go) => {
      if (deaths-- > 0) throw new Error('killed after the send')
      return go()
    })
    const relay = await world.relay(world.client, dying)
    for (let n = 0; n < 30; n += 10) {
      const some = Array.from({ length: 10 }, (_, index) => ({
        id: `id-${n + index}`,
        key: keys[index % 3]!,
        value: JSON.stringify(n + index),
      }))
      await world.db.transaction((session) => putOut(session, name, some))
      // Again, as an attempt does whose answer was lost.
      await world.db.transaction((session) => putOut(session, name, some))
    }
    await drained()
    await relay.stop()
    const found = await world.read(name)
    expect(found.map(({ headers }) => headers['sluice-record-id']).sort()).toEqual(
      Array.from({ length: 30 }, (_, index) => `id-${index}`).sort(),
    )
    for (const one of keys) {
      const numbers = found.filter(({ key }) => key === one).map(({ value }) => Number(value))
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    }
  })

  it('fences a node that was taken for dead in the middle of a send', async () => {
    const name = `out-${randomUUID().slice(0, 8)}`
    await ensureTopic(world.db, name, 1)
    const paused = Promise.withResolvers<void>()
    const resume = Promise.withResolvers<void>()
    const sleepy = watching(world.db, 'kafka-outbox.note', async (go) => {
      const result = await go()
      paused.resolve()
      await resume.promise
      return result
    })
    const zombie = await world.relay(world.client, sleepy)
    const some = Array.from({ length: 5 }, (_, n) => ({ id: `id-${n}`, key: null, value: String(n) }))
    await world.db.transaction((session) => putOut(session, name, some))
    await paused.promise
    const heir = await world.relay()
    await drained()
    resume.resolve()
    await zombie.stop()
    await heir.stop()
    expect((await world.read(name)).map(({ value }) => String(value))).toEqual(['0', '1', '2', '3', '4'])
  })

  it('names the offsets that are gone, goes on with the earliest, and counts them', async () => {
    const stream = fresh(1)
    const { name } = stream
    const first = await world.join([stream])
    await world.publish(name, 1, lines(10))
    await world.ended(name, 10)
    await first.stop()
    await world.publish(name, 1, lines(20, 10))
    const topics = [{ name, partitions: [{ partition: 0, offset: 25n }] }]
    await world.client.admin().deleteRecords({ topics })
    const second = await world.join([stream])
    await world.ended(name, 15)
    expect(second.reports.join('\n')).toContain('"from":10,"to":25')
    expect(await offsetGaps(world.db)).toContainEqual({ stream: name, gaps: 1, lost: 15 })
    await second.stop()
    expect(
      Object.values(await world.accounts(name))
        .flat()
        .sort((a, b) => a - b),
    ).toEqual([...lines(10).map(({ n }) => n), ...lines(5, 25).map(({ n }) => n)])
  })

  it('begins anew with a topic that was made anew', async () => {
    const stream = fresh(1)
    const { name } = stream
    const member = await world.join([stream])
    await world.publish(name, 1, lines(10))
    await world.ended(name, 10)
    await world.client.admin().deleteTopics({ topics: [name] })
    await until('the topic to be gone and made again', async () => {
      await world.client.ensureTopic(name, 1).catch(() => {})
      return (await world.client.endsOf(name).catch(() => [9]))[0] === 0
    })
    // The broker may not lead the new one yet: then it refuses the records.
    await until('the new topic to take records', () =>
      world.publish(name, 1, lines(5, 10)).then(
        () => true,
        () => false,
      ),
    )
    await world.ended(name, 15)
    expect(await offsetGaps(world.db)).toContainEqual({ stream: name, gaps: 1, lost: 0 })
    expect(await totals(world.db, name)).toMatchObject({ received: 15, pending: 0 })
    await member.stop()
  })

  describe.each([
    ['TLS', 'tls', undefined],
    ['SASL PLAIN', 'sasl', 'PLAIN'],
    ['SCRAM-SHA-256', 'sasl', 'SCRAM-SHA-256'],
    ['SCRAM-SHA-512 over TLS', 'sasl-tls', 'SCRAM-SHA-512'],
  ] as const)('%s', (_, listener, mechanism) => {
    const settings = (password = users.alice, ca = authority): KafkaSettings => ({
      brokers: [broker.listeners[listener]!],
      replicas: 1,
      ...(listener === 'sasl' ? {} : { tls: { ca, serverName: 'pictures.test' } }),
      ...(mechanism && { sasl: { mechanism, username: 'alice', password } }),
    })

    it('reads and writes', async () => {
      const safe = await KafkaWorld.open(settings())
      const stream = fresh(1)
      const member = await safe.join([stream])
      await safe.publish(stream.name, 1, lines(20))
      await safe.ended(stream.name, 20)
      await member.stop()
      await safe.close()
    })

    it('says what is wrong, and no password', async () => {
      const wrong = settings('no secret 4711', mechanism ? authority : '')
      const client = await KafkaClient.open(listener === 'tls' ? { ...wrong, tls: {} } : wrong, 'test')
      const refused = await client.shapeOf('any').then(
        () => undefined,
        (thrown: Error) => thrown,
      )
      await client.close()
      expect(refused).toMatchObject({ code: mechanism ? 'CONFIGURATION' : 'UNAVAILABLE' })
      expect(refused?.message).toMatch(mechanism ? /[Aa]uthentication|SASL/ : /certificate/)
      expect(refused?.message).not.toContain('4711')
    })
  })
})
