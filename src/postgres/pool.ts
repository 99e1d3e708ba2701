import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg, { type ClientBase, type PoolClient, type QueryResult } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { SluiceError } from '../errors.ts'
import type { Database, Session, Statement } from '../ports/database.ts'
import { isConnectionFailure, nameConnectionFailure } from './connection-failure.ts'
import { type ConnectionOptions, clientConfig, placeOf } from './connection-options.ts'
import { openListener } from './listener.ts'

export interface DatabaseOptions extends ConnectionOptions {
  /** Connections at most, not counting the one that listens (opened by the first `listen`). */
  readonly max: number
  /** An idle connection is closed after this, and its prepared statements with it; default 60 s. */
  readonly idleTimeoutMs?: number
}

/**
 * Opens a pool; connects when first used. Statements are prepared once per connection under their name.
 *
 * Values: int8 is a number (over 2^53 is an error), timestamptz a Date, date the text `YYYY-MM-DD`, numeric text, jsonb parsed.
 * Errors: DATABASE_UNREACHABLE for everything that is about the connection (what was under way may or may not have been
 * committed); the server's own errors pass as the driver gives them, with SQLSTATE in `code`.
 */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.max,
    idleTimeoutMillis: options.idleTimeoutMs ?? 60_000,
  })
  const place = placeOf(options)
  // A connection that dies idle tells so by an event, which without a listener would end the process. Nobody is harmed:
  // the pool drops it, and one that dies in use fails its query.
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))

  const withClient = async <T>(work: (client: PoolClient) => Promise<T>): Promise<T> => {
    const client = await pool.connect()
    let failure: unknown
    try {
      return await work(client)
    } catch (thrown) {
      failure = thrown
      throw thrown
    } finally {
      client.release(isConnectionFailure(failure) ? failure : undefined)
    }
  }
  const named = <T>(work: Promise<T>): Promise<T> =>
    work.catch((thrown: unknown) => {
      throw nameConnectionFailure(thrown, place)
    })
  const listener = openListener(options)
  let closing: Promise<void> | undefined

  return {
    // Not `pool.query`: it closes the connection, with all that was prepared on it, also when only the statement failed.
    query: (statement, values) => named(withClient((client) => queryRows(client, statement, values))),
    execute: (statement, values) => named(withClient((client) => countRows(client, statement, values))),
    script: (sql) => named(withClient((client) => runScript(client, sql))),
    copyIn: (sql, rows) => named(withClient((client) => copyInto(client, sql, rows))),
    transaction: (work) => named(withClient((client) => transact(client, work))),
    listen: (channel, onNotify, onReconnect) => named(listener.listen(channel, onNotify, onReconnect)),
    close: () => {
      closing ??= Promise.all([listener.close(), pool.end()]).then(() => {})
      return closing
    },
  }
}

type Rows = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>

function run(client: ClientBase, statement: Statement, values: readonly unknown[] = []): Promise<QueryResult> {
  return client.query({ name: statement.name, text: statement.text, values: values as unknown[] })
}

async function queryRows<Row>(
  client: ClientBase,
  statement: Statement<Row>,
  values?: readonly unknown[],
): Promise<Row[]> {
  return (await run(client, statement, values)).rows
}

async function countRows(client: ClientBase, statement: Statement, values?: readonly unknown[]): Promise<number> {
  return (await run(client, statement, values)).rowCount ?? 0
}

async function runScript(client: ClientBase, sql: string): Promise<void> {
  await client.query(sql)
}

function sessionOf(client: ClientBase): Session {
  return {
    query: (statement, values) => queryRows(client, statement, values),
    execute: (statement, values) => countRows(client, statement, values),
    script: (sql) => runScript(client, sql),
    copyIn: (sql, rows) => copyInto(client, sql, rows),
  }
}

async function transact<T>(client: PoolClient, work: (session: Session) => Promise<T>): Promise<T> {
  await client.query('BEGIN')
  try {
    const result = await work(sessionOf(client))
    const end = await client.query('COMMIT')
    if (end.command !== 'COMMIT') {
      throw new SluiceError(
        'INTERNAL',
        'The transaction was rolled back: a statement in it failed and the failure was ignored',
      )
    }
    return result
  } catch (thrown) {
    if (!isConnectionFailure(thrown)) await client.query('ROLLBACK')
    throw thrown
  }
}

async function copyInto(client: ClientBase, sql: string, rows: Rows): Promise<number> {
  const target = client.query(copyFrom(sql))
  await pipeline(Readable.from(inChunks(rows), { objectMode: true, highWaterMark: 2 }), target)
  return target.rowCount
}

const chunkBytes = 65_536

/** One message per row would cost more than the row: short rows are joined. */
async function* inChunks(rows: Rows): AsyncGenerator<Uint8Array> {
  let text = ''
  for await (const row of rows) {
    if (typeof row === 'string') {
      text += row
      if (text.length < chunkBytes) continue
      yield Buffer.from(text)
      text = ''
    } else {
      if (text !== '') yield Buffer.from(text)
      text = ''
      yield row
    }
  }
  if (text !== '') yield Buffer.from(text)
}
