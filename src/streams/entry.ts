/** A record in the hands of a shard, and how it may end. */
import type { SkippedTicks } from '../core/due-ticks.ts'
import type { PreparedRow } from '../ports/sink.ts'

/** What is known of a record once it is parsed; a record that is not a good one has a `fault` instead. */
export interface Parsed {
  readonly offset: number
  /** The identity that the stream gives it; the id it was published under when it cannot give one. */
  readonly recordId: string
  /** JSON text, as it was published. */
  readonly value: string
  readonly record: unknown
  readonly key: string | null
  /** Of a distinct stream: it goes through the steps also when its key is known. */
  readonly again: boolean
  /** Which group's concurrency it takes. */
  readonly group: string
  readonly fault: End | undefined
  /** Ticks of a timer before it that became no record. */
  readonly skipped?: SkippedTicks
}

export type End =
  /** The steps gave a row. `objects` are those that they put. */
  | { readonly kind: 'row'; readonly row: PreparedRow; readonly objects: readonly string[] }
  | { readonly kind: 'filtered' }
  | { readonly kind: 'rejected'; readonly reason: string; readonly detail: string | null }
  | { readonly kind: 'dead'; readonly reason: string; readonly detail: string; readonly attempts: number }
  /** It failed and is tried again. `dueAt` in milliseconds since the epoch. */
  | {
      readonly kind: 'retry'
      readonly reason: string
      readonly detail: string
      readonly attempts: number
      readonly dueAt: number
    }
  /** It goes on in the durable table, so that it does not hold up the offset. */
  | { readonly kind: 'waiting' }
  /** Of a distinct stream: it ends as the first record of its key has ended. */
  | { readonly kind: 'repeat' }

/**
 * Where a record is kept.
 * `log`: only in the topic, its end is open · `ended`: its end awaits the commit that passes it · `moved`: the next commit, or that
 * under way, moves it to the table · `table`: in the durable table.
 */
export type Place = 'log' | 'ended' | 'moved' | 'table'

export interface Entry extends Parsed {
  place: Place
  /** The end that the next commit takes. */
  end: End | undefined
  /** Attempts that failed. */
  attempts: number
  /** Not tried before this time; milliseconds since the epoch. */
  dueAt: number
  readonly readAt: number
  endedAt: number
  /** It holds its key: it ended, or will, by its own steps. */
  leads: boolean
  /** Once its row is in the durable table, it is held no more. */
  apart: boolean
}

/** UTF-8 bytes of ids and keys at most, so that they fit an index; longer ones are named by their hash. */
export const maxNameBytes = 1_000
