import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type DueTick, DueTicks, type TickItem } from './due-ticks.ts'
import { offsetOf, phaseOf, tickBy, tickFrom } from './ticks.ts'

const begin = Date.UTC(2026, 2, 28, 12)
const item = (n: number, intervalMs: number): TickItem => ({ id: `item-${n}`, intervalMs })
const some = (count: number, intervalMs: number) => Array.from({ length: count }, (_, n) => item(n, intervalMs))

/** All ticks of an item from one time to another, both included. */
function ticksOf({ id, intervalMs }: TickItem, from: number, to: number): number[] {
  const ticks: number[] = []
  for (let at = tickFrom(phaseOf(id, intervalMs), intervalMs, from); at <= to; at += intervalMs) ticks.push(at)
  return ticks
}

interface Open extends DueTick<TickItem> {
  over: boolean
}

/** A shard over many holders: what they emitted, committed and left in the durable table. */
class History {
  due!: DueTicks<TickItem>
  now = begin
  committed = offsetOf(begin)
  /** Above the committed offset, in order. */
  log: Open[] = []
  table: Open[] = []
  done: Open[] = []
  skipped = 0
  items: readonly TickItem[]

  constructor(items: readonly TickItem[]) {
    this.items = items
    this.takeOver()
  }

  takeOver(): void {
    this.log = []
    this.due = new DueTicks(this.committed)
    for (const {
      item: { id },
      offset,
    } of this.table)
      this.due.opened(id, offset)
    this.due.set(this.items)
  }

  read(limit: number, effort?: number): void {
    const { due, more } = this.due.take(this.now, limit, effort)
    for (const tick of due) {
      expect(tick.at).toBeLessThanOrEqual(this.now)
      expect(tick.offset).toBeGreaterThan(this.log.at(-1)?.offset ?? this.committed - 1)
      this.log.push({ ...tick, over: false })
      const open = [...this.log, ...this.table].filter((one) => !one.over && one.item.id === tick.item.id)
      expect(open.length).toBeLessThanOrEqual(2)
    }
    expect(this.due.position).toBeGreaterThan(this.log.at(-1)?.offset ?? this.committed - 1)
    if (!more) expect(this.due.nextAt ?? Number.POSITIVE_INFINITY).toBeGreaterThan(this.now)
  }

  readAll(limit = 7): void {
    for (let before = -1; before !== this.log.length || (this.due.nextAt ?? Number.POSITIVE_INFINITY) <= this.now; ) {
      before = this.log.length
      this.read(limit, 50)
    }
  }

  /** Steps of some records end. */
  end(which: (nth: number) => boolean): void {
    for (const [nth, one] of [...this.log, ...this.table].entries()) if (which(nth)) one.over = true
  }

  /** The commit of the first records of the log, with all that is over in the table. What is open moves to the table. */
  commit(count: number): void {
    const passed = this.log.splice(0, count)
    for (const { skipped } of passed) this.skipped += skipped.missed + skipped.folded
    this.committed = (passed.at(-1)?.offset ?? this.committed - 1) + 1
    const all = [...this.table, ...passed]
    this.table = all.filter(({ over }) => !over)
    for (const one of all.filter(({ over }) => over)) {
      this.done.push(one)
      this.due.ended(one.offset)
    }
  }

  /** Everything ends, and what is due by now is read and committed, until one more tick of each item is passed. */
  toRest(): void {
    const longest = Math.max(...this.items.map(({ intervalMs }) => intervalMs))
    this.now += longest
    for (let more = true; more; ) {
      this.readAll()
      more = this.log.length + this.table.length > 0
      this.end(() => true)
      this.commit(this.log.length)
    }
    this.now += longest
    this.readAll()
    this.end(() => true)
    this.commit(this.log.length)
  }
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 40 }) }),
  fc.record({ kind: fc.constant('sleep' as const), ms: fc.integer({ min: 100, max: 5_000 }) }),
  fc.record({ kind: fc.constant('read' as const), limit: fc.integer({ min: 1, max: 30 }) }),
  fc.record({ kind: fc.constant('end' as const), nth: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant('commit' as const), count: fc.integer({ min: 0, max: 40 }) }),
  fc.record({ kind: fc.constant('kill' as const) }),
)
const intervals = fc.array(fc.constantFrom(1, 2, 3, 7, 20, 50, 300), { minLength: 1, maxLength: 25 })

describe('DueTicks', () => {
  it('accounts for every tick exactly once, whatever ends when and whoever is killed', () => {
    fc.assert(
      fc.property(intervals, fc.array(step, { maxLength: 60 }), (every, steps) => {
        const history = new History(every.map((ms, n) => item(n, ms)))
        for (const one of steps) {
          if (one.kind === 'wait' || one.kind === 'sleep') history.now += one.ms
          else if (one.kind === 'read') history.read(one.limit, 20)
          else if (one.kind === 'end') history.end((nth) => nth % one.nth === 0)
          else if (one.kind === 'commit') history.commit(one.count)
          else history.takeOver()
        }
        history.toRest()
        const ticks = history.items.flatMap((one) => ticksOf(one, begin, history.now).map((at) => `${one.id} ${at}`))
        const records = history.done.map((one) => `${one.item.id} ${one.at}`)
        expect(new Set(records).size).toBe(records.length)
        const all = new Set(ticks)
        expect(records.filter((record) => !all.has(record))).toEqual([])
        expect(records.length + history.skipped).toBe(ticks.length)
      }),
    )
  })

  it('makes a record of every tick where everything is read and ended in time, through kills and changes of other items', () => {
    const change = fc.record({
      at: fc.integer({ min: 0, max: 1_000 }),
      n: fc.integer({ min: 5, max: 12 }),
      ms: fc.constantFrom(0, 3, 11, 50),
    })
    const kills = fc.array(fc.integer({ min: 0, max: 1_000 }), { maxLength: 5 })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 10 }), kills, fc.nat(), (changes, killed, seed) => {
        const stable = [7, 9, 20, 33, 50].map((ms, n) => item(n, ms))
        const history = new History(stable)
        for (let ms = 0; ms <= 1_000; ms += 3 + (seed % 4)) {
          history.now = begin + ms
          const due = changes.filter(({ at }) => at <= ms)
          const others = new Map(due.map(({ n, ms: every }) => [n, every] as const))
          history.items = [
            ...stable,
            ...[...others].filter(([, every]) => every > 0).map(([n, every]) => item(n, every)),
          ]
          history.due.set(history.items)
          history.readAll(3)
          // Killed with anything of what was read committed, or nothing.
          if (killed.some((at) => at <= ms && at > ms - 3 - (seed % 4))) {
            history.end(() => true)
            history.commit(seed % (history.log.length + 1))
            history.takeOver()
            history.readAll()
          }
          history.end(() => true)
          history.commit(history.log.length)
        }
        for (const one of stable) {
          const found = history.done.filter(({ item: { id } }) => id === one.id).map(({ at }) => at)
          expect(found).toEqual(ticksOf(one, begin, begin + 1_000).filter((at) => at <= history.now))
        }
      }),
      { numRuns: 30 },
    )
  })

  it('begins an item that is added with its first tick behind the present, and none after it is taken out', () => {
    const history = new History([item(1, 1_000)])
    history.now += 10_500
    history.readAll()
    history.items = [item(1, 1_000), item(2, 5_000)]
    history.due.set(history.items)
    const added = history.now
    history.readAll()
    expect(history.log.filter(({ item: { id } }) => id === 'item-2')).toEqual([])
    history.now += 5_000
    history.readAll()
    expect(history.log.filter(({ item: { id } }) => id === 'item-2').map(({ at }) => at)).toEqual(
      ticksOf(item(2, 5_000), added + 1, history.now),
    )
    history.items = [item(1, 1_000)]
    history.due.set(history.items)
    history.now += 60_000
    history.end(() => true)
    history.commit(history.log.length)
    history.readAll()
    expect(history.log.map(({ item: { id } }) => id)).toEqual(['item-1'])
  })

  it('runs the last of the ticks that were slept through, late by less than its interval, and counts the others', () => {
    const all = [item(1, 1_000), item(2, 5_000), item(3, 86_400_000)]
    const history = new History(all)
    history.now += 30 * 86_400_000
    history.readAll()
    expect(history.log.map(({ item: { id }, at }) => [id, at]).toSorted()).toEqual(
      all.map((one) => [one.id, tickBy(phaseOf(one.id, one.intervalMs), one.intervalMs, history.now)]),
    )
    const ticks = all.reduce((sum, one) => sum + ticksOf(one, begin, history.now).length, 0)
    const { missed, folded } = history.log.reduce(
      (sum, { skipped }) => ({ missed: sum.missed + skipped.missed, folded: sum.folded + skipped.folded }),
      { missed: 0, folded: 0 },
    )
    expect({ missed, folded }).toEqual({ missed: ticks - 3, folded: 0 })
  })

  it('folds what comes due while a record runs into the one that waits for its end', () => {
    const history = new History([item(1, 1_000)])
    const emitted: number[] = []
    for (let second = 0; second < 30; second += 1) {
      history.now += 1_000
      history.readAll()
      emitted.push(history.log.length)
    }
    expect(emitted.slice(0, 3)).toEqual([1, 2, 2])
    expect(history.log).toHaveLength(2)
    history.end((nth) => nth === 0)
    history.commit(2)
    history.now += 1_000
    history.readAll()
    expect(history.log).toMatchObject([{ skipped: { missed: 0, folded: 28 } }])
  })

  it('leaves an item alone whose record a former holder left open', () => {
    const history = new History([item(1, 1_000), item(2, 1_000)])
    history.now += 2_000
    history.readAll()
    history.end((nth) => history.log[nth]!.item.id === 'item-2')
    history.commit(history.log.length)
    history.takeOver()
    history.now += 1_000
    history.readAll()
    const ids = history.log.map(({ item: { id } }) => id)
    expect(ids.toSorted()).toEqual(['item-1', 'item-2'])
    history.now += 10_000
    history.readAll()
    expect(history.log.filter(({ item: { id } }) => id === 'item-1')).toHaveLength(1)
  })

  it('moves what has no place in its millisecond to the next', () => {
    const crowd = some(1_100, 60_000)
    const due = new DueTicks<TickItem>(offsetOf(begin))
    // All due in one millisecond.
    due.set(crowd.map(({ id }) => ({ id, intervalMs: 1 })))
    const { due: ticks } = due.take(begin, 2_000, 100_000)
    expect(ticks).toHaveLength(1_100)
    expect(new Set(ticks.map(({ at }) => at))).toEqual(new Set([begin]))
    expect(new Set(ticks.map(({ offset }) => offset)).size).toBe(1_100)
    expect(ticks.at(-1)!.offset).toBeGreaterThanOrEqual(offsetOf(begin + 1))
  })
})
