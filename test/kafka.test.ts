/** Streams on a real broker: nothing lost, nothing doubled, order per key kept, dead letters exact. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SluiceError } from '../src/errors.ts'
import type { Database } from '../src/ports/database.ts'
import { statement } from '../src/ports/database.ts'
import { totals } from '../src/store/ledger.ts'
import { append } from '../src/store/topics.ts'
import { inTime, until } from './engine-world.ts'
import { accounts, KafkaWorld, passing } from './kafka-world.ts'
import { named, sharedBrokers, withoutKafka } from './services/broker.ts'

const keys = ['anna', 'berta', 'cleo', 'dora', 'emil', 'fritz', 'gerd']
const lines = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => ({ key: keys[(from + index) % keys.length]!, n: from + index }))
/** What the accounts must be: by key the numbers in their order. */
const ledgerOf = (all: readonly { key: string; n: number }[]) => {
  const sums: Record<string, number[]> = {}
  for (const { key, n } of all) sums[key] = [...(sums[key] ?? []), n]
  return Object.fromEntries(Object.entries(sums).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Once it is armed, so many transactions fail: before their commit, and after it, in turn. */
function failing(db: Database): { readonly db: Database; arm(times: number): void } {
  let left = 0
  const transaction: Database['transaction'] = async (work) => {
    const now = left > 0 ? left-- : 0
    const result = await db.transaction(async (session) => {
      const result = await work(session)
      if (now % 2 === 1) throw new SluiceError('DATABASE_UNREACHABLE', 'killed between insert and commit')
      return result
    })
    if (now > 0 && now % 2 === 0) throw new SluiceError('DATABASE_UNREACHABLE', 'killed after the commit')
    return result
  }
  return {
    db: { ...db, transaction },
    arm(times) {
      left = times
    },
  }
}

describe.skipIf(withoutKafka)(named('streams on Kafka'), () => {
  let world: KafkaWorld
  let name: string
  beforeAll(async () => {
    world = await KafkaWorld.open(await sharedBrokers())
  }, 180_000)
  afterAll(() => world?.close())
  const fresh = async (partitions: number) => {
    name = `accounts-${randomUUID().slice(0, 8)}`
    await world.client.ensureTopic(name, partitions)
    return accounts(name, partitions)
  }

  it('writes every record once, in the order of its key', async () => {
    const stream = await fresh(3)
    const all = lines(700)
    await world.publish(name, 3, all.slice(0, 300))
    const member = await world.join([stream])
    await world.publish(name, 3, all.slice(300))
    await world.ended(name, 700)
    expect(await world.accounts(name)).toEqual(ledgerOf(all))
    expect(await totals(world.db, name)).toMatchObject({ received: 700, pending: 0, written: 7, duplicate: 693 })
    await member.stop()
  })

  it('loses and doubles nothing when it is killed between insert and commit, and after a commit that was not answered', async () => {
    const stream = await fresh(2)
    const all = lines(200)
    const killed = failing(world.db)
    const member = await world.join([stream], { database: killed.db })
    killed.arm(8)
    await world.publish(name, 2, all)
    await world.ended(name, 200)
    expect(member.reports.filter((line) => line.includes('killed')).length).toBeGreaterThan(0)
    await member.stop()
    expect(await world.accounts(name)).toEqual(ledgerOf(all))
  })

  it('goes on where the shard has committed while three processes join, leave and die', async () => {
    const stream = await fresh(6)
    const all = lines(1_200)
    const first = await world.join([stream], { leaseMs: 1_000 })
    await world.publish(name, 6, all.slice(0, 300))
    const second = await world.join([stream], { leaseMs: 1_000 })
    const third = await world.join([stream], { leaseMs: 1_000 })
    await world.publish(name, 6, all.slice(300, 600))
    await until('each to hold shards', () => [first, second, third].every(({ streams }) => streams.held().length > 0))
    await first.die()
    await world.publish(name, 6, all.slice(600, 900))
    await second.stop()
    await world.publish(name, 6, all.slice(900))
    await world.ended(name, 1_200)
    expect(await world.accounts(name)).toEqual(ledgerOf(all))
    await third.stop()
  })

  it('writes to a topic in the order of its keys; what is delivered again after a crash has the id it had', async () => {
    await fresh(2)
    const all = lines(200)
    const killed = failing(world.db)
    const member = await world.join([passing(name, 2)], { database: killed.db })
    killed.arm(6)
    await world.publish(name, 2, all)
    await world.ended(name, 200)
    await member.stop()
    const there = await world.read(`${name}-out`)
    const seen = new Set<string>()
    const once = there.filter(({ headers: { 'sluice-record-id': id } }) => !seen.has(id!) && seen.add(id!))
    expect(there.length).toBeGreaterThan(200)
    expect(ledgerOf(once.map(({ value }) => JSON.parse(String(value))))).toEqual(ledgerOf(all))
    const [another] = await world.db.query(totalsOfWaiting, [name])
    expect(another!.count).toBe(0)
  })

  it('ends a record that was produced twice as a duplicate, and keeps its place', async () => {
    const stream = await fresh(1)
    const all = lines(20)
    await world.publish(name, 1, [...all, ...all.slice(5, 10)])
    const member = await world.join([stream])
    await world.ended(name, 25)
    await member.stop()
    const sums = await totals(world.db, name)
    expect(sums).toMatchObject({ received: 25, pending: 0, rejected: 0, dead: 0 })
    expect(Object.values(await world.accounts(name)).flat().length).toBe(25)
  })

  it('rejects poison and tombstones under their reason, and goes on behind them', async () => {
    const stream = await fresh(1)
    const place = { topic: name, partition: 0, headers: [] }
    await world.publish(name, 1, lines(3))
    await world.raw([
      { ...place, key: Buffer.from('anna'), value: Buffer.from([0xff, 0xfe, 0x00]) },
      { ...place, key: Buffer.from('anna'), value: Buffer.from('{"key":') },
      { ...place, key: null, value: Buffer.from('{"key":"anna","n":"x"}') },
      { ...place, key: Buffer.from('anna'), value: null },
      { ...place, key: null, value: Buffer.alloc(0) },
    ])
    await world.publish(name, 1, lines(3, 3))
    const member = await world.join([stream])
    await world.ended(name, 11)
    await member.stop()
    expect(await totals(world.db, name)).toMatchObject({
      ...{ received: 11, pending: 0, written: 6, rejected: 5 },
      rejectedByReason: { malformed: 4, tombstone: 1 },
    })
  })

  it('publishes each dead letter once, with its bytes, headers, place and reason', async () => {
    const stream = await fresh(2)
    await world.publish(name, 2, [
      ...lines(10),
      { key: 'anna', n: 100, act: 'die' },
      { key: 'berta', n: 101, act: 'reject' },
    ])
    const poison = Buffer.from([0x00, 0xff, 0x80, 0x41])
    await world.raw([
      { topic: name, partition: 1, key: Buffer.from([0xfe]), value: poison, headers: [['trace', 'abc']] },
    ])
    const member = await world.join([stream])
    await world.ended(name, 13)
    const relay = await world.relay()
    const letters = `${name}.dead-letters`
    await until('the dead letters', async () => (await world.client.shapeOf(letters)) !== undefined)
    await until('both dead letters', async () => (await world.read(letters)).length >= 2)
    await until('an empty outbox', async () => (await world.db.query(outbox, [letters]))[0]!.count === 0)
    await member.stop()
    await relay.stop()
    const found = await world.read(letters)
    const byReason = Object.fromEntries(found.map((letter) => [letter.headers['sluice-reason'], letter]))
    expect(found).toHaveLength(2)
    const dead = found.find(({ headers }) => headers['sluice-attempts'] === '2')!
    expect(JSON.parse(String(dead.value))).toEqual({ key: 'anna', n: 100, act: 'die' })
    expect(dead.key).toBe('anna')
    const source = (await world.read(name)).find(({ value }) => value?.equals(dead.value!))!
    expect(dead.headers).toMatchObject({
      'sluice-stream': name,
      'sluice-source-topic': name,
      'sluice-source-partition': String(source.partition),
      'sluice-source-offset': String(source.offset),
      'sluice-source-id': 'anna/100',
      'sluice-detail': expect.stringContaining('it dies'),
    })
    expect(byReason.malformed!.value!.equals(poison)).toBe(true)
    expect(byReason.malformed!.headers).toMatchObject({ trace: 'abc', 'sluice-attempts': '0' })
    expect(byReason.malformed!.headers['sluice-original']).toBeUndefined()
  })

  it('takes up partitions that are added while it runs', async () => {
    const stream = await fresh(1)
    const member = await world.join([stream])
    await world.publish(name, 1, lines(20))
    await world.ended(name, 20)
    await world.client.ensureTopic(name, 4)
    const all = lines(40, 20).map(({ n }) => ({ key: `new-${n % 4}`, n }))
    await world.publish(name, 4, all)
    await world.ended(name, 60)
    await until('four shards', () => member.streams.held().length === 4)
    expect(await world.accounts(name)).toEqual({ ...ledgerOf(lines(20)), ...ledgerOf(all) })
    await member.stop()
  })

  it('begins anew where topics lie now, once all is ended where they lay, and holds up no other stream until then', async () => {
    const moved = await fresh(1)
    const other = await fresh(1)
    const put = (act: 'ok' | 'die', n: number) =>
      world.db.transaction((session) =>
        append(session, moved.name, [{ id: `${n}`, key: null, value: JSON.stringify({ key: 'anna', n, act }) }]),
      )
    const before = await world.join([moved], { inTables: true })
    await put('ok', 1)
    await put('die', 2)
    await world.ended(moved.name, 2)
    await before.stop()
    await world.publish(moved.name, 1, [{ key: 'anna', n: 3 }])
    await world.publish(other.name, 1, lines(5))
    const refused = await world.join([moved, other])
    await world.ended(other.name, 5)
    await until(
      () => `the refusal: ${refused.reports.join('; ')}`,
      () => refused.reports.some((line) => line.includes('1 records of the topic')),
    )
    await refused.stop()
    await world.db.script(`delete from sluice.stream_waiting where stream = '${moved.name}'`)
    const after = await world.join([moved])
    await world.ended(moved.name, 2)
    await until('the record in Kafka', async () => (await world.accounts(moved.name)).anna?.includes(3) ?? false)
    await after.stop()
    expect(await world.accounts(moved.name)).toEqual({ anna: [1, 3] })
  })

  it("shows Kafka's own tools how far a stream is, and the ledger how far the topic goes", async () => {
    const stream = await fresh(1)
    await world.publish(name, 1, lines(30))
    const member = await world.join([stream])
    await world.ended(name, 30)
    await until('the offset of the group', async () => {
      const [group] = await world.client.admin().listConsumerGroupOffsets({ groups: [`sluice.${name}`] })
      return group?.topics[0]?.partitions[0]?.committedOffset === 30n
    })
    await member.stop()
    await world.publish(name, 1, lines(5, 30))
    expect((await world.db.query(ends, [name]))[0]!.end).toBe(30)
    await inTime(
      'the end',
      world.client.endsOf(name).then((found) => expect(found).toEqual([35])),
    )
  })
})

const outbox = statement<{ count: number }>(
  'test.outbox',
  'select count(*)::int as count from sluice.kafka_outbox where topic = $1',
)
const totalsOfWaiting = statement<{ count: number }>(
  'test.waiting-of',
  'select count(*)::int as count from sluice.stream_waiting where stream = $1',
)
const ends = statement<{ end: number }>('test.ends', 'select source_end as end from sluice.shards where stream = $1')
