import { SluiceError } from '../errors.ts'

/** A value of a statement: `null` and `undefined` are NULL, a Date is a timestamp, bytes are bytea, a list is an array, any other object is JSON. */
export type SqlValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Date
  | Uint8Array
  | readonly unknown[]
  | object

/**
 * The server did not do what a statement asked for.
 *
 * `code`: POSTGRES_REFUSED what was to be stored does not fit (SQLSTATE classes 22, 23, 44), trying again does not help ·
 * POSTGRES_FAILED it may succeed when it is tried again: a deadlock or serialization failure, a lock that did not come, a
 * connection that broke (the statement, or the COMMIT, may have been done) · POSTGRES_INVALID all else, such as a wrong name or
 * a missing right.
 */
export class SqlError extends SluiceError {
  /** Five characters, such as `23505`; undefined when the connection broke. */
  readonly sqlState: string | undefined
  /** Of the constraint that was violated. */
  readonly constraint: string | undefined

  constructor(
    code: 'POSTGRES_REFUSED' | 'POSTGRES_FAILED' | 'POSTGRES_INVALID',
    detail: string,
    more: {
      readonly sqlState?: string | undefined
      readonly constraint?: string | undefined
      readonly cause?: unknown
    },
  ) {
    super(code, detail, { cause: more.cause })
    this.sqlState = more.sqlState
    this.constraint = more.constraint
  }
}

export interface SqlQueries {
  /**
   * Runs one statement; gives its rows, none of a statement without any. `$1`, `$2`, ... stand for `values`.
   *
   * Values of rows: int2, int4, float4, float8 and oid are numbers; int8 is a number, or text where it is beyond ±(2^53 - 1);
   * numeric is text; timestamptz is RFC 3339 text in UTC as `toISOString` writes it, with six digits when it has microseconds; date is `YYYY-MM-DD`,
   * timestamp `YYYY-MM-DDTHH:MM:SS[.ffffff]`; json and jsonb are parsed; bytea is a Uint8Array; arrays are lists of these; anything else is text as the
   * server writes it. A list among `values` is an array; for a JSON list pass `JSON.stringify(list)`.
   * @throws SqlError; SluiceError POSTGRES_UNREACHABLE, TIMEOUT, CANCELLED, USAGE (BEGIN, COMMIT and the like), CONNECTION_UNKNOWN, CONFIGURATION
   */
  query<Row extends object = Record<string, unknown>>(sql: string, values?: readonly SqlValue[]): Promise<Row[]>
}

export type IsolationLevel = 'read committed' | 'repeatable read' | 'serializable'

export interface TransactionOptions {
  /** Default `read committed`. The others may fail with POSTGRES_FAILED (SQLSTATE 40001): run the whole transaction again then. */
  readonly isolation?: IsolationLevel
  /** The server refuses writes. Default false. */
  readonly readOnly?: boolean
}

/** What a connection of kind `postgres` gives. A few connections per process are shared by everything that runs in it. */
export interface PostgresClient extends SqlQueries {
  /**
   * Runs `work` in a transaction: commits when it returns, rolls back when it throws. `query` of its argument is inside of the
   * transaction, one statement after another; that of the client is not.
   */
  transaction<T>(work: (transaction: SqlQueries) => Promise<T>, options?: TransactionOptions): Promise<T>
}
