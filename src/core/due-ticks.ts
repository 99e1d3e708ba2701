/**
 * Which ticks of a set of items become records, and in what order.
 *
 * 1. Every tick from the start on is passed once, in the order of its time, place and id: it becomes a record, or it counts as
 *    missed or folded. `skipped` of a record counts those that were passed since the record before it; so whoever commits the
 *    offsets of records, together with these numbers, has accounted for every tick below the offset, exactly once.
 * 2. A tick is missed when the next of its item is due by then, too: of what was slept through, the last tick runs late (by
 *    less than its interval), the others do not.
 * 3. While a record of an item is open, one more may be: that of the tick that comes due next, which waits for the end of the
 *    one before (records of one key go one after another). Ticks that come due while both are open are folded into it.
 * 4. An offset is the tick's own millisecond and the item's place in it; a place that is taken gives the next one that is
 *    free, if need be in the next millisecond.
 * 5. Items that are added, or get another interval, begin with their first tick behind what was passed. All others go on
 *    as if nothing had been changed.
 */
import { Heap } from './heap.ts'
import { offsetOf, phaseOf, placeOf, tickBy, tickFrom, timeOfOffset } from './ticks.ts'

/** An item, as far as its ticks go. */
export interface TickItem {
  readonly id: string
  /** Whole milliseconds. */
  readonly intervalMs: number
}

export interface SkippedTicks {
  readonly missed: number
  readonly folded: number
}

export interface DueTick<Item> {
  readonly item: Item
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly offset: number
  /** Ticks that were passed since the record before, without becoming one. */
  readonly skipped: SkippedTicks
}

interface Schedule<Item> {
  item: Item
  readonly id: string
  readonly intervalMs: number
  readonly phaseMs: number
  readonly place: number
  /** The next tick. */
  at: number
  /** Offsets of its open records. */
  readonly open: Set<number>
  gone: boolean
}

/** Places may be taken over several milliseconds: as far back the start is played again, to find them taken. */
const playedAgainMs = 10
/** Of one item: the record that runs, and the one that waits for its end. */
const mostOpen = 2

export class DueTicks<Item extends TickItem> {
  readonly #start: number
  /** The first offset that is not taken. */
  #position: number
  /** Ticks up to this millisecond are passed. */
  #passedMs: number
  #begun = false
  readonly #schedules = new Map<string, Schedule<Item>>()
  readonly #idsOfOpen = new Map<number, string>()
  /** Open records of items that are not there (any more, or yet). */
  readonly #openElsewhere = new Map<string, Set<number>>()
  #heap = emptyHeap<Item>()
  #missed = 0
  #folded = 0
  /** Above the last record. */
  #accounted: number

  /** Ticks whose offsets lie below `start` are passed already. */
  constructor(start: number) {
    this.#start = start
    this.#accounted = start
    this.#passedMs = Math.max(-1, timeOfOffset(start) - playedAgainMs - 1)
    this.#position = offsetOf(this.#passedMs + 1)
  }

  get size(): number {
    return this.#schedules.size
  }

  /** Every tick below it is accounted for by the records so far: it became one, or `skipped` of one counts it. */
  get position(): number {
    if (this.#missed + this.#folded > 0) return this.#accounted
    return Math.max(this.#start, this.#position, offsetOf(this.#passedMs + 1))
  }

  /** When the next tick is due; undefined when there are no items. */
  get nextAt(): number | undefined {
    return this.#first()?.at
  }

  /** These are all items from now on; ids are unique. The first call gives those whose ticks count from the start on. */
  set(items: Iterable<Item>): void {
    const gone = new Set(this.#schedules.keys())
    for (const item of items) {
      gone.delete(item.id)
      const known = this.#schedules.get(item.id)
      if (known?.intervalMs === item.intervalMs) known.item = item
      else this.#add(item, known)
    }
    for (const id of gone) this.#remove(id)
  }

  #add(item: Item, before: Schedule<Item> | undefined): void {
    const { id, intervalMs } = item
    if (before !== undefined) before.gone = true
    const phaseMs = phaseOf(id, intervalMs)
    const open = before?.open ?? this.#openElsewhere.get(id) ?? new Set()
    this.#openElsewhere.delete(id)
    const at = tickFrom(phaseMs, intervalMs, this.#passedMs + 1)
    const schedule = { item, id, intervalMs, phaseMs, place: placeOf(id), at, open, gone: false }
    this.#schedules.set(id, schedule)
    this.#heap.push(schedule)
  }

  #remove(id: string): void {
    const schedule = this.#schedules.get(id)!
    schedule.gone = true
    this.#schedules.delete(id)
    if (schedule.open.size > 0) this.#openElsewhere.set(id, schedule.open)
  }

  /** A record of the item is open since before: it was read by another, and waits. */
  opened(id: string, offset: number): void {
    this.#idsOfOpen.set(offset, id)
    const known = this.#schedules.get(id)?.open ?? this.#openElsewhere.get(id)
    if (known === undefined) this.#openElsewhere.set(id, new Set([offset]))
    else known.add(offset)
  }

  /** The record at that offset is over. */
  ended(offset: number): void {
    const id = this.#idsOfOpen.get(offset)
    if (id === undefined) return
    this.#idsOfOpen.delete(offset)
    const open = this.#schedules.get(id)?.open ?? this.#openElsewhere.get(id)
    open?.delete(offset)
    if (open?.size === 0) this.#openElsewhere.delete(id)
  }

  /**
   * The next records whose ticks are due by `now`, at most `limit`; `more` when it stopped before the last of them, which it
   * does also after having passed `effort` ticks: call it again then.
   */
  take(now: number, limit: number, effort = 10_000): { readonly due: DueTick<Item>[]; readonly more: boolean } {
    if (this.#begun) this.#sleepThrough(now)
    const due: DueTick<Item>[] = []
    for (let passed = 0; ; passed += 1) {
      const next = this.#first()
      if (next === undefined || next.at > now) break
      if (due.length >= limit || passed >= effort) return { due, more: true }
      if (!this.#begun && next.at > timeOfOffset(this.#start)) {
        this.#begun = true
        this.#sleepThrough(now)
        continue
      }
      const tick = this.#pass(next, now)
      if (tick !== undefined) due.push(tick)
    }
    this.#passedMs = Math.max(this.#passedMs, now)
    return { due, more: false }
  }

  #pass(schedule: Schedule<Item>, now: number): DueTick<Item> | undefined {
    this.#heap.pop()
    const { item, at, open, intervalMs } = schedule
    const offset = Math.max(offsetOf(at, schedule.place), this.#position)
    this.#position = offset + 1
    this.#passedMs = Math.max(this.#passedMs, at)
    schedule.at = at + intervalMs
    this.#heap.push(schedule)
    if (offset < this.#start) return undefined
    if (open.size >= mostOpen || (open.size > 0 && schedule.at <= now)) {
      this.#folded += 1
      return undefined
    }
    if (schedule.at <= now) {
      this.#missed += 1
      return undefined
    }
    open.add(offset)
    this.#idsOfOpen.set(offset, schedule.id)
    this.#accounted = offset + 1
    const skipped = { missed: this.#missed, folded: this.#folded }
    this.#missed = 0
    this.#folded = 0
    return { item, at, offset, skipped }
  }

  /**
   * After a long sleep: passes at once all ticks that lie before every tick that is to run, which can be many for each item. What
   * it counts belongs to the next record, whose offset is above all of them.
   */
  #sleepThrough(now: number): void {
    const next = this.#first()
    if (next === undefined || next.at + next.intervalMs > now) return
    let before = Number.POSITIVE_INFINITY
    for (const { phaseMs, intervalMs, at } of this.#schedules.values())
      if (at <= now) before = Math.min(before, tickBy(phaseMs, intervalMs, now))
    if (next.at + 2 * next.intervalMs > before) return
    const heap = emptyHeap<Item>()
    for (const schedule of this.#schedules.values()) {
      if (schedule.at < before) {
        const at = tickFrom(schedule.phaseMs, schedule.intervalMs, before)
        const ticks = Math.round((at - schedule.at) / schedule.intervalMs)
        if (schedule.open.size > 0) this.#folded += ticks
        else this.#missed += ticks
        schedule.at = at
      }
      heap.push(schedule)
    }
    this.#heap = heap
    this.#passedMs = Math.max(this.#passedMs, before - 1)
    this.#position = Math.max(this.#position, offsetOf(before))
  }

  #first(): Schedule<Item> | undefined {
    for (;;) {
      const first = this.#heap.peek()
      if (first?.gone !== true) return first
      this.#heap.pop()
    }
  }
}

const emptyHeap = <Item>() =>
  new Heap<Schedule<Item>>(
    (one, other) =>
      one.at - other.at < 0 ||
      (one.at === other.at && (one.place < other.place || (one.place === other.place && one.id < other.id))),
  )
