import type { Duration } from '../time.ts'
import type { ActionContext } from './context.ts'
import type { Schema } from './schema.ts'

export interface RetryOptions {
  /** How often it is tried in all; 1 to 100, default 1. */
  readonly attempts?: number
  /** The first delay is at most this; it doubles from attempt to attempt, with full jitter. Default `1s`. */
  readonly base?: Duration
  /** No delay is longer than this. Default `5m`. */
  readonly max?: Duration
  /**
   * Other policies for some errors, by code (`TIMEOUT`) or by the name of the error class that was thrown; what they leave
   * out is as above. `{ attempts: 1 }` means: not again.
   */
  readonly errors?: Readonly<Record<string, Omit<RetryOptions, 'errors'>>>
}

export interface ActionOptions<In, Input, Output> {
  readonly input?: Schema<Input, In>
  readonly output?: Schema<Output>
  readonly retry?: RetryOptions
  /** The time limit of one attempt; default `1h`. */
  readonly timeout?: Duration
  /** The time limit of a task over all its attempts, and the waits between them; default: none. */
  readonly within?: Duration
  /** `process` gives each attempt a process of its own; default `shared`. */
  readonly isolation?: 'shared' | 'process'
  run(context: ActionContext<Input>): Promise<Output> | Output
}

export interface ActionDefinition {
  readonly name: string
  readonly options: ActionOptions<unknown, unknown, unknown>
}
