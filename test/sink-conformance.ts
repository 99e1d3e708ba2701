/**
 * What every adapter of the port `Sink` must do, on whatever end: rows that are there after a commit and only then, one end for each
 * item, the same ends when the same items come again.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Session } from '../src/ports/database.ts'
import type { PreparedRow, Sink, SinkEnd, SinkItem } from '../src/ports/sink.ts'

export interface SinkSubject {
  readonly sink: Sink
  /** A transaction of the platform's database. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>
  /** A row for a key, with a text. */
  row(key: string, text: string): unknown
  /** Rows that the sink does not take, each with the class of its refusal. */
  readonly refused: readonly (readonly [row: unknown, reason: string])[]
  /** The keys and texts that are there, by key. */
  rows(): Promise<{ readonly key: string; readonly text: string }[]>
  close(): Promise<void>
}

/** How the ends of a sink differ by what it is. */
export interface SinkManners {
  /** What the second record of a key ends as, and which text is there then. */
  readonly second: 'duplicate' | 'written'
  readonly stands: 'first' | 'last' | 'both'
  /**
   * What a record ends as that comes again after it was committed. Default `written`. `doubled`: it is written, again: of such a sink the
   * offset alone sees to it that a record does not come again.
   */
  readonly again?: 'written' | 'duplicate' | 'doubled'
}

const origin = { stream: 'conformance', partition: 0 }

export function describeSink(adapter: string, manners: SinkManners, open: () => Promise<SinkSubject>): void {
  describe(`sink: ${adapter}`, () => {
    let subject: SinkSubject
    beforeAll(async () => {
      subject = await open()
      await subject.sink.open?.()
    })
    afterAll(() => subject.close())

    /** Each test has keys of its own. */
    let drawn = 0
    const keysOf = (count: number) => {
      drawn += 1
      return Array.from({ length: count }, (_, index) => `k${drawn}-${index}`)
    }
    const item = async (offset: number, key: string, text: string, recordId = `r${offset}`): Promise<SinkItem> => {
      const target = await subject.sink.prepare(subject.row(key, text))
      if ('reason' in target) throw new Error(`${target.reason}: ${target.detail}`)
      return { offset, recordId, record: { key, text }, objects: [], target }
    }
    const deliver = async (items: readonly SinkItem[]) => {
      const rows = items.filter((one): one is SinkItem & { target: PreparedRow } => 'key' in one.target)
      await subject.sink.deliver?.(origin, rows)
    }
    const commit = async (items: readonly SinkItem[]): Promise<string[]> => {
      await deliver(items)
      return outcomes(await subject.transaction((session) => subject.sink.write(session, origin, items)))
    }
    const outcomes = (ends: readonly SinkEnd[]) => ends.map((end) => end.outcome)
    const textsOf = async (keys: readonly string[]) =>
      (await subject.rows()).filter(({ key }) => keys.includes(key)).map(({ text }) => text)
    let offsets = 0
    const next = () => {
      offsets += 1
      return offsets
    }

    it('writes what it is given, and says so of each', async () => {
      const keys = keysOf(5)
      const items = await Promise.all(keys.map((key) => item(next(), key, `text of ${key}`)))
      expect(await commit(items)).toEqual(keys.map(() => 'written'))
      expect((await textsOf(keys)).sort()).toEqual(keys.map((key) => `text of ${key}`))
    })

    it('takes nothing', async () => {
      expect(await commit([])).toEqual([])
    })

    it('keeps any text', async () => {
      const texts = [
        '',
        ' ',
        'a\tb\nc\rd',
        'back\\slash \\N \\x',
        `quotes ' " ''`,
        '{"a":[1,2]}',
        '{}',
        'ü 漢 😀',
        'NULL',
        ',;:$1 %s --',
      ]
      const keys = keysOf(texts.length)
      const items = await Promise.all(keys.map((key, index) => item(next(), key, texts[index]!)))
      expect(await commit(items)).toEqual(keys.map(() => 'written'))
      const there = new Map((await subject.rows()).map(({ key, text }) => [key, text]))
      expect(keys.map((key) => there.get(key))).toEqual(texts)
    })

    it('leaves nothing behind when the process is killed between the write and the commit, and writes it the next time', async () => {
      const keys = keysOf(3)
      const items = await Promise.all(keys.map((key) => item(next(), key, 'once')))
      await deliver(items)
      const killed = subject.transaction(async (session) => {
        expect(outcomes(await subject.sink.write(session, origin, items))).toEqual(keys.map(() => 'written'))
        throw new Error('killed')
      })
      await expect(killed).rejects.toThrow('killed')
      if (subject.sink.class === 'transactional') expect(await textsOf(keys)).toEqual([])
      expect(await commit(items)).toEqual(keys.map(() => 'written'))
      expect(await textsOf(keys)).toEqual(keys.map(() => 'once'))
    })

    it('ends a record that comes again as it says', async () => {
      const keys = keysOf(3)
      const items = await Promise.all(keys.map((key) => item(next(), key, 'once')))
      await commit(items)
      const { again = 'written' } = manners
      expect(await commit(items)).toEqual(keys.map(() => (again === 'doubled' ? 'written' : again)))
      expect((await textsOf(keys)).length).toBe(again === 'doubled' ? 6 : 3)
    })

    it('ends another record of a key as it says, later and within one batch', async () => {
      const [later = '', together = ''] = keysOf(2)
      expect(await commit([await item(next(), later, 'first')])).toEqual(['written'])
      expect(await commit([await item(next(), later, 'second')])).toEqual([manners.second])
      const batch = [await item(next(), together, 'first'), await item(next(), together, 'second')]
      expect(await commit(batch)).toEqual(['written', manners.second])
      const standing = { first: ['first'], last: ['second'], both: ['first', 'second'] }[manners.stands]
      expect((await textsOf([later])).sort()).toEqual(standing)
      expect((await textsOf([together])).sort()).toEqual(standing)
    })

    it('has the rows of one key in the order of their offsets', async () => {
      if (manners.stands === 'first') return expect(manners.second).toBe('duplicate')
      const [key = ''] = keysOf(1)
      const texts = Array.from({ length: 20 }, (_, index) => `text ${String(index).padStart(2, '0')}`)
      for (const some of [texts.slice(0, 7), texts.slice(7)]) {
        const items: SinkItem[] = []
        for (const text of some) items.push(await item(next(), key, text))
        await commit(items)
      }
      const there = await textsOf([key])
      expect(there).toEqual(manners.stands === 'last' ? texts.slice(-1) : texts)
    })

    it('ends the repeat of a record as its duplicate', async () => {
      const [key = ''] = keysOf(1)
      await commit([await item(next(), key, 'first')])
      const offset = next()
      const repeat: SinkItem = {
        offset,
        recordId: `r${offset}`,
        record: { key, text: 'x' },
        objects: [],
        target: { repeats: key },
      }
      expect(await commit([repeat])).toEqual(['duplicate'])
      expect(await textsOf([key])).toEqual(['first'])
    })

    it('refuses what it cannot keep, each with its reason, before anything is written', async () => {
      const reasons = await Promise.all(
        subject.refused.map(async ([row]) => {
          const prepared = await subject.sink.prepare(row)
          return 'reason' in prepared ? prepared.reason : 'taken'
        }),
      )
      expect(reasons).toEqual(subject.refused.map(([, reason]) => reason))
    })

    it('lets two write the same keys at once, in any order, without a deadlock', async () => {
      const keys = keysOf(40)
      const reversed = keys.toReversed()
      const one = await Promise.all(keys.map((key) => item(next(), key, 'one')))
      const other = await Promise.all(reversed.map((key) => item(next(), key, 'other')))
      const ends = (await Promise.all([commit(one), commit(other)])).flat()
      expect(ends.filter((end) => end === 'written').length).toBe(manners.second === 'written' ? 80 : 40)
      expect(new Set((await subject.rows()).filter(({ key }) => keys.includes(key)).map(({ key }) => key)).size).toBe(
        40,
      )
    })
  })
}
