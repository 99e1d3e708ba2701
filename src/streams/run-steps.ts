/**
 * Takes a record through the steps of its stream and says how it ended.
 *
 * 1. Steps that return at once cost no turn of the event loop; a time limit is set only when one does not.
 * 2. A record whose time limit passed has failed, and its place is free, whether or not its step heeds the signal.
 */
import { nextAttempt, policyOf, type RetryPolicy } from '../core/retry.ts'
import { type ErrorCode, messageOf, SluiceError } from '../errors.ts'
import type { Sink } from '../ports/sink.ts'
import type { Capabilities } from '../sdk/context.ts'
import type { Stream } from '../sdk/stream.ts'
import { type Clock, parseDuration } from '../time.ts'
import type { End, Entry } from './entry.ts'
import { Filtered, RecordContext, Rejection } from './step-context.ts'

export interface StepParts {
  readonly stream: Stream
  readonly sink: Sink
  readonly capabilities: (signal: AbortSignal) => Capabilities
  readonly clock: Clock
  /** Gives numbers in [0, 1). */
  readonly random: () => number
  /** What an author's function throws may quote what it was given; default as it is. */
  readonly redact?: ((text: string) => string) | undefined
}

/** Of a stream that says nothing. */
const attempts = 5
/** What could not be tried, and was not told for how long, is tried again after this many milliseconds at most. */
const untoldMs = 5_000

export class StepRunner {
  readonly #parts: StepParts
  readonly #policy: RetryPolicy
  readonly #timeoutMs: number
  /** The contexts of records whose steps take time. */
  readonly #open = new Set<RecordContext>()
  #stopped = false

  constructor(parts: StepParts) {
    this.#parts = parts
    this.#policy = policyOf(parts.stream.options.retry ?? {}, attempts)
    this.#timeoutMs = parseDuration(parts.stream.options.timeout ?? '2m')
  }

  /** Aborts what is under way; it ends with `undefined`, as does what ends afterwards by itself. */
  stop(): void {
    this.#stopped = true
    const reason = new SluiceError('CANCELLED', 'The shard is given up')
    for (const context of this.#open) context.abort(reason)
  }

  /** How the record ended; `undefined` when it was stopped, and is open as before. Never throws or rejects. */
  run(entry: Entry): Promise<End | undefined> | End | undefined {
    const context = new RecordContext(entry.record, entry.attempts + 1, this.#parts.capabilities)
    try {
      const end = this.#from(0, entry.record, context)
      return end instanceof Promise ? this.#within(end, entry, context) : end
    } catch (thrown) {
      return this.#failed(entry, thrown)
    }
  }

  #from(start: number, given: unknown, context: RecordContext): Promise<End> | End {
    const { steps } = this.#parts.stream
    let row = given
    for (let index = start; index < steps.length; index += 1) {
      const next = steps[index]!.work(row, context as never)
      if (isThenable(next)) return Promise.resolve(next).then((value) => this.#from(index + 1, value, context))
      row = next
    }
    const prepared = this.#parts.sink.prepare(row)
    return prepared instanceof Promise ? prepared.then((ready) => endOf(ready, context)) : endOf(prepared, context)
  }

  #within(working: Promise<End>, entry: Entry, context: RecordContext): Promise<End | undefined> {
    this.#open.add(context)
    return new Promise((resolve) => {
      const finish = (end: End | undefined) => {
        clearTimeout(timer)
        this.#open.delete(context)
        resolve(this.#stopped && end?.kind !== 'row' ? undefined : end)
      }
      const timer = setTimeout(() => {
        const late = new SluiceError('TIMEOUT', `The steps took longer than ${this.#timeoutMs} ms`)
        context.abort(late)
        finish(this.#failed(entry, late))
      }, this.#timeoutMs)
      working.then(finish, (thrown: unknown) => finish(this.#failed(entry, thrown)))
    })
  }

  #failed(entry: Entry, thrown: unknown): End {
    if (thrown instanceof Filtered) return { kind: 'filtered' }
    const { redact = (text: string) => text } = this.#parts
    if (thrown instanceof Rejection) {
      const detail = thrown.detail === undefined ? null : redact(thrown.detail)
      return { kind: 'rejected', reason: redact(thrown.reason), detail }
    }
    const reason = thrown instanceof SluiceError ? classOf(thrown.code) : 'failed'
    const detail = redact(messageOf(thrown))
    const attempts = entry.attempts + 1
    if (thrown instanceof SluiceError && !thrown.retryable && thrown.code !== 'CANCELLED') {
      // What is wrong with the record is rejected; what is wrong with the deployment can be replayed when it is mended.
      return thrown.status < 500 ? { kind: 'rejected', reason, detail } : { kind: 'dead', reason, detail, attempts }
    }
    const asked = thrown instanceof SluiceError ? thrown.retryAfterMs : undefined
    if (thrown instanceof SluiceError && !thrown.isAttempt) {
      const { clock, random } = this.#parts
      const waitMs = asked ?? Math.min(untoldMs, this.#policy.maxMs)
      const dueAt = clock.now() + waitMs + Math.round(random() * this.#policy.baseMs)
      return { kind: 'retry', reason, detail, attempts: entry.attempts, dueAt }
    }
    const failed = { code: reason, ...(asked === undefined ? {} : { retryAfterMs: asked }) }
    const next = nextAttempt(this.#policy, attempts, this.#parts.clock.now(), this.#parts.random, failed)
    if (next === 'exhausted') return { kind: 'dead', reason, detail, attempts }
    return { kind: 'retry', reason, detail, attempts, dueAt: next.retryAt }
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'

const endOf = (prepared: Awaited<ReturnType<Sink['prepare']>>, context: RecordContext): End =>
  'reason' in prepared ? { kind: 'rejected', ...prepared } : { kind: 'row', row: prepared, objects: context.put }

/** `ADDRESS_BLOCKED` is the reason `address blocked`. */
const classOf = (code: ErrorCode): string => code.toLowerCase().replaceAll('_', ' ')
