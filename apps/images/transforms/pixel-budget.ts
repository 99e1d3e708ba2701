/**
 * Lets work in while its pixels fit, first come, first served. Whoever alone is over the budget goes in alone, so that
 * nothing waits for ever.
 */
export class PixelBudget {
  readonly #limit: number
  #used = 0
  readonly #waiting: { pixels: number; start: () => void }[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  get used(): number {
    return this.#used
  }

  /** Resolves with the function that gives the pixels back. */
  enter(pixels: number): Promise<() => void> {
    return new Promise((resolve) => {
      const start = () => {
        this.#used += pixels
        resolve(() => {
          this.#used -= pixels
          this.#serve()
        })
      }
      this.#waiting.push({ pixels, start })
      this.#serve()
    })
  }

  #serve(): void {
    for (;;) {
      const next = this.#waiting[0]
      if (!next || (this.#used > 0 && this.#used + next.pixels > this.#limit)) return
      this.#waiting.shift()
      next.start()
    }
  }
}
