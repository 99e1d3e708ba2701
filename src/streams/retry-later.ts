/** Records that are tried again later: one timer, to the next that is due. */
import type { Clock } from '../time.ts'
import type { Entry } from './entry.ts'

/** The longest that setTimeout takes. */
const longestMs = 2_147_483_647

export class RetryLater {
  readonly #clock: Clock
  readonly #onDue: () => void
  readonly #entries = new Set<Entry>()
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY

  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock
    this.#onDue = onDue
  }

  get size(): number {
    return this.#entries.size
  }

  add(entry: Entry): void {
    this.#entries.add(entry)
    this.#arm(entry.dueAt)
  }

  /** The records that are due now; they are no longer held. */
  takeDue(): Entry[] {
    const now = this.#clock.now()
    const due: Entry[] = []
    let next = Number.POSITIVE_INFINITY
    for (const entry of this.#entries) {
      if (entry.dueAt <= now) due.push(entry)
      else next = Math.min(next, entry.dueAt)
    }
    for (const entry of due) this.#entries.delete(entry)
    this.stop()
    this.#arm(next)
    return due.sort((a, b) => a.offset - b.offset)
  }

  /** All of them; they are no longer held. */
  takeAll(): Entry[] {
    const all = [...this.#entries]
    this.#entries.clear()
    this.stop()
    return all
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timerAt = Number.POSITIVE_INFINITY
  }

  #arm(at: number): void {
    if (at >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = at
    this.#timer = setTimeout(this.#onDue, Math.min(longestMs, Math.max(1, at - this.#clock.now())))
  }
}
