import pg, { type ClientConfig } from 'pg'
import { SluiceError } from '../errors.ts'

export interface ConnectionOptions {
  /** `postgresql://user:password@host:port/database`; instead of the four below. */
  readonly url?: string
  /** Folder of the server's Unix socket. */
  readonly socketDir?: string
  readonly database?: string
  readonly user?: string
  readonly password?: string
  /** Shown in `pg_stat_activity`. */
  readonly applicationName: string
  /** The server ends a statement that takes longer; default none. */
  readonly statementTimeoutMs?: number
  /** The server ends a statement that waits longer than this for a lock; default none. */
  readonly lockTimeoutMs?: number
  /**
   * Every statement is planned once, with index look-ups only. For statements with arrays on tables that grow: planned
   * while a table is small, a join by scans stays in use when it is large (measured: 5 s in place of 0.6 s a run).
   */
  readonly lookupsOnly?: boolean
  /**
   * A connection that does not answer a statement for this long is destroyed, and the statement fails with
   * DATABASE_UNREACHABLE; default 5 s more than `statementTimeoutMs`, without it 2 min. A script has an hour.
   */
  readonly answerTimeoutMs?: number
  /** The server ends a transaction of ours that waits for our next statement for longer, and frees its locks; default 30 s. */
  readonly idleInTransactionMs?: number
  /** Waiting for a connection (or for a free one of the pool) fails with DATABASE_UNREACHABLE after this; default 10 s. */
  readonly connectTimeoutMs?: number
}

/** Where the options lead, for messages: never with a password. */
export function placeOf(options: ConnectionOptions): string {
  if (options.url === undefined) return `${options.socketDir}/${options.database ?? 'sluice'}`
  return options.url.replace(/(\/\/[^:/@]*):[^@]*@/, '$1:***@').replace(/([?&]password=)[^&]*/, '$1***')
}

/**
 * int8 as a number, since no count or id of ours passes 2^53; a value that does is an error, never a rounded number.
 * date stays `YYYY-MM-DD`: a Date would move with the time zone of the process. timestamptz is a Date, numeric text.
 */
function readInt8(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) {
    throw new SluiceError('INTERNAL', `The int8 ${text} is over 2^53 and cannot be read as a number; select it as text`)
  }
  return value
}

const textArray = 1009
const int8 = 20
const int8Array = 1016
const date = 1082
const dateArray = 1182

function ourTypes(): pg.TypeOverrides {
  const types = new pg.TypeOverrides()
  const readTextArray = pg.types.getTypeParser(textArray as number, 'text') as (text: string) => (string | null)[]
  types.setTypeParser(int8, readInt8)
  types.setTypeParser(int8Array, (text: string) =>
    readTextArray(text).map((item) => (item === null ? null : readInt8(item))),
  )
  types.setTypeParser(date, (text: string) => text)
  types.setTypeParser(dateArray, readTextArray)
  return types
}

/**
 * A server whose client has vanished must not keep its locks: while a statement runs it looks every 5 s whether the
 * client is there, and an end of the network that says nothing is found after 20 s.
 */
const watchful = [
  'client_connection_check_interval=5s',
  'tcp_keepalives_idle=10',
  'tcp_keepalives_interval=2',
  'tcp_keepalives_count=5',
  'tcp_user_timeout=20s',
]

const lookupsOnly = [
  'plan_cache_mode=force_generic_plan',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
  'enable_seqscan=off',
]

/** @throws SluiceError CONFIGURATION when neither or both of `url` and `socketDir` are given, or the URL is none. */
export function clientConfig(options: ConnectionOptions): ClientConfig {
  const { url, socketDir } = options
  if ((url === undefined) === (socketDir === undefined)) {
    throw new SluiceError('CONFIGURATION', 'A database is reached by a url or by a socketDir: give exactly one of them')
  }
  if (url !== undefined && !/^postgres(ql)?:\/\/./.test(url)) {
    throw new SluiceError(
      'CONFIGURATION',
      'The database URL must look like postgresql://user:password@host:port/database',
    )
  }
  return {
    ...(url === undefined
      ? { host: socketDir, database: options.database ?? 'sluice', user: options.user ?? 'sluice' }
      : { connectionString: url }),
    ...(options.password === undefined ? {} : { password: options.password }),
    application_name: options.applicationName,
    // Our reading of dates must not hang on how the server is configured. Compiling a statement costs
    // more than running it: the tests of a shard, which recount small ledgers, take 20 s with jit and 2.5 s without
    // (Debian's PostgreSQL 15; the embedded server has no jit).
    options: ['TimeZone=UTC', 'DateStyle=ISO', 'jit=off', ...watchful, ...(options.lookupsOnly ? lookupsOnly : [])]
      .map((setting) => `-c ${setting}`)
      .join(' '),
    ...(options.statementTimeoutMs === undefined ? {} : { statement_timeout: options.statementTimeoutMs }),
    ...(options.lockTimeoutMs === undefined ? {} : { lock_timeout: options.lockTimeoutMs }),
    idle_in_transaction_session_timeout: options.idleInTransactionMs ?? 30_000,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: ourTypes(),
  }
}
