/**
 * What a shard knows of the records that wait in the durable table and that it does not hold.
 *
 * 1. Of the records of a key, those that are held come before those that are apart: a record that comes to a key with
 *    records apart goes apart itself (`joins`).
 * 2. `moves` counts whatever may put records apart or make their rows visible: what was asked of the table while it changed
 *    is asked again.
 */
import type { Session } from '../ports/database.ts'
import type { ShardId } from '../store/shards.ts'
import { lastOfKeys, outlook } from '../store/waiting-records.ts'
import type { Clock } from '../time.ts'
import type { Entry } from './entry.ts'

/** The longest that setTimeout takes. */
const longestMs = 2_147_483_647

export class Apart {
  readonly #clock: Clock
  readonly #onDue: () => void
  /** Keys of records that go apart in a commit to come, with their number. */
  readonly #going = new Map<string, number>()
  #leaving = 0
  #moves = 0
  #any = true
  #dueAt = 0
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock
    this.#onDue = onDue
  }

  /** Whether there may be any. */
  get any(): boolean {
    return this.#any
  }

  get isDue(): boolean {
    return this.#dueAt <= this.#clock.now()
  }

  /** The table may have records that nobody told of. */
  look(): void {
    this.#any = true
    this.#dueAt = 0
  }

  /** A record whose row is in the table is held no more. */
  put(dueAt: number): void {
    this.#any = true
    this.#moves += 1
    this.#expect(dueAt)
  }

  /** A record goes apart in a commit to come. */
  leaving({ key }: Entry): void {
    this.#any = true
    this.#moves += 1
    this.#leaving += 1
    if (key !== null) this.#going.set(key, (this.#going.get(key) ?? 0) + 1)
  }

  /** That commit took place. */
  left({ key }: Entry): void {
    this.#leaving -= 1
    this.put(0)
    if (key === null) return
    const going = this.#going.get(key) ?? 0
    if (going > 1) this.#going.set(key, going - 1)
    else this.#going.delete(key)
  }

  /** The last records of these keys in the table, as of an instant since which nothing was put apart. */
  async lastOf(session: Session, id: ShardId, keys: readonly string[]): Promise<ReadonlyMap<string, number>> {
    for (;;) {
      if (!this.#any) return new Map()
      const moves = this.#moves
      const last = await lastOfKeys(session, id, keys)
      if (moves === this.#moves) return last
    }
  }

  /** Whether a record of the log comes behind one that is apart. `last`: the offset of the last of its key in the table. */
  joins(key: string, last: number | undefined, holds: (offset: number) => boolean): boolean {
    return this.#going.has(key) || (last !== undefined && !holds(last))
  }

  /** All that is due is being loaded. */
  loading(): void {
    this.#dueAt = Number.POSITIVE_INFINITY
  }

  /** Some are due that were not loaded. */
  moreIsDue(): void {
    this.#dueAt = 0
  }

  /** Learns what the table has besides the records that are held, and when the next of them is due. */
  async learn(session: Session, id: ShardId, held: readonly number[]): Promise<void> {
    const moves = this.#moves
    const { dueAt, behind } = await outlook(session, id, held)
    if (dueAt !== null) this.#expect(dueAt)
    const changed = moves !== this.#moves || this.#leaving > 0 || this.#dueAt !== Number.POSITIVE_INFINITY
    this.#any = behind || changed
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timerAt = Number.POSITIVE_INFINITY
  }

  #expect(dueAt: number): void {
    this.#dueAt = Math.min(this.#dueAt, dueAt)
    if (dueAt >= this.#timerAt) return
    this.stop()
    this.#timerAt = dueAt
    const told = () => {
      this.stop()
      // A timer may be early, or its time too long for one.
      if (this.isDue) this.#onDue()
      else if (this.#dueAt < Number.POSITIVE_INFINITY) this.#expect(this.#dueAt)
    }
    this.#timer = setTimeout(told, Math.min(longestMs, Math.max(1, Math.ceil(dueAt - this.#clock.now()))))
  }
}
