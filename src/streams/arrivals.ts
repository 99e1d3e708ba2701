/**
 * How records come into a shard: read of the log or loaded of the durable table, and where each goes from there: to its steps,
 * behind its key, to its time, to the table alone, or to its end.
 *
 * 1. Of the records in the durable table it holds a bounded number. The others (see `Apart`) it loads when they are due and
 *    there is room: however many records a dead host has, they take neither memory nor the turn of others.
 * 2. The records of a batch go on in the order of their offsets, in one turn, once the database has said which keys are
 *    known: nothing that ends meanwhile comes between.
 */
import type { Admission } from '../core/admission.ts'
import type { Database } from '../ports/database.ts'
import type { SourceRecord } from '../ports/source.ts'
import { lookUp } from '../store/distinct-keys.ts'
import type { HeldShard } from '../store/shards.ts'
import { type DueRecord, loadDue } from '../store/waiting-records.ts'
import type { Clock } from '../time.ts'
import type { Apart } from './apart.ts'
import type { Entry } from './entry.ts'
import type { Intake } from './intake.ts'
import type { KeyOrder } from './key-order.ts'
import type { RetryLater } from './retry-later.ts'
import type { Window } from './window.ts'

/** The places of a shard in which its records are. */
export interface Places {
  readonly window: Window
  readonly keys: KeyOrder
  readonly admission: Admission<Entry>
  readonly retries: RetryLater
  readonly apart: Apart
}

interface ArrivalParts extends Places {
  readonly database: Database
  readonly shard: HeldShard
  readonly intake: Intake
  readonly distinct: boolean
  /** A group of which as many records wait takes no more while the table is crowded. */
  readonly crowd: number
  readonly clock: Clock
}

export class Arrivals {
  readonly #parts: ArrivalParts
  #over = false

  constructor(parts: ArrivalParts) {
    this.#parts = parts
  }

  /** What is asked of the database at the moment goes nowhere. */
  stop(): void {
    this.#over = true
  }

  /** Records of the table are due, and there is room. */
  get mayLoad(): boolean {
    return this.#parts.apart.isDue && this.#parts.window.loadable > 0
  }

  /** Loads records of the table that are due, as far as there is room. */
  async load(): Promise<void> {
    const { database, shard, window, apart } = this.#parts
    const limit = window.loadable
    const held = window.knownOffsets()
    apart.loading()
    const rows = await loadDue(database, shard, { by: new Date(this.#now()), known: held, limit })
    // By offset: what is behind another of the batch finds that it is held.
    const loaded = rows
      .toSorted((a, b) => a.offset - b.offset)
      .map((row) => ({ entry: this.#fromTable(row), before: row.before ?? undefined }))
    if (rows.length === limit) apart.moreIsDue()
    else await apart.learn(database, shard, window.knownOffsets())
    const known = await this.#known(loaded.map(({ entry }) => entry))
    if (this.#over) return
    for (const { entry, before } of loaded) {
      if (before !== undefined && !window.holds(before)) this.#sendApart(entry)
      else this.dispatch(entry, known.has(entry.key))
    }
  }

  #fromTable(row: DueRecord): Entry {
    const { intake, window } = this.#parts
    const parsed = intake({ offset: row.offset, id: row.recordId, value: row.value })
    // The identity that it was received under stays, whatever the definition says by now.
    const entry = { ...parsed, recordId: row.recordId }
    return window.fromTable(entry, this.#now(), row.attempts, row.dueAt?.getTime() ?? 0)
  }

  /** Takes what was read of the log, in order. */
  async take(received: readonly SourceRecord[]): Promise<void> {
    const { database, shard, intake, window, apart } = this.#parts
    const entries = received.map((record) => {
      const { skipped } = record
      const parsed = intake(record)
      return window.fromLog(skipped === undefined ? parsed : { ...parsed, skipped }, this.#now())
    })
    const known = await this.#known(entries)
    const keys = entries.flatMap(({ key }) => (key === null ? [] : [key]))
    const last = await apart.lastOf(database, shard, keys)
    if (this.#over) return
    const holds = (offset: number) => window.holds(offset)
    for (const entry of entries) {
      const { key } = entry
      const behind = key !== null && apart.joins(key, last.get(key), holds)
      if (entry.fault === undefined && (behind || this.#isTooMuch(entry))) this.#sendApart(entry)
      else this.dispatch(entry, known.has(key))
    }
  }

  /** There is much already that its key or group waits for. */
  #isTooMuch({ key, group }: Entry): boolean {
    const { window, keys, admission, crowd } = this.#parts
    if (!window.crowded) return false
    return (key !== null && keys.isHeld(key)) || admission.waitingOf(group) >= crowd
  }

  #sendApart(entry: Entry): void {
    this.#parts.apart.leaving(entry)
    this.#parts.window.sendApart(entry)
  }

  /** Lets go of records that wait for their time, and of those that are parked behind them: they come again by the table. */
  letGo(entries: readonly Entry[]): void {
    const { window, keys, apart } = this.#parts
    for (const entry of entries) {
      window.letGo(entry)
      apart.put(entry.dueAt)
      for (const parked of keys.putApart(entry)) this.#sendApart(parked)
    }
  }

  /** The keys of which a record ended before, here or elsewhere. */
  async #known(entries: readonly Entry[]): Promise<Set<string | null>> {
    const { database, shard, keys, distinct } = this.#parts
    if (!distinct) return new Set()
    const asked = entries.flatMap(({ key, again }) => (key === null || again ? [] : [key]))
    // A key that is busy now may be ended and committed unseen by the query: no other record of it may start then.
    const busy = asked.filter((key) => keys.isBusy(key))
    const known = await lookUp(database, shard.stream, asked)
    return new Set([...known.keys(), ...busy])
  }

  /** To its steps, behind its key, or to its end. */
  dispatch(entry: Entry, known: boolean): void {
    const { window, keys } = this.#parts
    const way = entry.fault === undefined ? keys.arrive(entry, known) : 'fault'
    if (way === 'fault') window.end(entry, entry.fault!, this.#now())
    else if (way === 'repeat') window.end(entry, { kind: 'repeat' }, this.#now())
    else if (way === 'go') this.offer(entry)
  }

  /** To its steps when it has a place there, and not before its time. */
  offer(entry: Entry): void {
    const { retries, admission } = this.#parts
    if (entry.dueAt > this.#now()) retries.add(entry)
    else admission.offer(entry.group, entry)
  }

  #now(): number {
    return this.#parts.clock.now()
  }
}
