/**
 * One shard in the hands of its holder: takes records in (see `Arrivals`), runs their steps, commits their ends.
 *
 * 1. Two loops: one reads while there is room, one commits; what ends while a commit is under way is the next commit.
 *    Each sleeps until it is woken: by a notification, a finished record, a retry that is due.
 * 2. Memory follows the database: an end is acted upon for others only once it is committed, but for the order within
 *    a key. Any failure of the database gives the shard up; its next holder goes on from what is committed.
 * 3. A record that holds up finished ones moves to the durable table (see `Window.moveBlockers`); while something is
 *    held up, a timer looks for such records.
 */
import { Admission } from '../core/admission.ts'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { Sink } from '../ports/sink.ts'
import type { Source, SourceReader } from '../ports/source.ts'
import type { Capabilities } from '../sdk/context.ts'
import type { Stream } from '../sdk/stream.ts'
import { type Advance, advance, type HeldShard } from '../store/shards.ts'
import { openRecords } from '../store/waiting-records.ts'
import type { Clock } from '../time.ts'
import { Apart } from './apart.ts'
import { Arrivals } from './arrivals.ts'
import { Bell } from './bell.ts'
import { commit, type Ended } from './commit.ts'
import type { End, Entry } from './entry.ts'
import { intakeOf } from './intake.ts'
import { KeyOrder } from './key-order.ts'
import { defaultLimits, type ShardLimits } from './limits.ts'
import { RetryLater } from './retry-later.ts'
import { StepRunner } from './run-steps.ts'
import { Window } from './window.ts'

/** How often the offset moves on without a record. */
const passEveryMs = 10_000

export interface ShardParts {
  readonly database: Database
  readonly stream: Stream
  readonly shard: HeldShard
  readonly source: Source
  readonly sink: Sink
  readonly capabilities: (signal: AbortSignal) => Capabilities
  readonly clock: Clock
  readonly random: () => number
  readonly redact?: ((text: string) => string) | undefined
  readonly limits?: Partial<ShardLimits>
  /** Begins without reading: see `hold`. */
  readonly holding?: number | undefined
}

export class Shard {
  readonly id: HeldShard
  /** Resolves when the shard does nothing any more, with the failure that ended it, if one did. */
  readonly closed: Promise<unknown>
  readonly #parts: ShardParts
  readonly #limits: ShardLimits
  readonly #reader: SourceReader
  readonly #distinct: boolean
  readonly #window: Window
  readonly #keys: KeyOrder
  readonly #admission: Admission<Entry>
  readonly #retries: RetryLater
  readonly #apart: Apart
  readonly #arrivals: Arrivals
  readonly #steps: StepRunner
  readonly #readBell = new Bell()
  readonly #commitBell = new Bell()
  readonly #quiet = new Set<() => void>()
  #inspection: NodeJS.Timeout | undefined
  #inspect = false
  #readOffset: number
  #committedOffset: number
  /** When the offset moved on without a record, or it was opened. */
  #passedAt: number
  /** The last read found nothing, and nobody said since that there may be something. */
  #caughtUp = false
  #woken = false
  #committing = false
  #pumping = false
  #draining = false
  #holding: number | undefined
  #reading = false
  /** The deadline of a drain passed: what is still in its steps is not waited for. */
  #stopped = false
  #over = false
  #failure: unknown

  constructor(parts: ShardParts) {
    this.#parts = parts
    this.id = parts.shard
    const { concurrency, distinct } = parts.stream.options
    const total = concurrency?.total ?? 64
    this.#limits = { ...defaultLimits, ...parts.limits }
    this.#distinct = distinct !== undefined && distinct !== false
    this.#window = new Window(this.#limits)
    this.#keys = new KeyOrder(this.#distinct)
    this.#admission = new Admission({ total, each: Math.min(total, concurrency?.each ?? total) })
    this.#retries = new RetryLater(parts.clock, () => this.#startDue())
    this.#apart = new Apart(parts.clock, () => this.#readBell.ring())
    this.#arrivals = new Arrivals({
      ...{ database: parts.database, shard: parts.shard, clock: parts.clock, intake: intakeOf(parts.stream) },
      ...{ window: this.#window, keys: this.#keys, admission: this.#admission },
      ...{ retries: this.#retries, apart: this.#apart },
      distinct: this.#distinct,
      crowd: this.#limits.readRecords,
    })
    this.#steps = new StepRunner(parts)
    this.#holding = parts.holding
    this.#readOffset = parts.shard.committedOffset
    this.#committedOffset = parts.shard.committedOffset
    this.#passedAt = this.#now()
    this.#reader = parts.source.open(parts.shard.partition, parts.shard.committedOffset, () => this.wake())
    this.closed = Promise.all([this.#loop(() => this.#read()), this.#loop(() => this.#commit())]).then(async () => {
      await this.#reader.close()
      return this.#failure
    })
  }

  /** In their steps, and parked behind their key. */
  get inFlight(): number {
    return this.#admission.running
  }

  get parked(): number {
    return this.#keys.parked
  }

  /** What its source tells of itself, and whether it is drained, for figures. */
  get told(): Pick<SourceReader, 'end' | 'figures'> & { readonly drained: number | undefined } {
    const { end, figures } = this.#reader
    const quiet = !this.#reading && this.#window.distance === 0
    return { end, figures, drained: quiet ? this.#holding : undefined }
  }

  /** Records in memory. */
  get held(): number {
    return this.#window.distance + this.#window.waiting
  }

  /** Something may have been published. */
  wake(): void {
    this.#caughtUp = false
    this.#woken = true
    this.#readBell.ring()
    if (this.#retries.size > 0) this.#startDue()
  }

  /**
   * While it holds, it reads nothing more of its source; what it has taken in goes on, that of the durable table too.
   * @param holding - The change of mode that asks for it; undefined: it reads.
   */
  hold(holding: number | undefined): void {
    if (holding === this.#holding) return
    this.#holding = holding
    this.wake()
  }

  /** Something may have been put into the durable table. */
  reload(): void {
    this.#apart.look()
    this.wake()
  }

  /** Resolves when everything published by now has ended and is committed, retries and all; never when the shard is given up. */
  settled(): Promise<void> {
    this.reload()
    return new Promise((resolve) => {
      this.#quiet.add(resolve)
    })
  }

  /** Takes in no more, lets what is in its steps end for up to `deadlineMs`, and commits what ended. */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true
    this.#readBell.ring()
    this.#commitBell.ring()
    const deadline = setTimeout(() => {
      this.#steps.stop()
      this.#stopped = true
      this.#commitBell.ring()
    }, deadlineMs)
    await this.closed
    clearTimeout(deadline)
  }

  /** Gives everything up at once; what is not committed is as if it had not been. */
  drop(): void {
    this.#end(undefined)
  }

  async #loop(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (thrown) {
      this.#end(thrown)
    }
  }

  #end(failure: unknown): void {
    if (this.#over) return
    this.#over = true
    this.#failure = failure
    this.#arrivals.stop()
    this.#steps.stop()
    this.#retries.stop()
    this.#apart.stop()
    clearTimeout(this.#inspection)
    this.#readBell.ring()
    this.#commitBell.ring()
  }

  async #read(): Promise<void> {
    await this.#parts.sink.open?.()
    if (this.#reader.resume !== undefined) this.#reader.resume(await openRecords(this.#parts.database, this.id))
    while (!this.#over && !this.#draining) {
      if (this.#arrivals.mayLoad) {
        await this.#arrivals.load()
        this.#goAhead()
      }
      const room = this.#holding === undefined ? this.#window.room : undefined
      this.#reading = room !== undefined
      if (room === undefined) {
        if (!this.#arrivals.mayLoad) await this.#readBell.heard()
        continue
      }
      this.#woken = false
      const { records: received, next } = await this.#reader.read(this.#readOffset, room)
      const passed = next > this.#readOffset
      this.#readOffset = next
      if (received.length > 0) {
        this.#caughtUp = false
        await this.#arrivals.take(received)
        this.#goAhead()
      } else if (!passed && !this.#arrivals.mayLoad) {
        this.#caughtUp = !this.#woken
        this.#tellQuiet()
        if (this.#mayPass(false)) this.#commitBell.ring()
        await this.#readBell.heard()
      }
    }
  }

  #goAhead(): void {
    this.#pump()
    this.#commitBell.ring()
  }

  #startDue(): void {
    if (this.#over) return
    for (const entry of this.#retries.takeDue()) this.#admission.offer(entry.group, entry)
    this.#pump()
  }

  /** Starts what may start; one at least if `force` is set. */
  #pump(force = false): void {
    if (this.#pumping) return
    this.#pumping = true
    for (let first = force; !this.#over && !this.#draining && (first || this.#window.mayRun); first = false) {
      const entry = this.#admission.next()
      if (entry === undefined) break
      const end = this.#steps.run(entry)
      if (end instanceof Promise) {
        end.then((late) => this.#finished(entry, late)).catch((thrown: unknown) => this.#end(thrown))
      } else this.#finished(entry, end)
    }
    this.#pumping = false
  }

  #finished(entry: Entry, end: End | undefined): void {
    this.#admission.release(entry.group)
    if (end !== undefined && !this.#over) {
      this.#window.end(entry, end, this.#now())
      if (end.kind !== 'retry') this.#leaveKey(entry)
    }
    this.#pump()
    this.#commitBell.ring()
  }

  #leaveKey(entry: Entry): void {
    const { repeats, next } = this.#keys.leave(entry)
    for (const repeat of repeats) this.#window.end(repeat, { kind: 'repeat' }, this.#now())
    if (next !== undefined) this.#arrivals.offer(next)
  }

  async #commit(): Promise<void> {
    while (!this.#over) {
      const last = this.#draining && (this.#admission.running === 0 || this.#stopped)
      if (this.#inspect || last || !this.#window.mayRun) this.#moveBlockers(last)
      const ended = this.#window.take()
      if (!last) this.#inspectLater()
      if (ended.length > 0) await this.#commitGroup(ended)
      else if (this.#mayPass(last)) await this.#pass()
      else if (last) return this.#end(undefined)
      else {
        // Too many rows wait for a record that waits for its turn, and there is no room to move it.
        if (!this.#window.mayRun && this.#admission.running === 0) this.#pump(true)
        this.#tellQuiet()
        await this.#commitBell.heard()
      }
    }
  }

  #moveBlockers(last: boolean): void {
    this.#inspect = false
    // After #pump, a free place means that nothing of what was read may take it.
    const starving = this.#admission.running < (this.#parts.stream.options.concurrency?.total ?? 64)
    this.#window.moveBlockers(this.#now(), { starving, all: last })
  }

  /** While records are held up, looks for what holds them up. */
  #inspectLater(): void {
    if (this.#window.distance === 0 || this.#inspection !== undefined) return
    this.#inspection = setTimeout(() => {
      this.#inspection = undefined
      this.#inspect = true
      this.#commitBell.ring()
    }, this.#limits.moveAfterMs / 2)
  }

  get #guard(): Omit<Advance, 'to'> {
    const { stream, partition, epoch } = this.id
    return {
      ...{ stream, partition, epoch, from: this.#committedOffset, inFlight: this.inFlight, parked: this.parked },
      timed: this.#parts.stream.options.from.kind === 'timer',
    }
  }

  /** Whether the offset may move on without a record: the source has none there. At once when drained, else now and then. */
  #mayPass(last: boolean): boolean {
    if (this.#window.distance > 0 || this.#readOffset === this.#committedOffset) return false
    return last || this.#now() - this.#passedAt >= passEveryMs
  }

  async #pass(): Promise<void> {
    const to = this.#readOffset
    await this.#parts.database.transaction((session) => advance(session, { ...this.#guard, to }))
    this.#committedOffset = to
    this.#passedAt = this.#now()
  }

  async #commitGroup(ended: readonly Ended[]): Promise<void> {
    this.#committing = true
    const { database, sink } = this.#parts
    const parts = { database, sink, distinct: this.#distinct, apart: this.#apart.any }
    const { outcomes, woken } = await commit(parts, this.#guard, ended)
    this.#committing = false
    if (this.#over) return
    for (const item of ended) {
      const outcome = outcomes.get(item.entry)
      if (outcome === undefined) throw new SluiceError('INTERNAL', `No outcome for offset ${item.entry.offset}`)
      if (!item.late) this.#committedOffset = item.entry.offset + 1
      this.#window.committed(item, outcome)
      this.#goOn(item, outcome !== 'waiting')
    }
    if (woken) this.#apart.moreIsDue()
    if (this.#window.crowded) this.#arrivals.letGo(this.#retries.takeAll())
    this.#readBell.ring()
    this.#pump()
  }

  /** What a record does after a commit that it was in. */
  #goOn({ entry, end }: Ended, over: boolean): void {
    if (over) {
      this.#keys.committed(entry)
      this.#reader.ended?.(entry.offset)
    } else if (entry.apart) this.#apart.left(entry)
    else if (end.kind === 'retry') {
      entry.attempts = end.attempts
      entry.dueAt = end.dueAt
      this.#arrivals.offer(entry)
    } else if (end.kind !== 'waiting') {
      // A repeat whose first record is no longer known, since it is replayed: it takes its turn.
      this.#keys.committed(entry)
      entry.leads = false
      if (this.#apart.any) this.#arrivals.letGo([entry])
      else this.#arrivals.dispatch(entry, false)
    }
  }

  #tellQuiet(): void {
    if (!this.#caughtUp || this.#apart.any || this.#committing || !this.#window.empty) return
    for (const resolve of this.#quiet) resolve()
    this.#quiet.clear()
  }

  #now(): number {
    return this.#parts.clock.now()
  }
}
