/**
 * The lane of a process: the shard of a stream that it holds, and the group commits of what arrives.
 *
 * 1. What arrived while the last commit was under way is the next commit. One at a time.
 * 2. A request is answered after the commit of all its events, or with an error: then it is not known to be stored.
 * 3. Bounded: beyond `most` events or bytes in memory, requests are turned away at once.
 * 4. A commit that failed for the connection, or that was fenced, ends the lane: its group is answered with an error, and
 *    the process takes a shard again, under a new epoch. What waited meanwhile goes on if that succeeds at once, else it is
 *    turned away, and so is what comes, until a shard is held again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf, SluiceError } from '../../errors.ts'
import type { Sink } from '../../ports/sink.ts'
import type { HeldShard } from '../../store/shards.ts'
import { monotonicMs } from '../../time.ts'
import type { Delivery } from './arrival.ts'
import type { LaneShard } from './group.ts'
import { type GroupParts, writeGroup } from './write-group.ts'

export interface LaneLimits {
  /** Events in memory, and bytes of their rows. */
  readonly mostEvents: number
  readonly mostBytes: number
  /** In one commit; a single request may have more. */
  readonly groupEvents: number
  readonly groupBytes: number
  /** Between two tries to take a shard. */
  readonly againMs: number
  /** What was rejected is counted after this time at the latest, if nothing else is committed: garbage must not make a row of the ledger each. */
  readonly countMs: number
}

export const defaultLaneLimits: LaneLimits = {
  mostEvents: 50_000,
  mostBytes: 67_108_864,
  groupEvents: 10_000,
  groupBytes: 8_388_608,
  againMs: 500,
  countMs: 1_000,
}

export interface LaneParts extends GroupParts {
  readonly stream: string
  readonly limits: LaneLimits
  /** Once for each time that a shard is taken: what the sink knows of its table is of then. @throws why it cannot be written to */
  openSink(): Promise<Sink>
  /** Takes a shard of the stream that is free, or makes one. */
  take(): Promise<HeldShard>
  give(shard: HeldShard): Promise<void>
  readonly report: (message: string, fields: Record<string, unknown>) => void
}

const tellAgainMs = 10_000

type State = 'opening' | 'open' | 'closed' | 'ended'

export class Lane {
  readonly #parts: LaneParts
  #state: State = 'opening'
  #shard: LaneShard | undefined
  #sink: Sink | undefined
  #waiting: Delivery[] = []
  #events = 0
  #bytes = 0
  /** Events that were rejected since the last commit. */
  #rejected = new Map<string, number>()
  #committing: Promise<void> | undefined
  #counting: NodeJS.Timeout | undefined
  #told = { error: '', at: Number.NEGATIVE_INFINITY }
  #opening: Promise<void> = Promise.resolve()
  readonly #ending = new AbortController()

  constructor(parts: LaneParts) {
    this.#parts = parts
  }

  /** The first try to take a shard; whether it was had. If not, the lane goes on trying. */
  async open(): Promise<boolean> {
    const had = await this.#tryToOpen()
    if (!had) this.#opening = this.#openLater()
    return had
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  get shard(): HeldShard | undefined {
    return this.#shard
  }

  /** What rows are made ready for; undefined before a shard was held for the first time. */
  get sink(): Sink | undefined {
    return this.#sink
  }

  /** What awaits its commit. */
  get inFlight(): number {
    return this.#events
  }

  /** An event was rejected: the next commit counts it. */
  reject(reason: string): void {
    this.#rejected.set(reason, (this.#rejected.get(reason) ?? 0) + 1)
  }

  /** Answers once the delivery is committed; at once when it is turned away, or brought nothing to commit. */
  deliver(delivery: Delivery): void {
    const { length: events } = delivery.accepted
    if (events === 0) {
      delivery.settle()
      this.#countLater()
      return
    }
    const refusal = this.#refusalOf(events, delivery.size)
    if (refusal !== undefined) {
      delivery.fail(refusal)
      return
    }
    this.#waiting.push(delivery)
    this.#events += events
    this.#bytes += delivery.size
    this.#pump()
  }

  /** Another took the shard, or the lease was lost. */
  lost(): void {
    this.#reopen()
  }

  /** Commits what waits and gives the shard back. */
  async close(): Promise<void> {
    while (this.#committing !== undefined) await this.#committing
    clearTimeout(this.#counting)
    this.#pump(true)
    while (this.#committing !== undefined) await this.#committing
    this.#state = 'ended'
    this.#ending.abort()
    await this.#opening
    this.#turnAway(stopping())
    if (this.#shard !== undefined) await this.#parts.give(this.#shard).catch(() => {})
    this.#shard = undefined
  }

  /** What is said to those who come while there is no shard. */
  refusal(): SluiceError {
    return this.#state === 'ended' ? stopping() : unavailable('The store cannot be reached now; send it again', 1_000)
  }

  #refusalOf(events: number, bytes: number): SluiceError | undefined {
    if (this.#state === 'ended' || this.#state === 'closed') return this.refusal()
    const { mostEvents, mostBytes } = this.#parts.limits
    const full = this.#events + events > mostEvents || this.#bytes + bytes > mostBytes
    return full && this.#events > 0
      ? unavailable('Too many events wait for their commit; send it again', 1_000)
      : undefined
  }

  #countLater(): void {
    this.#counting ??= setTimeout(() => {
      this.#counting = undefined
      this.#pump(true)
    }, this.#parts.limits.countMs)
  }

  /** @param count - Also when there is nothing but what was rejected. */
  #pump(count = false): void {
    if (this.#committing !== undefined || this.#state !== 'open') return
    if (this.#waiting.length === 0 && !(count && this.#rejected.size > 0)) return
    this.#committing = this.#commit().finally(() => {
      this.#committing = undefined
      this.#pump()
    })
  }

  async #commit(): Promise<void> {
    // What arrives in this turn of the loop comes along.
    await new Promise(setImmediate)
    if (this.#shard === undefined || this.#sink === undefined) return
    const group = this.#takeGroup()
    const rejected = this.#rejected
    this.#rejected = new Map()
    const accepted = group.length === 1 ? group[0]!.accepted : group.flatMap((delivery) => delivery.accepted)
    try {
      await writeGroup({ ...this.#parts, sink: this.#sink }, this.#shard, { accepted, rejected })
    } catch (thrown) {
      this.#failed(thrown, group, rejected)
      return
    }
    this.#leave(group)
    for (const delivery of group) delivery.settle()
  }

  #takeGroup(): Delivery[] {
    const { groupEvents, groupBytes } = this.#parts.limits
    let [events, bytes, count] = [0, 0, 0]
    for (const { accepted, size } of this.#waiting) {
      if (count > 0 && (events + accepted.length > groupEvents || bytes + size > groupBytes)) break
      events += accepted.length
      bytes += size
      count += 1
    }
    if (count < this.#waiting.length) return this.#waiting.splice(0, count)
    const all = this.#waiting
    this.#waiting = []
    return all
  }

  #leave(group: readonly Delivery[]): void {
    for (const { accepted, size } of group) {
      this.#events -= accepted.length
      this.#bytes -= size
    }
  }

  #failed(thrown: unknown, group: readonly Delivery[], rejected: ReadonlyMap<string, number>): void {
    this.#leave(group)
    // Of a commit of which nobody knows, it is not known whether these were counted; they are no records of anybody's.
    if (!isInDoubt(thrown)) {
      for (const [reason, count] of rejected) this.#rejected.set(reason, (this.#rejected.get(reason) ?? 0) + count)
    }
    this.#report('a group of events could not be committed', thrown)
    const error = unavailable('What was sent could not be stored, or not surely; send it again', 1_000)
    for (const delivery of group) delivery.fail(error)
    if (!isTransient(thrown)) this.#reopen()
  }

  #reopen(): void {
    // A commit that was under way when the shard was lost fails while another is being taken.
    if (this.#state !== 'open') return
    this.#state = 'opening'
    this.#shard = undefined
    this.#opening = this.#tryToOpen().then((had) => (had ? undefined : this.#openLater()))
  }

  async #openLater(): Promise<void> {
    const { signal } = this.#ending
    while (!signal.aborted) {
      await delay(this.#parts.limits.againMs, undefined, { signal }).catch(() => {})
      if (!signal.aborted && (await this.#tryToOpen())) return
    }
  }

  async #tryToOpen(): Promise<boolean> {
    try {
      const sink = await this.#parts.openSink()
      const shard = await this.#parts.take()
      if (this.#state === 'ended') {
        await this.#parts.give(shard).catch(() => {})
        return true
      }
      this.#sink = sink
      this.#shard = { ...shard, knownLately: false }
      this.#state = 'open'
      this.#pump()
      return true
    } catch (thrown) {
      if (this.#state === 'ended') return true
      if (this.#state === 'opening') this.#report('events are turned away: no shard can be taken', thrown)
      this.#state = 'closed'
      this.#turnAway(this.refusal())
      return false
    }
  }

  /** The same again and again is told now and then. */
  #report(message: string, thrown: unknown): void {
    const [error, at] = [messageOf(thrown), monotonicMs()]
    if (error === this.#told.error && at - this.#told.at < tellAgainMs) return
    this.#told = { error, at }
    this.#parts.report(message, { stream: this.#parts.stream, error })
  }

  #turnAway(error: SluiceError): void {
    const group = this.#waiting
    this.#waiting = []
    this.#leave(group)
    for (const delivery of group) delivery.fail(error)
  }
}

/** After a failure of the connection nobody knows how the commit ended. */
const isInDoubt = (thrown: unknown): boolean => thrown instanceof SluiceError && thrown.code !== 'FENCED'

/** Rolled back for the sake of others, or a statement or lock that took too long: nothing is wrong with the lane. */
const isTransient = (thrown: unknown): boolean =>
  thrown instanceof Error && 'code' in thrown && /^(40...|55P03|57014)$/.test(String(thrown.code))

const unavailable = (detail: string, retryAfterMs: number) => new SluiceError('UNAVAILABLE', detail, { retryAfterMs })
const stopping = () => unavailable('The server stops; send it again', 1_000)
