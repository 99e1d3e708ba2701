/** A writer that is held up: its heartbeat gets nowhere, and what it writes arrives late. */
import type { Database, Session, Statement } from '../../src/ports/database.ts'

export class Gate {
  /** Writes that wait. */
  held = 0
  #opened: PromiseWithResolvers<void> | undefined

  shut(): void {
    this.#opened = Promise.withResolvers()
  }

  open(): void {
    this.#opened?.resolve()
    this.#opened = undefined
  }

  get isShut(): boolean {
    return this.#opened !== undefined
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#opened === undefined) return work()
    this.held += 1
    try {
      await this.#opened.promise
      return await work()
    } finally {
      this.held -= 1
    }
  }
}

/** Everything that is asked of a session passes by; what comes of it is up to `pass`. */
export function watched(session: Session, pass: <T>(sql: Statement, go: () => Promise<T>) => Promise<T>): Session {
  return {
    query: (sql, values) => pass(sql, () => session.query(sql, values)),
    execute: (sql, values) => pass(sql, () => session.execute(sql, values)),
    copyIn: (sql, rows) => session.copyIn(sql, rows),
    copyOut: (sql, take) => session.copyOut(sql, take),
    script: (sql) => session.script(sql),
  }
}

/** While the gate is shut, commits of an engine wait at it. `others`: what becomes of everything else of it. */
export function heldUp(gate: Gate, others: 'pass' | 'fail'): (db: Database) => Database {
  const pass = <T>(sql: Statement, go: () => Promise<T>): Promise<T> => {
    if (!gate.isShut) return go()
    if (sql.name.startsWith('transitions.commit')) return gate.pass(go)
    return others === 'pass' ? go() : Promise.reject(cutOff())
  }
  return (db) => ({
    ...watched(db, pass),
    transaction: (work) => (gate.isShut && others === 'fail' ? Promise.reject(cutOff()) : db.transaction(work)),
    listen: (channel, onNotify, onReconnect) => db.listen(channel, onNotify, onReconnect),
    close: () => db.close(),
  })
}

const cutOff = () => Object.assign(new Error('the network is gone'), { code: '57P01' })
