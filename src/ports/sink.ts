/**
 * Where a stream's rows go.
 *
 * `transactional`: the rows are written in the transaction that commits the offset · `idempotent`: they are delivered before it,
 * and delivering one again changes nothing · `at-least-once`: delivering again, after a failure between the two, doubles it.
 */
import type { Session } from './database.ts'

/** A row that is ready to be written: checked, encoded, its long bytes put away. */
export interface PreparedRow {
  readonly key: string
  /** JSON text of everything but byte fields. */
  readonly body: string
  readonly bytes: readonly ByteField[]
  /** Of a table with a key: the text of each column; null is NULL. */
  readonly values?: readonly (string | null)[]
  /** Of a table without a key: the columns as a line of COPY, without its end. */
  readonly line?: string
  /** How much memory it takes until it is written. */
  readonly size: number
}

export type ByteField =
  | { readonly field: string; readonly bytes: Uint8Array }
  | { readonly field: string; readonly object: string; readonly size: number }

/** The sink does not take a row, or the merge of a record failed: the record is rejected. `reason` is a short class. */
export interface Refusal {
  readonly reason: string
  readonly detail: string
}

/** One record of a commit that reaches the sink. */
export interface SinkItem {
  readonly offset: number
  readonly recordId: string
  /** The parsed record, for the merge. */
  readonly record: unknown
  /** sha256 of the objects that the record's steps put: they are kept as long as the row is. */
  readonly objects: readonly string[]
  /** The row; or, of a repeat, the key of the row that the first record led to. */
  readonly target: PreparedRow | { readonly repeats: string }
}

export type SinkEnd = { readonly outcome: 'written' | 'duplicate' } | ({ readonly outcome: 'rejected' } & Refusal)

export type SinkClass = 'transactional' | 'idempotent' | 'at-least-once'

export interface RowCopy {
  readonly sql: string
  line(row: PreparedRow, recordId: string): string
}

export interface Sink {
  readonly class: SinkClass
  /**
   * Looks whether the sink can be written to, before anything is read for it. What it throws says why not: the shard is given
   * up then, and rests. Asking again asks anew only when it has thrown.
   */
  open?(): Promise<void>
  /**
   * Of a sink whose rows never meet others, so that nothing needs to be known before all of them are written: the COPY that takes them,
   * and the line of one. Undefined where rows may be duplicates, and before it was opened.
   */
  copy?(): RowCopy | undefined
  /** The row that the last step returned, made ready outside of any transaction. */
  prepare(row: unknown): Promise<PreparedRow | Refusal> | PreparedRow | Refusal
  /**
   * Of a sink that is not transactional: gives the items that have a row, in the order of their offsets, to where they go, and
   * resolves when all are acknowledged there. Before the transaction; the same items may come again.
   */
  deliver?(
    origin: { readonly stream: string; readonly partition: number },
    items: readonly Pick<SinkItem, 'offset' | 'recordId' | 'record' | 'target'>[],
  ): Promise<void>
  /**
   * Writes the items, given in the order of their offsets; gives one end for each. A key that is there under the same
   * record id and offset is `written`, under another `duplicate`, and then merged. What it throws of SQLSTATE class 22, 23, 44
   * or 54 is about the data of some item: the commit finds it and rejects it.
   */
  write(
    session: Session,
    origin: { readonly stream: string; readonly partition: number },
    items: readonly SinkItem[],
  ): Promise<SinkEnd[]>
}
