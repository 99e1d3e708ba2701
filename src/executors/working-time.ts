/**
 * Until when a runner may work. Its engine says so with every renewal of its lease; an engine that was stopped says
 * nothing and cannot end its runners either, and when its lease has lapsed others begin what they are still at.
 *
 * 1. The time is a point on the machine's clock, not a length: words that wait unread while both are stopped are no renewal.
 * 2. Words that came during a busy loop are heard before it is judged. So a loop that yields too late ends right after
 *    it; one that never yields is ended with its engine.
 * 3. It costs nothing per attempt: one timer, set again with each renewal.
 */
import { monotonicMs } from '../time.ts'

export interface WorkingTimeParts {
  readonly isBusy: () => boolean
  /** Called when the time has passed and something is under way. */
  readonly end: () => void
}

export class WorkingTime {
  private until = Number.POSITIVE_INFINITY
  private timer: NodeJS.Timeout | undefined
  private readonly parts: WorkingTimeParts

  constructor(parts: WorkingTimeParts) {
    this.parts = parts
  }

  /** @param until as `monotonicMs` counts. */
  extend(until: number): void {
    this.until = until
    this.arm()
  }

  /** To be called when something begins, too: nothing ends a runner that had nothing to do when its time passed. */
  look(): void {
    // Timers come before messages in a turn of the event loop, immediates after them.
    if (this.isOver()) setImmediate(() => this.isOver() && this.parts.isBusy() && this.parts.end())
  }

  private arm(): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.wake(), Math.max(0, Math.ceil(this.until - monotonicMs()))).unref()
  }

  /** A timer counts in whole milliseconds of its loop's clock, and so may come up to one too early. */
  private wake(): void {
    if (this.isOver()) this.look()
    else this.arm()
  }

  private isOver(): boolean {
    return monotonicMs() >= this.until
  }
}
