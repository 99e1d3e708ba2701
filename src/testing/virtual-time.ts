/** A clock that is set, and what happens at its times: in the order of the times, then of their coming. */
import { Heap } from '../core/heap.ts'
import type { Clock } from '../time.ts'

interface Item<What> {
  readonly at: number
  readonly order: number
  readonly what: What
}

export class VirtualTime<What> implements Clock {
  #now: number
  #order = 0
  readonly #heap = new Heap<Item<What>>((one, other) =>
    one.at === other.at ? one.order < other.order : one.at < other.at,
  )

  constructor(start: number) {
    this.#now = start
  }

  now(): number {
    return this.#now
  }

  add(at: number, what: What): void {
    this.#heap.push({ at, order: this.#order++, what })
  }

  /** When the first such thing happens. */
  firstOf(such: (what: What) => boolean): number | undefined {
    for (const { at, what } of this.#heap.inOrder()) if (such(what)) return at
    return undefined
  }

  /** Sets the clock to the next time up to `to` at which something happens, and gives that; undefined, at `to`, when nothing does. */
  next(to: number): What | undefined {
    const first = this.#heap.peek()
    if (!first || first.at > to) {
      this.#now = Math.max(this.#now, to)
      return undefined
    }
    this.#heap.pop()
    this.#now = Math.max(this.#now, first.at)
    return first.what
  }
}
