/**
 * How far the offset of one topic partition may be committed while records end in any order.
 *
 * 1. Offsets are admitted one after another without a gap, from any number up to 2^53 - 1.
 * 2. Each admitted offset is settled once, with its ending.
 * 3. `take` gives every offset once, in order, and only when all below it are settled: what it gives is one commit.
 * 4. `distance` counts what is above the last take, settled or not; whoever reads stops at a limit, so memory is bounded
 *    by that limit. A slow record is settled as waiting once it is in the durable table, and no longer holds the rest.
 * All calls are O(1) amortised.
 */
import { SluiceError } from '../errors.ts'

/** The settled offsets `from <= offset < to`; `endings[i]` is the ending of `from + i`. `to` is the next to be read. */
export interface Taken<Ending> {
  readonly from: number
  readonly to: number
  readonly endings: readonly Ending[]
}

const open = Symbol('admitted and not settled')

export class Watermark<Ending> {
  /** `#slots[#head + i]` is the ending of offset `#from + i`; what is before `#head` was taken. */
  #slots: (Ending | typeof open)[] = []
  #head = 0
  #from = 0
  #open = 0
  #begun = false

  /** Admitted and not settled. */
  get inFlight(): number {
    return this.#open
  }

  /** Admitted and not taken. */
  get distance(): number {
    return this.#slots.length - this.#head
  }

  /** The lowest offset that is not taken; `undefined` before the first was admitted. */
  get position(): number | undefined {
    return this.#begun ? this.#from : undefined
  }

  /** Whether one more offset keeps the distance within `limit`. */
  mayAdmit(limit: number): boolean {
    return this.distance < limit
  }

  /** @throws SluiceError INTERNAL when the offset does not follow the one before. */
  admit(offset: number): void {
    if (!Number.isSafeInteger(offset)) throw new SluiceError('INTERNAL', `${offset} is not an offset`)
    if (!this.#begun) {
      this.#begun = true
      this.#from = offset
    }
    const expected = this.#from + this.distance
    if (offset !== expected) {
      throw new SluiceError('INTERNAL', `Offset ${offset} was admitted where ${expected} comes next`)
    }
    this.#slots.push(open)
    this.#open += 1
  }

  /** @throws SluiceError INTERNAL when the offset is not in flight. */
  settle(offset: number, ending: Ending): void {
    const slot = this.#head + offset - this.#from
    if (this.#slots[slot] !== open) {
      throw new SluiceError('INTERNAL', `Offset ${offset} was settled and is not in flight`)
    }
    this.#slots[slot] = ending
    this.#open -= 1
  }

  /** All that may be committed now; `undefined` when the lowest offset is still in flight or there is none. */
  take(): Taken<Ending> | undefined {
    const end = this.#settledEnd()
    if (end === this.#head) return undefined
    const endings = this.#slots.slice(this.#head, end) as Ending[]
    const from = this.#from
    this.#from += endings.length
    this.#head = end
    if (this.#head * 2 >= this.#slots.length) {
      this.#slots = this.#slots.slice(this.#head)
      this.#head = 0
    }
    return { from, to: this.#from, endings }
  }

  #settledEnd(): number {
    let end = this.#head
    while (end < this.#slots.length && this.#slots[end] !== open) end += 1
    return end
  }
}
