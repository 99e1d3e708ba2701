import { FetchFailure } from './fetch-failure.ts'

/** The least that must come of a body. */
export interface LeastPace {
  /** 0: any pace will do. */
  readonly bytes: number
  readonly perMs: number
}

/**
 * Watches that a body comes at a pace: each span of `perMs`, one after another from the head on, brings `bytes` or the
 * end. Who sends much at once and drips afterwards is found as well as who drips from the start.
 */
export class Pace {
  readonly #least: LeastPace
  readonly #onSlow: (failure: FetchFailure) => void
  #bytes = 0
  #timer: NodeJS.Timeout | undefined

  constructor(least: LeastPace, onSlow: (failure: FetchFailure) => void) {
    this.#least = least
    this.#onSlow = onSlow
  }

  start(): void {
    const { bytes, perMs } = this.#least
    if (bytes === 0) return
    this.#timer = setInterval(() => {
      const came = this.#bytes
      this.#bytes = 0
      if (came >= bytes) return
      this.stop()
      const detail = `the body is too slow: ${came} bytes came in ${perMs} ms, ${bytes} are the least`
      this.#onSlow(new FetchFailure('timeout', detail))
    }, perMs)
  }

  came(bytes: number): void {
    this.#bytes += bytes
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
