/**
 * What the store, the sinks and the engine need of a PostgreSQL server. SQL is whole, static and named: a statement is
 * prepared once per connection under its name.
 */
export interface Statement<Row = unknown> {
  /** `<table or concept>.<verb>`, unique in the code base; at most 63 bytes. */
  readonly name: string
  readonly text: string
  /** Never set: carries the row's type. */
  readonly row?: Row
}

/** Declares a statement whose rows have the given shape. */
export function statement<Row>(name: string, text: string): Statement<Row> {
  return { name, text }
}

/** Query and copy inside one connection; inside one transaction when it came from `transaction`. */
export interface Session {
  query<Row>(statement: Statement<Row>, values?: readonly unknown[]): Promise<Row[]>
  /** Like `query`, giving the number of rows that were changed or returned. */
  execute(statement: Statement, values?: readonly unknown[]): Promise<number>
  /** COPY ... FROM STDIN with text-format rows; gives the number of rows. */
  copyIn(sql: string, rows: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>): Promise<number>
  /** COPY ... TO STDOUT; `take` gets what the server sends, piece by piece, and is awaited. */
  copyOut(sql: string, take: (piece: Uint8Array) => Promise<void>): Promise<void>
  /** Runs a text of several statements, as of a migration file, without values and without rows. Outside `transaction` the server makes the text one transaction of its own. */
  script(sql: string): Promise<void>
}

/** `values` in their text form, as the server reads it. `rows` in the text format of COPY ... FROM STDIN. */
export type PipelineStep =
  | { readonly statement: Statement; readonly values: readonly (string | null)[] }
  | { readonly copy: string; readonly rows: string }

export interface Database extends Session {
  /** Commits when `work` returns, rolls back when it throws. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>
  /** Calls `onNotify` for each NOTIFY on `channel`, and `onReconnect` after the connection was lost and is back (notifications may have been missed). Gives the function that stops it. */
  listen(channel: string, onNotify: (payload: string) => void, onReconnect?: () => void): Promise<() => Promise<void>>
  close(): Promise<void>
}

/** For hot paths whose commits are the same few statements again and again. */
export interface PipelinedDatabase extends Database {
  /**
   * The steps in their order, in one transaction and one round trip. Rejects when one of them failed; then none is done. What
   * a step must find has to be part of it: nothing is read.
   */
  pipeline(steps: readonly PipelineStep[]): Promise<void>
}
