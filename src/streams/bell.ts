/** Wakes one waiter; a ring that nobody waits for is kept for the next wait. */
export class Bell {
  #rung = false
  #waiter: (() => void) | undefined

  ring(): void {
    if (this.#waiter === undefined) {
      this.#rung = true
      return
    }
    const waiter = this.#waiter
    this.#waiter = undefined
    waiter()
  }

  async heard(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => (this.#waiter = resolve))
    this.#rung = false
  }
}
