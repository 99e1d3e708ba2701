/** What has arrived and waits for its commit: events, and the requests that brought them. */
import type { SluiceError } from '../../errors.ts'
import type { EventEnd, IngestAnswer } from '../../ports/ingest.ts'
import type { PreparedRow } from '../../ports/sink.ts'

/** An event whose row is ready to be written. */
export interface Accepted {
  /** The record id: given by the client, or made for it. */
  readonly id: string
  /** What its id is remembered as, where the client gave one: an event that comes again has the same. */
  readonly mark: string | undefined
  readonly event: unknown
  readonly row: PreparedRow
  /** Given by the commit. */
  end: EventEnd | undefined
}

/** An event, accepted or ended already. */
export type Arrived = Accepted | EventEnd

export const isAccepted = (arrived: Arrived): arrived is Accepted => 'row' in arrived

/** One request. Its events go into the same group. */
export class Delivery {
  readonly events: readonly Arrived[]
  readonly accepted: readonly Accepted[]
  /** Memory that its rows take. */
  readonly size: number
  readonly #answer: IngestAnswer

  constructor(events: readonly Arrived[], answer: IngestAnswer) {
    this.events = events
    this.accepted = events.filter(isAccepted)
    this.size = this.accepted.reduce((sum, { row }) => sum + row.size, 0)
    this.#answer = answer
  }

  /** After the commit of all that was accepted. */
  settle(): void {
    this.#answer(this.events.map((arrived) => (isAccepted(arrived) ? arrived.end! : arrived)))
  }

  fail(error: SluiceError): void {
    this.#answer(error)
  }
}
