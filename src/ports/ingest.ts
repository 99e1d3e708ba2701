/** What takes events that arrive by HTTP: declared here, since the API hands them over and the streams store them. */
import type { ErrorCode, Fault, SluiceError } from '../errors.ts'
import type { HttpSource } from '../sdk/http-source.ts'

/** How one event ended. Pointers of `faults` begin at the event: `/token`. */
export type EventEnd =
  | { readonly outcome: 'stored' | 'duplicate'; readonly id: string }
  | {
      readonly outcome: 'rejected'
      readonly code: ErrorCode
      readonly detail: string
      readonly faults: readonly Fault[]
    }

/**
 * Called once: with the end of each event, in order, when all that are stored are committed; or with an error, when it is
 * not known of every event, or the request is turned away.
 */
export type IngestAnswer = (ends: readonly EventEnd[] | SluiceError) => void

export interface IngestRequest {
  /** JSON values. */
  readonly events: readonly unknown[]
  /** The `Idempotency-Key`, if there is one. */
  readonly key: string | undefined
  /** Their text may hold what cannot be kept as it is: each is looked through. */
  readonly suspect: boolean
  readonly batch: boolean
}

/** A stream that is fed by HTTP, in this process. */
export interface IngestPoint {
  readonly stream: string
  readonly source: HttpSource
  take(request: IngestRequest, answer: IngestAnswer): void
}
