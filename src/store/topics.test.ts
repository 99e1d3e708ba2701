import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { ensureShards } from './shards.ts'
import { append, ensureTopic, forgetIds, type NewRecord, partitionOf, read, trim } from './topics.ts'

let test: TestDatabase
let made = 0
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test.drop())

async function makeTopic(partitions = 1): Promise<string> {
  made += 1
  await ensureTopic(test.db, `topic-${made}`, partitions)
  return `topic-${made}`
}

const records = (count: number, from = 0): NewRecord[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `id-${from + index}`,
    key: `key-${(from + index) % 7}`,
    value: JSON.stringify({ n: from + index }),
  }))
const publish = (topic: string, list: readonly NewRecord[]) =>
  test.db.transaction((session) => append(session, topic, list))
const plenty = { records: 10_000, bytes: 100_000_000 }
const firstOffset = statement<{ first: number; next: number }>(
  'test.first-offset',
  'select first_offset as first, next_offset as next from sluice.topic_partitions where topic = $1 order by partition',
)
const lag = statement('test.move-offset', 'update sluice.shards set committed_offset = $2 where stream = $1')

describe('a topic', () => {
  it('gives out offsets without gaps, in the order of the batch, and adds nothing twice', async () => {
    const topic = await makeTopic(3)
    expect(await publish(topic, records(100))).toEqual({ published: 100, known: 0 })
    expect(await publish(topic, [...records(150), ...records(5, 145)])).toEqual({ published: 50, known: 105 })
    const seen: string[] = []
    for (const partition of [0, 1, 2]) {
      const found = await read(test.db, topic, partition, 0, plenty)
      expect(found.map(({ offset }) => offset)).toEqual(found.map((_, index) => index))
      const numbers = found.map(({ value }) => JSON.parse(value).n as number)
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
      for (const { key } of found) expect(partitionOf(key!, 3)).toBe(partition)
      seen.push(...found.map(({ id }) => id))
    }
    expect(new Set(seen).size).toBe(150)
  })

  it('never lets a reader skip a record, in whatever order transactions commit', async () => {
    const topic = await makeTopic()
    const gate = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const first = test.db.transaction(async (session) => {
      await append(session, topic, records(3))
      begun.resolve()
      await gate.promise
    })
    await begun.promise
    // Begun later, and would commit earlier if it could: it waits for the partition.
    let secondDone = false
    const second = publish(topic, records(3, 10)).then(() => {
      secondDone = true
    })
    const during = await read(test.db, topic, 0, 0, plenty)
    expect({ during, secondDone }).toEqual({ during: [], secondDone: false })
    gate.resolve()
    await Promise.all([first, second])
    const after = await read(test.db, topic, 0, 0, plenty)
    expect(after.map(({ offset, id }) => `${offset} ${id}`)).toEqual([
      ...['0 id-0', '1 id-1', '2 id-2', '3 id-10', '4 id-11', '5 id-12'],
    ])
  })

  it('leaves no gap behind an append that is rolled back', async () => {
    const topic = await makeTopic()
    const rolledBack = test.db.transaction(async (session) => {
      await append(session, topic, records(3))
      throw new Error('changed my mind')
    })
    await expect(rolledBack).rejects.toThrow('changed my mind')
    expect(await publish(topic, records(2))).toEqual({ published: 2, known: 0 })
    expect((await read(test.db, topic, 0, 0, plenty)).map(({ offset }) => offset)).toEqual([0, 1])
  })

  it('adds each record once when many publish the same at once', async () => {
    const topic = await makeTopic(4)
    const results = await Promise.all(
      [1, 2, 3, 4].map((n) => publish(topic, n % 2 ? records(200) : records(200).reverse())),
    )
    expect(results.reduce((sum, { published }) => sum + published, 0)).toBe(200)
    expect((await test.db.query(firstOffset, [topic])).reduce((sum, { next }) => sum + next, 0)).toBe(200)
  })

  it('reads within limits, one record at least', async () => {
    const topic = await makeTopic()
    const long = { id: 'long', key: null, value: JSON.stringify('x'.repeat(1_000)) }
    await publish(topic, [long, ...records(10)])
    const ids = async (from: number, limits: typeof plenty) =>
      (await read(test.db, topic, 0, from, limits)).map(({ id }) => id)
    expect(await ids(0, { records: 100, bytes: 10 })).toEqual(['long'])
    expect(await ids(1, { records: 100, bytes: 21 })).toEqual(['id-0', 'id-1', 'id-2'])
    expect(await ids(1, { records: 2, bytes: 1_000 })).toEqual(['id-0', 'id-1'])
  })

  it('refuses what is too large, not there, or no name', async () => {
    const topic = await makeTopic()
    const value = JSON.stringify('é'.repeat(524_288))
    await expect(publish(topic, [{ id: 'a', key: null, value }])).rejects.toMatchObject({ code: 'RECORD_TOO_LARGE' })
    await expect(publish('nowhere', records(1))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    for (const id of ['', 'a\0', 'x'.repeat(1_001)]) {
      await expect(publish(topic, [{ id, key: null, value: '1' }])).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    }
    await expect(ensureTopic(test.db, 'many', 257)).rejects.toMatchObject({ code: 'DEFINITION_INVALID' })
    expect(await read(test.db, topic, 0, 0, plenty)).toEqual([])
  })

  it('is trimmed below every stream, in bounded steps, and forgets ids only when told to', async () => {
    const topic = await makeTopic()
    await publish(topic, records(100))
    await ensureShards(test.db, topic, topic)
    await test.db.execute(lag, [topic, 60])
    const later = new Date(Date.now() + 60_000)
    expect(await trim(test.db, topic, new Date(0), 1_000)).toBe(0)
    expect(await trim(test.db, topic, later, 40)).toBe(40)
    expect(await trim(test.db, topic, later, 40)).toBe(20)
    expect(await trim(test.db, topic, later, 40)).toBe(0)
    expect((await read(test.db, topic, 0, 0, plenty))[0]).toMatchObject({ offset: 60 })
    expect(await test.db.query(firstOffset, [topic])).toEqual([{ first: 60, next: 100 }])
    expect(await publish(topic, records(100))).toEqual({ published: 0, known: 100 })
    expect(await forgetIds(test.db, topic, later, 30)).toBe(30)
    expect(await forgetIds(test.db, topic, later)).toBe(70)
  })

  it('grows, and spreads keys evenly', async () => {
    const topic = await makeTopic(2)
    expect(await ensureTopic(test.db, topic, 5)).toBe(5)
    expect(await ensureTopic(test.db, topic, 3)).toBe(5)
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 1, max: 256 }), (key, partitions) => {
        const partition = partitionOf(key, partitions)
        expect(partition).toBeGreaterThanOrEqual(0)
        expect(partition).toBeLessThan(partitions)
        expect(partitionOf(key, partitions)).toBe(partition)
      }),
    )
    const counts = new Array(8).fill(0)
    for (let n = 0; n < 8_000; n += 1) counts[partitionOf(`https://picsum.photos/${n}/${n * 3}`, 8)] += 1
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(200)
  })
})
