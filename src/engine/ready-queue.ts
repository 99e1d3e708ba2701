/** Tasks of one run that may start, kept as ranges: a mapped node of 100,000 tasks is one entry. Higher priorities first, then in order. */
import type { ReadyRange } from '../core/run-progress.ts'

export interface ReadyTask {
  readonly node: number
  readonly mapIndex: number
}

export class ReadyQueue {
  /** By priority, the highest first. Nearly always there is one. */
  private readonly lines: { readonly priority: number; readonly line: Line }[] = []
  private count = 0

  get size(): number {
    return this.count
  }

  add(range: ReadyRange, priority = 0): void {
    let at = this.lines.findIndex((line) => line.priority <= priority)
    if (at < 0) at = this.lines.length
    if (this.lines[at]?.priority !== priority) this.lines.splice(at, 0, { priority, line: new Line() })
    this.lines[at]!.line.add(range)
    this.count += range.last - range.first + 1
  }

  take(): ReadyTask | undefined {
    for (const { line } of this.lines) {
      const task = line.take()
      if (!task) continue
      this.count -= 1
      return task
    }
    return undefined
  }

  clear(): void {
    this.lines.length = 0
    this.count = 0
  }
}

class Line {
  private readonly ranges: { node: number; next: number; last: number }[] = []
  private head = 0

  add(range: ReadyRange): void {
    this.ranges.push({ node: range.node, next: range.first, last: range.last })
  }

  take(): ReadyTask | undefined {
    const range = this.ranges[this.head]
    if (!range) return undefined
    const task = { node: range.node, mapIndex: range.next }
    range.next += 1
    if (range.next > range.last) this.head += 1
    if (this.head > 1_024 && this.head * 2 > this.ranges.length) {
      this.ranges.splice(0, this.head)
      this.head = 0
    }
    return task
  }
}
