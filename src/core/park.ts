/**
 * Order per key: of the records of one key, one goes on at a time and the others park behind it, first come first.
 * A key takes memory only while a record of it is under way; all calls are O(1) amortised.
 */
import { SluiceError } from '../errors.ts'
import { Fifo } from './fifo.ts'

export class Park<Position> {
  /** The held keys; a queue is made when the first record parks. */
  readonly #held = new Map<string, Fifo<Position> | undefined>()
  #parked = 0

  /** Records that wait behind another of their key. */
  get parkedCount(): number {
    return this.#parked
  }

  /** Keys of which a record is under way. */
  get heldCount(): number {
    return this.#held.size
  }

  isHeld(key: string): boolean {
    return this.#held.has(key)
  }

  /** A record comes: it goes on and holds its key, or parks behind those that came before it. */
  arrive(key: string, position: Position): 'go' | 'parked' {
    if (!this.#held.has(key)) {
      this.#held.set(key, undefined)
      return 'go'
    }
    const queue = this.#held.get(key) ?? new Fifo<Position>()
    queue.push(position)
    this.#held.set(key, queue)
    this.#parked += 1
    return 'parked'
  }

  /**
   * The record that holds the key ended: gives the next one, which holds the key from now on, or frees the key.
   * @throws SluiceError INTERNAL when the key is not held.
   */
  leave(key: string): Position | undefined {
    const queue = this.#queueOf(key)
    if (queue === undefined || queue.size === 0) {
      this.#held.delete(key)
      return undefined
    }
    this.#parked -= 1
    return queue.shift()
  }

  /**
   * The record that holds the key ended and all behind it end with it: gives them in order and frees the key.
   * @throws SluiceError INTERNAL when the key is not held.
   */
  leaveAll(key: string): Position[] {
    const positions = this.#queueOf(key)?.drain() ?? []
    this.#held.delete(key)
    this.#parked -= positions.length
    return positions
  }

  #queueOf(key: string): Fifo<Position> | undefined {
    if (!this.#held.has(key)) throw new SluiceError('INTERNAL', `Key "${key}" was left and is not held`)
    return this.#held.get(key)
  }
}
