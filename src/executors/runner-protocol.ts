/**
 * What the engine and a runner say to each other. Messages are JSON and travel in batches; arguments and results are
 * JSON text inside them, which the engine never parses unless a later task asks for a part.
 */
import type { AttemptError } from '../core/run-progress.ts'

export interface AttemptStart {
  readonly token: number
  readonly runId: string
  readonly workflow: string
  readonly version: string
  /** Index of the node, and its name. */
  readonly node: number
  readonly nodeId: string
  readonly mapIndex: number
  readonly attempt: number
  /** Of the run, in milliseconds since the epoch. */
  readonly logicalTime: number | null
  /** JSON text. */
  readonly args: string
  readonly timeoutMs: number
}

export type AttemptEnd =
  | { readonly token: number; readonly kind: 'success'; readonly result: string; readonly stored?: string }
  | { readonly token: number; readonly kind: 'failure'; readonly error: AttemptError }
  | { readonly token: number; readonly kind: 'cancelled' }
  | { readonly token: number; readonly kind: 'skipped'; readonly reason: string }
  /** `until` in milliseconds since the epoch; `wait` is JSON text. */
  | { readonly token: number; readonly kind: 'deferred'; readonly until: number; readonly wait: string }

/** Lines of one attempt's log; `seq` counts from 0 within the attempt. */
export interface AttemptLog {
  readonly token: number
  readonly seq: number
  readonly lines: string
}

export interface AttemptProgress {
  readonly token: number
  readonly done: number
  readonly total: number | null
}

export type ToRunner =
  | { readonly t: 'start'; readonly attempts: readonly AttemptStart[] }
  | { readonly t: 'cancel'; readonly tokens: readonly number[] }
  | { readonly t: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly t: 'refuse'; readonly id: number; readonly error: AttemptError }
  | { readonly t: 'ping' }
  /** Until when it may work unless it hears more, in milliseconds of the machine's monotonic clock (`monotonicMs`). */
  | { readonly t: 'lease'; readonly until: number }

export type FromRunner =
  | { readonly t: 'ready' }
  | { readonly t: 'pong'; readonly rss: number }
  | { readonly t: 'ended'; readonly ends: readonly AttemptEnd[] }
  | { readonly t: 'logs'; readonly logs: readonly AttemptLog[] }
  | { readonly t: 'progress'; readonly progress: readonly AttemptProgress[] }
  /** Something only the engine's side may do (it holds the database), on behalf of an attempt. */
  | { readonly t: 'call'; readonly id: number; readonly token: number; readonly name: string; readonly args: unknown }
