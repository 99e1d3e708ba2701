/** One timer for many due times: a binary heap by time, and a wake-up for the earliest. */
import type { Clock } from '../time.ts'

/** The longest wait a timer takes; also how soon a clock that was set is noticed. */
const longestWaitMs = 60_000

export class DueTimes<Item> {
  private readonly heap: { at: number; item: Item }[] = []
  private timer: NodeJS.Timeout | undefined
  private readonly clock: Clock
  private readonly onDue: (items: Item[]) => void

  constructor(clock: Clock, onDue: (items: Item[]) => void) {
    this.clock = clock
    this.onDue = onDue
  }

  add(at: number, item: Item): void {
    this.heap.push({ at, item })
    let child = this.heap.length - 1
    while (child > 0) {
      const parent = (child - 1) >> 1
      if (this.heap[parent]!.at <= this.heap[child]!.at) break
      this.swap(parent, child)
      child = parent
    }
    if (child === 0) this.arm()
  }

  stop(): void {
    clearTimeout(this.timer)
    this.heap.length = 0
  }

  private arm(): void {
    clearTimeout(this.timer)
    const first = this.heap[0]
    if (first)
      this.timer = setTimeout(() => this.fire(), Math.min(longestWaitMs, Math.max(0, first.at - this.clock.now())))
  }

  private fire(): void {
    const now = this.clock.now()
    const due: Item[] = []
    while (this.heap.length > 0 && this.heap[0]!.at <= now) due.push(this.pop())
    if (due.length > 0) this.onDue(due)
    this.arm()
  }

  private pop(): Item {
    const { item } = this.heap[0]!
    const last = this.heap.pop()!
    if (this.heap.length > 0) {
      this.heap[0] = last
      let parent = 0
      for (;;) {
        let least = parent
        for (const child of [parent * 2 + 1, parent * 2 + 2]) {
          if (child < this.heap.length && this.heap[child]!.at < this.heap[least]!.at) least = child
        }
        if (least === parent) break
        this.swap(parent, least)
        parent = least
      }
    }
    return item
  }

  private swap(a: number, b: number): void {
    const kept = this.heap[a]!
    this.heap[a] = this.heap[b]!
    this.heap[b] = kept
  }
}
