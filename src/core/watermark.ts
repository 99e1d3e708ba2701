/**
 * How far the offset of one topic partition may be committed while records end in any order.
 *
 * 1. Offsets are admitted in ascending order, from any number up to 2^53 - 1; there may be gaps between them.
 * 2. Each admitted offset is settled once, with its ending.
 * 3. `take` gives every offset once, in order, and only when all below it are settled: what it gives is one commit.
 * 4. `distance` counts what is above the last take, settled or not; whoever reads stops at a limit, so memory is bounded
 *    by that limit. A slow record is settled as waiting once it is in the durable table, and no longer holds the rest.
 * All calls are O(1) amortised.
 */
import { SluiceError } from '../errors.ts'

/** What may be committed: all that was admitted below `to` and not taken before. `to` is one above the last. */
export interface Taken<Ending> {
  readonly to: number
  readonly endings: readonly Ending[]
}

const open = Symbol('admitted and not settled')

export class Watermark<Ending> {
  /** What was admitted and not taken, in ascending order. */
  readonly #slots = new Map<number, Ending | typeof open>()
  #last = Number.NEGATIVE_INFINITY
  #open = 0

  /** Admitted and not settled. */
  get inFlight(): number {
    return this.#open
  }

  /** Admitted and not taken. */
  get distance(): number {
    return this.#slots.size
  }

  /** Whether one more offset keeps the distance within `limit`. */
  mayAdmit(limit: number): boolean {
    return this.distance < limit
  }

  /** @throws SluiceError INTERNAL when the offset is not above the one before. */
  admit(offset: number): void {
    if (!Number.isSafeInteger(offset)) throw new SluiceError('INTERNAL', `${offset} is not an offset`)
    if (offset <= this.#last) {
      throw new SluiceError('INTERNAL', `Offset ${offset} was admitted after ${this.#last}`)
    }
    this.#last = offset
    this.#slots.set(offset, open)
    this.#open += 1
  }

  /** @throws SluiceError INTERNAL when the offset is not in flight. */
  settle(offset: number, ending: Ending): void {
    if (this.#slots.get(offset) !== open) {
      throw new SluiceError('INTERNAL', `Offset ${offset} was settled and is not in flight`)
    }
    this.#slots.set(offset, ending)
    this.#open -= 1
  }

  /** All that may be committed now; `undefined` when the lowest offset is still in flight or there is none. */
  take(): Taken<Ending> | undefined {
    const endings: Ending[] = []
    let to = 0
    for (const [offset, slot] of this.#slots) {
      if (slot === open) break
      endings.push(slot)
      to = offset + 1
      this.#slots.delete(offset)
    }
    return endings.length === 0 ? undefined : { to, endings }
  }
}
