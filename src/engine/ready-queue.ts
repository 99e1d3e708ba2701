/** Tasks of one run that may start, in order, kept as ranges: a mapped node of 100,000 tasks is one entry. */
import type { ReadyRange } from '../core/run-progress.ts'

export interface ReadyTask {
  readonly node: number
  readonly mapIndex: number
}

export class ReadyQueue {
  private readonly ranges: { node: number; next: number; last: number }[] = []
  private head = 0
  private count = 0

  get size(): number {
    return this.count
  }

  add(range: ReadyRange): void {
    this.ranges.push({ node: range.node, next: range.first, last: range.last })
    this.count += range.last - range.first + 1
  }

  take(): ReadyTask | undefined {
    const range = this.ranges[this.head]
    if (!range) return undefined
    const task = { node: range.node, mapIndex: range.next }
    range.next += 1
    this.count -= 1
    if (range.next > range.last) this.head += 1
    if (this.head > 1_024 && this.head * 2 > this.ranges.length) {
      this.ranges.splice(0, this.head)
      this.head = 0
    }
    return task
  }

  clear(): void {
    this.ranges.length = 0
    this.head = 0
    this.count = 0
  }
}
