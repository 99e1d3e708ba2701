/**
 * A connection of kind `postgres`: statements of authors on a few connections per process.
 *
 * 1. One statement at a time goes to the server, by the extended protocol, which takes no second one.
 * 2. A connection goes back to the pool only as it was: not when a transaction was left open in it, nor when a statement set or made something
 *    that lasts as long as it (SET, PREPARE, LISTEN, temporary tables), nor when what it did was given up.
 * 3. Who is cancelled waits for no answer: the server is asked to end the statement, and the connection is destroyed soon after,
 *    whether or not it did.
 */
import pg, { type Client, type PoolClient, type QueryResult } from 'pg'
import { SluiceError } from '../../errors.ts'
import type { IsolationLevel, PostgresClient, SqlQueries, SqlValue, TransactionOptions } from '../../sdk/postgres.ts'
import { parseDuration } from '../../time.ts'
import { askToCancel, type Cancellable } from './cancel.ts'
import { rowTypes } from './row-values.ts'
import { type PostgresSettings, withLogin } from './settings.ts'
import { connectFailure, sqlFailure } from './sql-failure.ts'

export interface OpenPostgres {
  /** What is asked for through it is given up when the signal aborts. */
  client(signal: AbortSignal): PostgresClient
  close(): Promise<void>
}

/** Beyond the server's limit to a statement, its answer may take this long. */
const answerMarginMs = 5_000
/** A statement that was cancelled has this long to end. */
const cancelMs = 2_000
/** The pool is closed; what is still under way is not waited for longer. */
const closeMs = 5_000

/** Opens a pool under the name of the connection; connects when it is first used. */
export function openPostgres(name: string, settings: PostgresSettings): OpenPostgres {
  const limitMs = parseDuration(settings.statementTimeout)
  const open = new Set<Client>()
  const pool = new pg.Pool(poolConfig(name, settings))
  pool.on('error', () => {})
  pool.on('connect', (client) => {
    open.add(client)
    client.on('error', () => {})
  })
  pool.on('remove', (client) => open.delete(client))
  const parts: Parts = { name, pool, limitMs, size: settings.pool, maxRows: settings.maxRows }
  return {
    client: (signal) => ({
      query: (sql, values) => onConnection(parts, signal, (held) => held.query(sql, values, 'I')) as Promise<never[]>,
      transaction: (work, options) => onConnection(parts, signal, (held) => transaction(held, work, options)),
    }),
    async close() {
      const impatience = setTimeout(() => {
        for (const client of open) destroy(client, 'it did not end')
      }, closeMs)
      await pool.end().finally(() => clearTimeout(impatience))
    },
  }
}

interface Parts {
  readonly name: string
  readonly pool: pg.Pool
  readonly limitMs: number
  /** Connections at most. */
  readonly size: number
  readonly maxRows: number
}

function poolConfig(name: string, settings: PostgresSettings): pg.PoolConfig {
  const { url, password, ssl, pool, statementTimeout, connectTimeout } = settings
  return {
    connectionString: withLogin(url, undefined, password),
    ...(ssl === undefined ? {} : { ssl }),
    max: pool,
    application_name: `sluice ${name}`,
    connectionTimeoutMillis: parseDuration(connectTimeout),
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    types: rowTypes(),
    // Not as options of the start, which poolers between us and a server refuse.
    onConnect: (client) => client.query(prepareSession, [String(parseDuration(statementTimeout))]) as never,
  }
}

/** A setting that the server does not know (the last, before version 14) is passed over. */
const prepareSession = `
  select set_config(wanted.name, wanted.value, false)
  from (values ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), ('statement_timeout', $1), ('idle_in_transaction_session_timeout', '60000'),
    ('client_connection_check_interval', '5s')) as wanted (name, value)
  join pg_settings known on known.name = wanted.name`

async function onConnection<T>(parts: Parts, signal: AbortSignal, work: (held: Held) => Promise<T>): Promise<T> {
  throwIfAborted(signal, parts.name)
  const client = await connected(parts, signal)
  const held = new Held(parts, client, signal)
  try {
    return await work(held)
  } finally {
    held.release()
  }
}

/** Who is given up while it waits for a connection does not take it. */
async function connected({ name, pool, size }: Parts, signal: AbortSignal): Promise<PoolClient> {
  const connecting = pool.connect().catch((thrown: unknown) => {
    throw connectFailure(thrown, name, size)
  })
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(cancelled(name))
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([connecting, aborted])
  } catch (thrown) {
    connecting.then(
      (client) => client.release(),
      () => {},
    )
    throw thrown
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

const cancelled = (name: string) => new SluiceError('CANCELLED', `connection ${name}: the work was cancelled`)

function throwIfAborted(signal: AbortSignal, name: string): void {
  if (signal.aborted) throw cancelled(name)
}

function destroy(client: Client, why: string): void {
  client.connection.stream.destroy(Object.assign(new Error(why), { code: 'ETIMEDOUT' }))
}

/** Whether the connection is in a transaction, as the server says: no, yes, or in one that has failed. */
type TransactionStatus = 'I' | 'T' | 'E'

/** The protocol counts them in 16 bits. */
const mostValues = 65_535

/** Commands that leave nothing in the connection. */
const passing =
  /^(SELECT|INSERT|UPDATE|DELETE|MERGE|TRUNCATE|LOCK|NOTIFY|EXPLAIN|SHOW|REFRESH|ANALYZE|VACUUM|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|CALL)$/

/** One connection in the hands of one user of it. */
class Held implements SqlQueries {
  readonly #parts: Parts
  readonly #client: PoolClient
  readonly #signal: AbortSignal
  /** It is not to be used again. */
  #spoiled = false
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: Parts, client: PoolClient, signal: AbortSignal) {
    this.#parts = parts
    this.#client = client
    this.#signal = signal
  }

  release(): void {
    this.#client.release(this.#spoiled)
  }

  spoil(): void {
    this.#spoiled = true
  }

  /** Whether a transaction is open in it, as far as is known. */
  get isOpen(): boolean {
    return this.#client.getTransactionStatus() !== 'I'
  }

  /** One after another, in the order in which they are asked. @param expected - What the connection's transaction is to be afterwards. */
  async query<Row extends object>(
    sql: string,
    values?: readonly SqlValue[],
    expected?: TransactionStatus,
  ): Promise<Row[]> {
    return (await this.#inTurn(() => this.#checked(sql, values, expected))).rows as Row[]
  }

  /** Ends the transaction. A commit of one in which a statement failed is a rollback. */
  async end(command: 'commit' | 'rollback'): Promise<void> {
    const done = await this.#inTurn(() => this.#checked(command, [], 'I'))
    if (done.command.toLowerCase() === command) return
    const why = 'a statement of the transaction failed, and the failure was ignored: it was rolled back'
    throw new SluiceError('USAGE', `connection ${this.#parts.name}: ${why}`)
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => {})
    return result
  }

  async #checked(sql: string, values: readonly SqlValue[] = [], expected: TransactionStatus = 'T') {
    const { name } = this.#parts
    throwIfAborted(this.#signal, name)
    if (typeof sql !== 'string' || !Array.isArray(values) || values.length > mostValues) {
      const form = `a text and a list of at most ${mostValues} values`
      throw new SluiceError('USAGE', `connection ${name}: a statement is ${form}`)
    }
    const done = await this.#run(sql, values)
    if (!passing.test(done.command)) this.#spoiled = true
    if (this.#client.getTransactionStatus() !== expected) {
      this.#spoiled = true
      throw new SluiceError(
        'USAGE',
        `connection ${name}: ${done.command} begins or ends a transaction; use transaction(...)`,
      )
    }
    return done
  }

  async #run(sql: string, values: readonly SqlValue[]): Promise<{ rows: object[]; command: string }> {
    const { name, limitMs, maxRows } = this.#parts
    const client = this.#client as unknown as Client & Cancellable
    const rows: object[] = []
    const { promise: ended, resolve, reject } = Promise.withResolvers<QueryResult>()
    const query = new pg.Query({ text: sql, values: values as unknown[], queryMode: 'extended' } as pg.QueryConfig)
    let tooMany = false
    const giveUp = () => {
      this.#spoiled = true
      askToCancel(client)
      setTimeout(() => destroy(client, 'it did not end when it was cancelled'), cancelMs).unref()
    }
    query.on('row', (row: object) => {
      if (rows.length < maxRows) rows.push(row)
      else if (!tooMany) {
        tooMany = true
        giveUp()
      }
    })
    query.on('end', resolve)
    query.on('error', reject)
    const deadline = setTimeout(() => {
      this.#spoiled = true
      destroy(client, `it has not answered for ${limitMs + answerMarginMs} ms`)
    }, limitMs + answerMarginMs)
    this.#signal.addEventListener('abort', giveUp, { once: true })
    try {
      client.query(query)
      const { command } = await ended
      if (tooMany) throw overflow(name, maxRows)
      return { rows, command }
    } catch (thrown) {
      if (this.#signal.aborted) throw cancelled(name)
      if (tooMany) throw overflow(name, maxRows)
      const failure = sqlFailure(thrown, name, limitMs)
      if (!goesOn(thrown)) this.#spoiled = true
      throw failure
    } finally {
      clearTimeout(deadline)
      this.#signal.removeEventListener('abort', giveUp)
    }
  }
}

/** Whether the connection is as good as before: the server refused a statement, and did not end the session with it. */
const goesOn = (thrown: unknown): boolean => thrown instanceof pg.DatabaseError && thrown.severity === 'ERROR'

const overflow = (name: string, maxRows: number) =>
  new SluiceError(
    'USAGE',
    `connection ${name}: the statement gives more than ${maxRows} rows (maxRows of the connection); page by a key`,
  )

const levels: Readonly<Record<IsolationLevel, string>> = {
  'read committed': 'read committed',
  'repeatable read': 'repeatable read',
  serializable: 'serializable',
}

async function transaction<T>(
  held: Held,
  work: (queries: SqlQueries) => Promise<T>,
  { isolation = 'read committed', readOnly = false }: TransactionOptions = {},
): Promise<T> {
  const level = Object.hasOwn(levels, isolation) ? levels[isolation] : undefined
  if (level === undefined) {
    throw new SluiceError(
      'USAGE',
      `isolation is ${JSON.stringify(isolation)}; allowed are ${Object.keys(levels).join(', ')}`,
    )
  }
  await held.query(`begin isolation level ${level}${readOnly ? ' read only' : ''}`)
  let over = false
  const queries: SqlQueries = {
    async query(sql, values) {
      if (over) throw new SluiceError('USAGE', 'the transaction has ended')
      return held.query(sql, values)
    },
  }
  try {
    const result = await work(queries)
    over = true
    await held.end('commit')
    return result
  } catch (thrown) {
    over = true
    if (held.isOpen) await held.end('rollback').catch(() => held.spoil())
    throw thrown
  }
}
