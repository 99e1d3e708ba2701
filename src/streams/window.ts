/**
 * The records of a shard: those above the committed offset, and those in the durable table.
 *
 * 1. A record of the log ends once, in the commit that passes its offset, or is moved by it to the table.
 * 2. A record of the table ends, or is put off again, in any later commit.
 * 3. What is held is bounded by `limits`; `room` says how much more may be read. While it is `crowded`, records of the
 *    table are let go: they are in the table alone.
 */
import type { RecordOutcome } from '../core/ledger.ts'
import { Watermark } from '../core/watermark.ts'
import type { ReadLimits } from '../ports/source.ts'
import type { Ended } from './commit.ts'
import type { End, Entry, Parsed } from './entry.ts'
import type { ShardLimits } from './limits.ts'

export class Window {
  readonly #limits: ShardLimits
  readonly #watermark = new Watermark<Entry>()
  /** In the order of their offsets. */
  readonly #log = new Map<number, Entry>()
  readonly #table = new Map<number, Entry>()
  #late: Entry[] = []
  #logBytes = 0
  #tableBytes = 0
  #rowBytes = 0

  constructor(limits: ShardLimits) {
    this.#limits = limits
  }

  /** Records above the committed offset. */
  get distance(): number {
    return this.#log.size
  }

  /** Records in the durable table, as far as is committed. */
  get waiting(): number {
    return this.#table.size
  }

  get empty(): boolean {
    return this.#log.size === 0 && this.#table.size === 0
  }

  /** Whether rows that await their commit leave room for more. */
  get mayRun(): boolean {
    return this.#rowBytes < this.#limits.rowBytes
  }

  /** How much may be read now; undefined when nothing. */
  get room(): ReadLimits | undefined {
    const { distance, distanceBytes, readRecords, readBytes, waiting, waitingBytes } = this.#limits
    const records = Math.min(readRecords, distance - this.#log.size)
    const bytes = Math.min(readBytes, distanceBytes - this.#logBytes)
    if (records <= 0 || bytes <= 0 || this.#table.size >= waiting || this.#tableBytes >= waitingBytes) return undefined
    return { records, bytes }
  }

  /** Whether records of the table should be let go rather than held. */
  get crowded(): boolean {
    return this.#table.size * 2 >= this.#limits.waiting || this.#tableBytes * 2 >= this.#limits.waitingBytes
  }

  /** How many records of the table may be loaded now. */
  get loadable(): number {
    if (this.crowded) return 0
    return Math.min(this.#limits.readRecords, Math.ceil(this.#limits.waiting / 2) - this.#table.size)
  }

  /** Whether the record is held, and stays so until it ends. */
  holds(offset: number): boolean {
    const entry = this.#table.get(offset) ?? this.#log.get(offset)
    return entry !== undefined && !entry.apart
  }

  knownOffsets(): number[] {
    return [...this.#table.keys(), ...this.#log.keys()]
  }

  /** The next record of the log. */
  fromLog(parsed: Parsed, now: number): Entry {
    const entry = entryOf(parsed, 'log', now)
    this.#watermark.admit(entry.offset)
    this.#log.set(entry.offset, entry)
    this.#logBytes += entry.value.length
    return entry
  }

  /** A record that is in the durable table. */
  fromTable(parsed: Parsed, now: number, attempts: number, dueAt: number): Entry {
    const entry = entryOf(parsed, 'table', now)
    entry.attempts = attempts
    entry.dueAt = dueAt
    this.#enterTable(entry)
    return entry
  }

  /** A record ended. */
  end(entry: Entry, end: End, now: number): void {
    entry.end = end
    entry.endedAt = now
    if (end.kind === 'row') this.#rowBytes += end.row.size
    if (entry.place === 'log') {
      this.#watermark.settle(entry.offset, entry)
      entry.place = 'ended'
    } else this.#late.push(entry)
  }

  /** What the next commit takes: all that ended late, and all of the log up to the first that is open. */
  take(): Ended[] {
    const late = this.#late.map((entry): Ended => ({ entry, end: entry.end!, late: true }))
    this.#late = []
    const passed = this.#watermark.take()?.endings ?? []
    const ended = passed.map((entry): Ended => ({ entry, end: entry.end!, late: false }))
    return [...late, ...ended]
  }

  /** A commit took place. */
  committed({ entry, end, late }: Ended, outcome: RecordOutcome): void {
    if (end.kind === 'row') this.#rowBytes -= end.row.size
    if (!late) {
      this.#log.delete(entry.offset)
      this.#logBytes -= entry.value.length
      if (outcome === 'waiting' && !entry.apart) this.#enterTable(entry)
    } else if (outcome !== 'waiting' || entry.apart) this.letGo(entry)
    if (outcome === 'waiting') entry.place = 'table'
    // The watermark may hold the entry for a while yet; not its row, which is what takes memory.
    else entry.end = undefined
  }

  /**
   * Moves what holds up others to the durable table, from the lowest offset on, as far as there is room, so that the next
   * `take`, which must follow at once, takes all that was moved: open records below one that has been
   * waiting for its commit for `moveAfterMs` (or below any, when rows take too much memory); and, when `starving` (nothing more
   * can be read and not all places for steps are taken), all that are open for `moveAfterMs`.
   */
  moveBlockers(now: number, { starving, all = false }: { readonly starving: boolean; readonly all?: boolean }): void {
    const old = now - this.#limits.moveAfterMs
    const pressed = all || !this.mayRun
    let below = -1
    for (const entry of this.#log.values()) {
      if (entry.place === 'ended' && (pressed || entry.endedAt <= old)) below = entry.offset
    }
    const full = starving && this.room === undefined
    let places = this.#limits.waiting - this.#table.size
    let bytes = this.#limits.waitingBytes - this.#tableBytes
    for (const entry of this.#log.values()) {
      if (entry.place !== 'log') continue
      if (!(entry.offset < below || (full && entry.readAt <= old))) return
      places -= 1
      bytes -= entry.value.length
      if (places < 0 || bytes < 0) return
      this.#move(entry)
    }
  }

  /** A record of the table is held no more. */
  letGo(entry: Entry): void {
    this.#table.delete(entry.offset)
    this.#tableBytes -= entry.value.length
  }

  /** A record that has not begun goes to the table, or is noted there again, with its next commit, and is held no more. */
  sendApart(entry: Entry): void {
    entry.apart = true
    if (entry.place === 'log') this.#move(entry)
    else if (entry.place === 'table') {
      entry.end = { kind: 'waiting' }
      this.#late.push(entry)
    }
  }

  #move(entry: Entry): void {
    entry.end = { kind: 'waiting' }
    entry.place = 'moved'
    this.#watermark.settle(entry.offset, entry)
  }

  #enterTable(entry: Entry): void {
    this.#table.set(entry.offset, entry)
    this.#tableBytes += entry.value.length
  }
}

const entryOf = (parsed: Parsed, place: Entry['place'], now: number): Entry => ({
  ...parsed,
  place,
  end: undefined,
  attempts: 0,
  dueAt: 0,
  readAt: now,
  endedAt: 0,
  leads: false,
  apart: false,
})
