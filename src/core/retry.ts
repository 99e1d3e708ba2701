/**
 * When a failed attempt is tried again: exponential back-off with full jitter, as in "Exponential Backoff And Jitter"
 * (AWS Architecture Blog, 2015): the wait is drawn evenly between 0 and `min(maxMs, baseMs * 2^(n-1))` for the n-th
 * failure, which spreads the load of many tasks that failed together better than any fixed wait.
 */
import { inOneLine, SluiceError } from '../errors.ts'
import type { RetryOptions } from '../sdk/action-definition.ts'
import { parseDuration } from '../time.ts'

export interface RetryPolicy {
  /** How many attempts in all, the first one included; 1 means never again. */
  readonly attempts: number
  /** The longest wait after the first failure, in milliseconds; it doubles with each failure. */
  readonly baseMs: number
  /** No wait is longer than this many milliseconds, but for what the other side asked for. */
  readonly maxMs: number
  /**
   * Policies for some errors, by code or by the name of the author's error class; the code comes first where both are
   * there. The last error decides, and all attempts that were made count.
   */
  readonly errors?: Readonly<Record<string, Omit<RetryPolicy, 'errors'>>>
}

/** What of an error the policy looks at. */
export interface FailedWith {
  readonly code: string
  readonly name?: string
  readonly retryAfterMs?: number
}

/** One attempt; where a policy names more, waits of up to 1 s doubling to 5 min. */
export const defaultRetryPolicy: RetryPolicy = Object.freeze({ attempts: 1, baseMs: 1_000, maxMs: 300_000 })

/**
 * What an attempt may lose its runner: 10 times, whatever the author's policy says. A loss is no fault of the task, but
 * a task that kills each of its runners must end some time. The death of a whole host counts, too: nobody can tell one that
 * died under a task from one that the task brought down.
 */
export const lossPolicy: RetryPolicy = Object.freeze({ attempts: 10, baseMs: 1_000, maxMs: 60_000 })

const limits = { attempts: 1_000, waitMs: 7 * 24 * 3_600_000 }

/**
 * A policy with the defaults filled in.
 * @throws SluiceError DEFINITION_INVALID when `attempts` is not a whole number of 1 to 1,000, or `baseMs` and `maxMs`
 *   are not milliseconds of 0 to 7 days with `baseMs <= maxMs`.
 */
export function retryPolicy(given: Partial<RetryPolicy> = {}): RetryPolicy {
  const policy = { ...defaultRetryPolicy, ...given }
  const faults = [
    !(Number.isInteger(policy.attempts) && policy.attempts >= 1 && policy.attempts <= limits.attempts) && {
      where: '/retry/attempts',
      message: `${policy.attempts} is not a whole number from 1 to ${limits.attempts}`,
    },
    ...(['baseMs', 'maxMs'] as const).map(
      (part) =>
        !(policy[part] >= 0 && policy[part] <= limits.waitMs) && {
          where: `/retry/${part}`,
          message: `${policy[part]} is not a number of milliseconds from 0 to ${limits.waitMs} (7 days)`,
        },
    ),
    policy.baseMs > policy.maxMs && {
      where: '/retry/baseMs',
      message: `the first wait (${policy.baseMs} ms) is longer than the longest (${policy.maxMs} ms)`,
    },
  ].filter((fault) => fault !== false)
  if (faults.length > 0) {
    throw new SluiceError('DEFINITION_INVALID', `The retry policy is not valid: ${inOneLine(faults)}`, { faults })
  }
  return policy
}

/**
 * The policy of what an author wrote; `attempts` where nothing is said of them. Waits that begin above 5 min stay as they begin.
 * @throws SluiceError DEFINITION_INVALID, USAGE (a duration that is none)
 */
export function policyOf({ errors, ...options }: RetryOptions, attempts: number): RetryPolicy {
  const policy = plainPolicyOf(options, attempts)
  if (errors === undefined) return policy
  const named = Object.entries(errors)
  if (named.length > maxErrorPolicies) {
    throw new SluiceError('DEFINITION_INVALID', `A retry policy names at most ${maxErrorPolicies} errors`)
  }
  return {
    ...policy,
    errors: Object.fromEntries(
      named.map(([name, own]) => [name, plainPolicyOf({ ...options, ...own }, policy.attempts)]),
    ),
  }
}

const maxErrorPolicies = 50

function plainPolicyOf(options: Omit<RetryOptions, 'errors'>, attempts: number): RetryPolicy {
  const baseMs = options.base === undefined ? defaultRetryPolicy.baseMs : parseDuration(options.base)
  const maxMs = options.max === undefined ? Math.max(baseMs, defaultRetryPolicy.maxMs) : parseDuration(options.max)
  return retryPolicy({ attempts: options.attempts ?? attempts, baseMs, maxMs })
}

export type NextAttempt = { readonly retryAt: number } | 'exhausted'

/**
 * When the next attempt is due after `attemptsMade` (1 or more) attempts failed.
 * @param random gives numbers in [0, 1).
 * @param failed its `retryAfterMs` is what the other side asked to wait: the wait is drawn on top of it, so that many tasks
 *   told the same do not return in one instant. Ignored unless it is a finite number above 0; at most 7 days.
 */
export function nextAttempt(
  policy: RetryPolicy,
  attemptsMade: number,
  now: number,
  random: () => number,
  failed?: FailedWith,
): NextAttempt {
  const { attempts, baseMs, maxMs } = policyFor(policy, failed)
  const retryAfterMs = failed?.retryAfterMs ?? 0
  if (attemptsMade >= attempts) return 'exhausted'
  const longest = Math.min(maxMs, baseMs * 2 ** (attemptsMade - 1))
  const asked = Number.isFinite(retryAfterMs) ? Math.ceil(Math.min(limits.waitMs, Math.max(0, retryAfterMs))) : 0
  return { retryAt: now + asked + Math.round(random() * longest) }
}

function policyFor(policy: RetryPolicy, failed: FailedWith | undefined): RetryPolicy {
  const { errors } = policy
  if (errors === undefined || failed === undefined) return policy
  const found = [failed.code, failed.name].find((name) => name !== undefined && Object.hasOwn(errors, name))
  return found === undefined ? policy : errors[found]!
}

/** When an attempt is due again after `lossesMade` (1 or more) of its task's attempts lost their runner. */
export function nextAfterLoss(lossesMade: number, now: number, random: () => number): NextAttempt {
  return nextAttempt(lossPolicy, lossesMade, now, random)
}
