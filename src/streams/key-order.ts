/**
 * What a record may do, as far as its key goes.
 *
 * 1. Of the records of one key, one goes on at a time; the others park behind it, in order.
 * 2. In a distinct stream a record of a key whose first record ended is a repeat and goes nowhere. Between the end of a
 *    first and its commit, the database does not know of it: `ended` does.
 */
import { Park } from '../core/park.ts'
import type { Entry } from './entry.ts'

export class KeyOrder {
  readonly #distinct: boolean
  readonly #park = new Park<Entry>()
  /** Keys whose first record ended, until that is committed; with the number of such ends. */
  readonly #ended = new Map<string, number>()

  constructor(distinct: boolean) {
    this.#distinct = distinct
  }

  get parked(): number {
    return this.#park.parkedCount
  }

  /** Whether this shard knows of the key without asking the database. */
  isBusy(key: string): boolean {
    return this.#park.isHeld(key) || this.#ended.has(key)
  }

  /** A record comes. `known`: the key was ended before. */
  arrive(entry: Entry, known: boolean): 'go' | 'parked' | 'repeat' {
    const { key } = entry
    if (key === null) return 'go'
    if (this.#park.isHeld(key)) return this.#park.arrive(key, entry)
    if (this.#distinct && !entry.again && (known || this.#ended.has(key))) return 'repeat'
    entry.leads = true
    return this.#park.arrive(key, entry)
  }

  /** The record that holds its key ended: gives those that end with it, and the one that goes on now. */
  leave(entry: Entry): { readonly repeats: readonly Entry[]; readonly next: Entry | undefined } {
    const { key } = entry
    if (key === null || !entry.leads) return { repeats: [], next: undefined }
    if (this.#distinct) this.#ended.set(key, (this.#ended.get(key) ?? 0) + 1)
    const repeats: Entry[] = []
    let next = this.#park.leave(key)
    while (next !== undefined && this.#distinct && !next.again) {
      repeats.push(next)
      next = this.#park.leave(key)
    }
    if (next !== undefined) next.leads = true
    return { repeats, next }
  }

  /** Whether a record of the key is under way in this shard. */
  isHeld(key: string): boolean {
    return this.#park.isHeld(key)
  }

  /** The record that holds its key is no longer held by the shard: gives those that are parked behind it, in order. */
  putApart(entry: Entry): readonly Entry[] {
    const { key } = entry
    if (key === null || !entry.leads) return []
    entry.leads = false
    return this.#park.leaveAll(key)
  }

  /** The end of a record that held its key is committed: the database knows of it. */
  committed(entry: Entry): void {
    const { key } = entry
    if (key === null || !entry.leads || !this.#distinct) return
    const ends = this.#ended.get(key) ?? 0
    if (ends > 1) this.#ended.set(key, ends - 1)
    else this.#ended.delete(key)
  }
}
