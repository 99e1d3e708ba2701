import pg, { type Client, type PoolClient } from 'pg'
import type { PipelinedDatabase } from '../ports/database.ts'
import { nameConnectionFailure } from './connection-failure.ts'
import { type ConnectionOptions, clientConfig, placeOf } from './connection-options.ts'
import { Conversation, destroyConnection } from './conversation.ts'
import { openListener } from './listener.ts'

export interface DatabaseOptions extends ConnectionOptions {
  /** Connections at most, not counting the one that listens (opened by the first `listen`). */
  readonly max: number
  /** An idle connection is closed after this, and its prepared statements with it; default 60 s. */
  readonly idleTimeoutMs?: number
}

export interface PooledDatabase extends PipelinedDatabase {
  /** Destroys every connection: what is under way fails with DATABASE_UNREACHABLE at once. New ones are opened when asked for. */
  abandon(): void
}

const defaultAnswerTimeoutMs = 120_000
/** What the answer to a statement may take longer than the statement. */
const answerMarginMs = 5_000
/** A connection that does not end by itself when the pool is closed is destroyed after this, or `answerTimeoutMs` if that is less. */
const closeMs = 5_000

/**
 * Opens a pool; connects when first used. Statements are prepared once per connection under their name.
 *
 * Values: int8 is a number (over 2^53 is an error), timestamptz a Date, date the text `YYYY-MM-DD`, numeric text, jsonb parsed.
 * Errors: DATABASE_UNREACHABLE for everything that is about the connection (what was under way may or may not have been
 * committed); STORAGE_FULL (SQLSTATE 53100) and DATABASE_READ_ONLY (25006); the server's other errors pass as the driver
 * gives them, with SQLSTATE in `code`.
 */
export function openDatabase(options: DatabaseOptions): PooledDatabase {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.max,
    idleTimeoutMillis: options.idleTimeoutMs ?? 60_000,
  })
  const place = placeOf(options)
  const { statementTimeoutMs, answerTimeoutMs = defaultAnswer(statementTimeoutMs) } = options
  const open = new Set<Client>()
  // A connection that dies idle tells so by an event, which without a listener would end the process. Nobody is harmed:
  // the pool drops it, and one that dies in use fails its query.
  pool.on('error', () => {})
  pool.on('connect', (client) => {
    open.add(client)
    client.on('error', () => {})
  })
  pool.on('remove', (client) => open.delete(client))

  const converse = async <T>(work: (conversation: Conversation) => Promise<T>): Promise<T> => {
    const client = await connect(pool, options.max).catch((thrown: unknown) => {
      throw nameConnectionFailure(thrown, place)
    })
    const conversation = new Conversation(client, { place, answerTimeoutMs })
    try {
      return await work(conversation)
    } finally {
      client.release(conversation.lost)
    }
  }
  const destroyAll = (why: string) => {
    for (const client of open) destroyConnection(client, why)
  }
  const listener = openListener(options)
  let closing: Promise<void> | undefined

  return {
    // Not `pool.query`: it closes the connection, with all that was prepared on it, also when only the statement failed.
    query: (statement, values) => converse((it) => it.query(statement, values)),
    execute: (statement, values) => converse((it) => it.execute(statement, values)),
    script: (sql) => converse((it) => it.script(sql)),
    copyIn: (sql, rows) => converse((it) => it.copyIn(sql, rows)),
    copyOut: (sql, take) => converse((it) => it.copyOut(sql, take)),
    transaction: (work) => converse((it) => it.transaction(work)),
    pipeline: (steps) => converse((it) => it.pipeline(steps)),
    listen: (channel, onNotify, onReconnect) =>
      listener.listen(channel, onNotify, onReconnect).catch((thrown: unknown) => {
        throw nameConnectionFailure(thrown, place)
      }),
    abandon: () => {
      destroyAll('it was given up')
      listener.abandon()
    },
    close: () => {
      closing ??= (async () => {
        const impatience = setTimeout(() => destroyAll('it did not end'), Math.min(closeMs, answerTimeoutMs))
        await Promise.all([listener.close(), pool.end()])
        clearTimeout(impatience)
      })()
      return closing
    },
  }
}

/** One connection for the heartbeat of a process, kept open, which waits for nothing longer than `answerMs`. */
export function openHeartbeat(options: ConnectionOptions, answerMs: number): PooledDatabase {
  return openDatabase({
    ...options,
    applicationName: `${options.applicationName} heartbeat`,
    max: 1,
    idleTimeoutMs: 0,
    connectTimeoutMs: answerMs,
    answerTimeoutMs: answerMs,
  })
}

function defaultAnswer(statementTimeoutMs: number | undefined): number {
  return statementTimeoutMs === undefined ? defaultAnswerTimeoutMs : statementTimeoutMs + answerMarginMs
}

async function connect(pool: pg.Pool, max: number): Promise<PoolClient> {
  try {
    return await pool.connect()
  } catch (thrown) {
    // The driver says the same of a server that does not answer and of a pool that has no connection to give.
    if (thrown instanceof Error && thrown.message === 'timeout exceeded when trying to connect')
      thrown.message += ` (all ${max} connections were busy)`
    throw thrown
  }
}
