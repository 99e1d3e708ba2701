/** One timer for many due times: a wake-up for the earliest. */
import { Heap } from '../core/heap.ts'
import type { Clock } from '../time.ts'

/** The longest wait a timer takes; also how soon a clock that was set is noticed. */
const longestWaitMs = 60_000

interface Due<Item> {
  readonly at: number
  /** What came first goes first. */
  readonly order: number
  readonly item: Item
}

export class DueTimes<Item> {
  private readonly heap = emptyHeap<Item>()
  private order = 0
  private timer: NodeJS.Timeout | undefined
  private readonly clock: Clock
  private readonly onDue: (items: Item[]) => void

  constructor(clock: Clock, onDue: (items: Item[]) => void) {
    this.clock = clock
    this.onDue = onDue
  }

  add(at: number, item: Item): void {
    const due = { at, order: this.order++, item }
    this.heap.push(due)
    if (this.heap.peek() === due) this.arm()
  }

  stop(): void {
    clearTimeout(this.timer)
    while (this.heap.pop()) {}
  }

  private arm(): void {
    clearTimeout(this.timer)
    const first = this.heap.peek()
    if (first)
      this.timer = setTimeout(() => this.fire(), Math.min(longestWaitMs, Math.max(0, first.at - this.clock.now())))
  }

  private fire(): void {
    const now = this.clock.now()
    const due: Item[] = []
    for (let first = this.heap.peek(); first && first.at <= now; first = this.heap.peek()) {
      this.heap.pop()
      due.push(first.item)
    }
    if (due.length > 0) this.onDue(due)
    this.arm()
  }
}

const emptyHeap = <Item>() =>
  new Heap<Due<Item>>((one, other) => (one.at === other.at ? one.order < other.order : one.at < other.at))
