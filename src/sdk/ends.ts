/** How an action ends its attempt other than by returning or failing. */
import { type Duration, parseDuration } from '../time.ts'

/** Thrown by an action: its task is skipped, and so is, by the default rule, what comes after it. */
export class Skip extends Error {
  override readonly name = 'Skip'
}

/** To be thrown: `throw skip('nothing came today')`. */
export function skip(reason: string): Skip {
  return new Skip(reason)
}

/**
 * Thrown to give the runner back: the task is deferred and its next attempt begins later. `sleep` and sensors throw it;
 * do not catch it.
 */
export class Deferral extends Error {
  override readonly name = 'Deferral'
  readonly afterMs: number
  /** Shown to people; JSON. */
  readonly wait: Readonly<Record<string, unknown>>

  constructor(afterMs: number, wait: Readonly<Record<string, unknown>>) {
    super('the attempt waits; what it throws for that must not be caught')
    this.afterMs = afterMs
    this.wait = wait
  }
}

/** To be thrown: the task goes on with another attempt after so long, and holds no runner until then. */
export function defer(duration: Duration, reason = ''): Deferral {
  return new Deferral(parseDuration(duration), { kind: 'defer', ...(reason === '' ? {} : { reason }) })
}
