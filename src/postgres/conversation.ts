/**
 * What is said over one connection of the pool, each question with a limit to the wait for its answer.
 *
 * 1. A connection that does not answer in time is destroyed: its question fails, and the pool replaces it. What it was
 *    asked may or may not have been done.
 * 2. Failures get their names here, where it is certain that they are the database's. What the work inside of a
 *    transaction throws for itself passes as it is.
 */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Client, QueryConfig, QueryResult } from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { SluiceError } from '../errors.ts'
import type { PipelineStep, Session, Statement } from '../ports/database.ts'
import { isConnectionFailure, nameConnectionFailure } from './connection-failure.ts'
import { runPipeline } from './pipeline.ts'

export interface Manners {
  /** Where the connection leads, for messages. */
  readonly place: string
  readonly answerTimeoutMs: number
}

/** For texts such as migrations, which may rewrite a large table. */
const scriptTimeoutMs = 3_600_000

/** Fails what waits on the connection, at once. */
export function destroyConnection(client: Client, why: string): void {
  client.connection.stream.destroy(Object.assign(new Error(why), { code: 'ETIMEDOUT' }))
}

/** Awaits an answer of the connection. */
export async function answered<T>(client: Client, limitMs: number, answer: Promise<T>): Promise<T> {
  const deadline = setTimeout(() => destroyConnection(client, `it has not answered for ${limitMs} ms`), limitMs)
  try {
    return await answer
  } finally {
    clearTimeout(deadline)
  }
}

type Rows = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>

export class Conversation implements Session {
  readonly #client: Client
  readonly #manners: Manners
  /** The connection is not to be used again. */
  lost = false

  constructor(client: Client, manners: Manners) {
    this.#client = client
    this.#manners = manners
  }

  async query<Row>(statement: Statement<Row>, values?: readonly unknown[]): Promise<Row[]> {
    return (await this.#run(statement, values)).rows
  }

  async execute(statement: Statement, values?: readonly unknown[]): Promise<number> {
    return (await this.#run(statement, values)).rowCount ?? 0
  }

  async script(sql: string): Promise<void> {
    await this.#ask(sql, scriptTimeoutMs)
  }

  async copyIn(sql: string, rows: Rows): Promise<number> {
    const target = this.#client.query(copyFrom(sql))
    const limitMs = this.#manners.answerTimeoutMs
    let deadline: NodeJS.Timeout | undefined
    const wait = () => {
      clearTimeout(deadline)
      deadline = setTimeout(() => destroyConnection(this.#client, `it has taken nothing for ${limitMs} ms`), limitMs)
    }
    try {
      await pipeline(Readable.from(inChunks(rows, wait), { objectMode: true, highWaterMark: 2 }), target)
      return target.rowCount
    } catch (thrown) {
      throw this.#named(thrown)
    } finally {
      clearTimeout(deadline)
    }
  }

  async copyOut(sql: string, take: (piece: Uint8Array) => Promise<void>): Promise<void> {
    const limitMs = this.#manners.answerTimeoutMs
    const source = this.#client.query(copyTo(sql))
    let deadline: NodeJS.Timeout | undefined
    const wait = () => {
      deadline = setTimeout(() => destroyConnection(this.#client, `it has sent nothing for ${limitMs} ms`), limitMs)
    }
    let taken: unknown
    try {
      wait()
      for await (const piece of source) {
        clearTimeout(deadline)
        await take(piece as Uint8Array).catch((thrown: unknown) => {
          taken = thrown
          throw thrown
        })
        wait()
      }
    } catch (thrown) {
      if (taken === undefined) throw this.#named(thrown)
      // The server goes on sending what nobody takes any more.
      this.lost = true
      destroyConnection(this.#client, 'a copy was broken off')
      throw taken
    } finally {
      clearTimeout(deadline)
    }
  }

  /** Commits when `work` returns, rolls back when it throws. */
  async transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    await this.#ask('BEGIN')
    try {
      const result = await work(this)
      const end = await this.#ask('COMMIT')
      if (end.command !== 'COMMIT') {
        throw new SluiceError(
          'INTERNAL',
          'The transaction was rolled back: a statement in it failed and the failure was ignored',
        )
      }
      return result
    } catch (thrown) {
      // A connection that cannot roll back is dead or about to be destroyed, and the server rolls back by itself.
      await this.#ask('ROLLBACK').catch(() => {
        this.lost = true
        destroyConnection(this.#client, 'it could not roll back')
      })
      throw thrown
    }
  }

  async pipeline(steps: readonly PipelineStep[]): Promise<void> {
    try {
      await answered(this.#client, this.#manners.answerTimeoutMs, runPipeline(this.#client, steps))
    } catch (thrown) {
      throw this.#named(thrown)
    }
  }

  #run(statement: Statement, values: readonly unknown[] = []): Promise<QueryResult> {
    return this.#ask({ name: statement.name, text: statement.text, values: values as unknown[] })
  }

  async #ask(question: string | QueryConfig, limitMs = this.#manners.answerTimeoutMs): Promise<QueryResult> {
    try {
      return await answered(this.#client, limitMs, this.#client.query(question))
    } catch (thrown) {
      throw this.#named(thrown)
    }
  }

  #named(thrown: unknown): unknown {
    this.lost ||= isConnectionFailure(thrown)
    return nameConnectionFailure(thrown, this.#manners.place)
  }
}

const chunkBytes = 65_536

/** One message per row would cost more than the row: short rows are joined. `onAsked` is told when more is asked for. */
async function* inChunks(rows: Rows, onAsked: () => void): AsyncGenerator<Uint8Array> {
  let text = ''
  onAsked()
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
    onAsked()
  }
  if (text !== '') yield Buffer.from(text)
  onAsked()
}
