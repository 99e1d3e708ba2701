/**
 * Runs one attempt of an author's action: arguments and result are validated, the time limit and a cancel abort its
 * signal, and whatever it throws becomes an error of our table.
 */

import { faultsOf } from '../core/input-faults.ts'
import type { AttemptError } from '../core/run-progress.ts'
import { inOneLine, messageOf, SluiceError } from '../errors.ts'
import type { ActionDefinition } from '../sdk/action-definition.ts'
import type { ActionContext } from '../sdk/context.ts'
import { Deferral, Skip } from '../sdk/ends.ts'
import type { Schema } from '../sdk/schema.ts'
import { type Clock, systemClock } from '../time.ts'
import type { AttemptEnd, AttemptStart } from './runner-protocol.ts'

/** Task results up to this many bytes are kept with the task; larger ones become objects. */
export const inlineResultBytes = 256 * 1024
/** No result is larger. */
export const maxResultBytes = 64 * 1024 * 1024
/** What is kept with the task of a result that became an object; its sha256. A result that looks like it becomes one too. */
export const storedResult = /^\{"\$object":"([0-9a-f]{64})","bytes":\d+\}$/
/** Longer timers fire at once. */
const longestTimer = 2 ** 31 - 1

export interface AttemptParts {
  /** Everything of the context but what the attempt itself says. */
  context(start: AttemptStart, signal: AbortSignal): Omit<ActionContext, 'input' | 'run' | 'attempt' | 'signal'>
  /** Stores a large result; gives what is kept with the task instead. */
  storeResult(start: AttemptStart, result: string): Promise<string>
  /** Default: the system's clock. */
  readonly clock?: Clock
}

/** No wait is longer. */
const longestWaitMs = 366 * 24 * 3_600_000

export async function runAttempt(
  start: AttemptStart,
  action: ActionDefinition,
  cancelled: AbortSignal,
  parts: AttemptParts,
): Promise<AttemptEnd> {
  const { token } = start
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(timeLimitPassed(start.timeoutMs)), Math.min(start.timeoutMs, longestTimer))
  try {
    const input = parse(action.options.input, JSON.parse(start.args), 'INPUT_MISMATCH', action.name)
    const signal = AbortSignal.any([limit.signal, cancelled])
    const context: ActionContext = Object.assign(parts.context(start, signal), {
      input,
      signal,
      run: runOf(start),
      attempt: { task: start.nodeId, number: start.attempt, mapIndex: start.mapIndex },
    })
    const returned = await untilAborted(Promise.resolve(action.options.run(context)), signal)
    const result = toJson(parse(action.options.output, returned, 'OUTPUT_MISMATCH', action.name), action.name)
    const inline = Buffer.byteLength(result) <= inlineResultBytes && !storedResult.test(result)
    if (inline) return { token, kind: 'success', result }
    return { token, kind: 'success', result, stored: await parts.storeResult(start, result) }
  } catch (thrown) {
    if (cancelled.aborted) return { token, kind: 'cancelled' }
    if (thrown instanceof Skip) return { token, kind: 'skipped', reason: thrown.message.slice(0, 8_192) }
    if (thrown instanceof Deferral) {
      const { afterMs, wait } = thrown
      const until = (parts.clock ?? systemClock).now() + Math.min(longestWaitMs, Math.max(0, afterMs))
      return { token, kind: 'deferred', until, wait: JSON.stringify({ ...wait, until: new Date(until).toISOString() }) }
    }
    return { token, kind: 'failure', error: attemptError(thrown) }
  } finally {
    clearTimeout(timer)
  }
}

function runOf({ runId, workflow, version, logicalTime }: AttemptStart): ActionContext['run'] {
  return { id: runId, workflow, version, logicalTime: logicalTime === null ? null : new Date(logicalTime) }
}

export function timeLimitPassed(timeoutMs: number): SluiceError {
  return new SluiceError('TIMEOUT', `the attempt took longer than ${timeoutMs} ms`)
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function parse(
  schema: Schema | undefined,
  value: unknown,
  code: 'INPUT_MISMATCH' | 'OUTPUT_MISMATCH',
  action: string,
): unknown {
  if (!schema) return value
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const faults = faultsOf(parsed.error, '')
  const what = code === 'INPUT_MISMATCH' ? 'the arguments' : 'the result'
  throw new SluiceError(code, `${what} of ${action}: ${inOneLine(faults)}`, { faults })
}

function toJson(value: unknown, action: string): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value ?? null)
  } catch (cause) {
    throw new SluiceError('OUTPUT_MISMATCH', `the result of ${action} cannot be written as JSON: ${messageOf(cause)}`, {
      cause,
    })
  }
  if (text === undefined)
    throw new SluiceError('OUTPUT_MISMATCH', `the result of ${action} is a ${typeof value}, not JSON`)
  const bytes = Buffer.byteLength(text)
  if (bytes > maxResultBytes) {
    const detail = `the result of ${action} has ${bytes} bytes; at most ${maxResultBytes} are kept`
    throw new SluiceError('OUTPUT_MISMATCH', detail)
  }
  return text
}

/** Errors of the author's own are tried again, for nobody else can know; ours say themselves. */
export function attemptError(thrown: unknown): AttemptError {
  const known = thrown instanceof SluiceError
  const message = messageOf(thrown).slice(0, 8_192)
  const error = {
    code: known ? thrown.code : ('ACTION_FAILED' as const),
    message,
    retryable: known ? thrown.retryable : true,
  }
  if (!known && thrown instanceof Error && thrown.name !== 'Error') return { ...error, name: thrown.name }
  return known && thrown.retryAfterMs !== undefined ? { ...error, retryAfterMs: thrown.retryAfterMs } : error
}
