import { performance } from 'node:perf_hooks'
import { FetchFailure } from './fetch-failure.ts'

/** The time that a fetch has; it runs between `run` and `rest`, so that waiting for a turn at a host is not counted. */
export class Deadline {
  readonly #ms: number
  readonly #stop: AbortController
  #timer: NodeJS.Timeout | undefined
  #spentMs = 0
  #runningSince: number | undefined

  constructor(ms: number, stop: AbortController) {
    this.#ms = ms
    this.#stop = stop
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  run(): void {
    if (this.#runningSince !== undefined) return
    this.#runningSince = performance.now()
    this.#timer = setTimeout(
      () => this.#stop.abort(new FetchFailure('timeout', `no whole answer within ${this.#ms} ms`)),
      Math.max(1, this.#ms - this.#spentMs),
    )
  }

  rest(): void {
    this.#spentMs = this.spentMs()
    this.#runningSince = undefined
    clearTimeout(this.#timer)
  }

  /** Milliseconds counted up to `at` of `performance.now()`, which must be since the last `run`. */
  spentMs(at: number = performance.now()): number {
    return this.#spentMs + (this.#runningSince === undefined ? 0 : at - this.#runningSince)
  }
}
