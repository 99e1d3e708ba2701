import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ReadLimits, Source, SourceReader, SourceRecord } from '../src/ports/source.ts'
import type { NewRecord } from '../src/store/topics.ts'
import { inTime, until } from './engine-world.ts'

/** A topic of two partitions. */
export interface SourceUnderTest {
  readonly source: Source
  /** A key whose records lie in partition 0 and in 1. */
  readonly keys: readonly [string, string]
  append(records: readonly NewRecord[]): Promise<void>
  close(): Promise<void>
}

const plenty: ReadLimits = { records: 10_000, bytes: 50_000_000 }
const numbered = (key: string, count: number, from = 0): NewRecord[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `id-${from + index}`,
    key,
    value: JSON.stringify({ n: from + index, text: 'Grüße €' }),
  }))

/** What every adapter of the port `Source` must do. */
export function describeSource(adapter: string, open: () => Promise<SourceUnderTest>, skip = false): void {
  describe.skipIf(skip)(`source: ${adapter}`, () => {
    let tested: SourceUnderTest
    const readers: SourceReader[] = []
    beforeEach(async () => {
      tested = await open()
    })
    afterEach(async () => {
      await Promise.all(readers.splice(0).map((reader) => reader.close()))
      await tested.close()
    })

    /** Reads as a shard does: until there are so many, sleeping until woken. */
    function begin(partition: number, from: number) {
      let woken = Promise.withResolvers<void>()
      const reader = tested.source.open(partition, from, () => woken.resolve())
      readers.push(reader)
      let at = from
      return {
        reader,
        get at() {
          return at
        },
        async take(count: number, limits = plenty): Promise<SourceRecord[]> {
          const found: SourceRecord[] = []
          while (found.length < count) {
            woken = Promise.withResolvers()
            const { records, next } = await reader.read(at, limits)
            expect(next).toBeGreaterThanOrEqual(at)
            expect(records.length).toBeLessThanOrEqual(limits.records)
            found.push(...records)
            const passed = next > at
            at = next
            if (!passed && records.length === 0) await inTime(`record ${found.length} of ${count}`, woken.promise)
          }
          return found
        },
      }
    }

    it('gives what was published, in order, under its id and key, from the offset on', async () => {
      await tested.append(numbered(tested.keys[0], 50))
      const all = await begin(0, 0).take(50)
      expect(all.map(({ id, key, value }) => ({ id, key, value }))).toEqual(numbered(tested.keys[0], 50))
      expect(all.map(({ offset }) => offset)).toEqual(all.map(({ offset }) => offset).toSorted((a, b) => a - b))
      const middle = all[20]!.offset
      expect(await begin(0, middle).take(30)).toEqual(all.slice(20))
    })

    it('keeps partitions apart', async () => {
      await tested.append(numbered(tested.keys[0], 3))
      await tested.append(numbered(tested.keys[1], 2, 100))
      expect((await begin(1, 0).take(2)).map(({ id }) => id)).toEqual(['id-100', 'id-101'])
      expect((await begin(0, 0).take(3)).map(({ id }) => id)).toEqual(['id-0', 'id-1', 'id-2'])
    })

    it('gives no more than its limits, but for a first record that is longer alone', async () => {
      const [key] = tested.keys
      const long = { id: 'long', key, value: JSON.stringify('x'.repeat(5_000)) }
      const all = [...numbered(key, 5), long, ...numbered(key, 5, 5)]
      await tested.append(all)
      const reading = begin(0, 0)
      const sizes: number[] = []
      const ids: string[] = []
      while (ids.length < 11) {
        const some = await reading.take(1, { records: 3, bytes: 200 })
        sizes.push(some.reduce((sum, { value }) => sum + Buffer.byteLength(value), 0))
        ids.push(...some.map(({ id }) => id))
      }
      expect(ids).toEqual(all.map(({ id }) => id))
      expect(sizes.filter((size) => size > 200)).toEqual([5_002])
    })

    it('gives nothing when there is nothing, and wakes when there is', async () => {
      const reading = begin(0, 0)
      expect(await reading.reader.read(0, plenty)).toEqual({ records: [], next: 0 })
      const taking = reading.take(2)
      await tested.append(numbered(tested.keys[0], 1))
      await until('the first to be taken', () => reading.at > 0)
      await tested.append(numbered(tested.keys[0], 1, 1))
      expect((await taking).map(({ id }) => id)).toEqual(['id-0', 'id-1'])
    })

    it('reads again from an offset that was read before', async () => {
      await tested.append(numbered(tested.keys[0], 10))
      const reading = begin(0, 0)
      const first = await reading.take(10)
      let again: readonly SourceRecord[] = []
      await until('the records again', async () => {
        again = (await reading.reader.read(first[4]!.offset, plenty)).records
        return again.length > 0
      })
      expect(again[0]).toEqual(first[4])
    })

    it('gives nothing to anybody once it is closed', async () => {
      let calls = 0
      const reader = tested.source.open(0, 0, () => {
        calls += 1
      })
      await reader.close()
      await tested.append(numbered(tested.keys[0], 1))
      await begin(0, 0).take(1)
      expect(calls).toBe(0)
    })
  })
}
