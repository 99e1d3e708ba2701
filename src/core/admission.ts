/**
 * Bounded concurrency with fairness: at most `total` items are under way, at most `each` of one group.
 *
 * 1. Groups that may start something take turns, one item each; within a group the first come is the first to start.
 * 2. A group at its limit, or with nothing waiting, is not in the round: it never holds up another group.
 * 3. A group takes memory only while something of it waits or is under way. All calls are O(1) amortised.
 */
import { SluiceError } from '../errors.ts'
import { Fifo } from './fifo.ts'

/** Whole numbers of 1 or more. */
export interface AdmissionLimits {
  readonly total: number
  readonly each: number
}

interface Group<Item> {
  readonly waiting: Fifo<Item>
  running: number
  inRound: boolean
}

export class Admission<Item extends {}> {
  readonly #limits: AdmissionLimits
  readonly #groups = new Map<string, Group<Item>>()
  /** The groups that may start something, in the order of their turns; each at most once. */
  readonly #round = new Fifo<Group<Item>>()
  #running = 0
  #waiting = 0

  /** @throws SluiceError USAGE when a limit is not a whole number of 1 or more. */
  constructor(limits: AdmissionLimits) {
    for (const name of ['total', 'each'] as const) {
      if (!(Number.isInteger(limits[name]) && limits[name] >= 1)) {
        throw new SluiceError('USAGE', `The limit "${name}" is ${limits[name]}; it must be a whole number of 1 or more`)
      }
    }
    this.#limits = { total: limits.total, each: limits.each }
  }

  /** Items that were offered and not started. */
  get waiting(): number {
    return this.#waiting
  }

  waitingOf(group: string): number {
    return this.#groups.get(group)?.waiting.size ?? 0
  }

  /** Items that were started and not released. */
  get running(): number {
    return this.#running
  }

  /** Groups of which something waits or is under way. */
  get groupCount(): number {
    return this.#groups.size
  }

  offer(group: string, item: Item): void {
    let entry = this.#groups.get(group)
    if (entry === undefined) {
      entry = { waiting: new Fifo(), running: 0, inRound: false }
      this.#groups.set(group, entry)
    }
    entry.waiting.push(item)
    this.#waiting += 1
    this.#joinRound(entry)
  }

  /** The next item to start, which is under way from now on; `undefined` when none may start. */
  next(): Item | undefined {
    if (this.#running >= this.#limits.total) return undefined
    const entry = this.#round.shift()
    if (entry === undefined) return undefined
    const item = entry.waiting.shift()
    entry.inRound = false
    entry.running += 1
    this.#running += 1
    this.#waiting -= 1
    this.#joinRound(entry)
    return item
  }

  /**
   * An item of the group has ended.
   * @throws SluiceError INTERNAL when none of the group is under way.
   */
  release(group: string): void {
    const entry = this.#groups.get(group)
    if (entry === undefined || entry.running === 0) {
      throw new SluiceError('INTERNAL', `Group "${group}" was released and has nothing under way`)
    }
    entry.running -= 1
    this.#running -= 1
    if (entry.running === 0 && entry.waiting.size === 0) this.#groups.delete(group)
    else this.#joinRound(entry)
  }

  #joinRound(entry: Group<Item>): void {
    if (entry.inRound || entry.waiting.size === 0 || entry.running >= this.#limits.each) return
    entry.inRound = true
    this.#round.push(entry)
  }
}
