/**
 * Rows with transactions, as PostgreSQL keeps them under READ COMMITTED: each statement sees what is committed and its own
 * transaction's changes, a row that another transaction has changed or locked is waited for, a transaction is whole or
 * nothing. What is next among all that could be is the scheduler's to say: every statement and every commit waits at a gate.
 */
import type { Database, Session, Statement } from '../../../src/ports/database.ts'

export type Handler = (tx: Transaction, values: readonly unknown[]) => Promise<readonly unknown[]>

/** Who is at work: an engine, an API, whoever may die in the middle of it. */
export interface Actor {
  readonly name: string
}

/** How a gate is passed. `lost`: it is committed, and the answer never comes. */
type Passed = 'go' | 'lost'

export interface Gate {
  readonly actor: Actor
  readonly what: string
  isOpen(): boolean
  pass(how: Passed): void
  fail(error: Error): void
}

interface Pending {
  readonly by: Transaction
  row: object | undefined
}

export class Rows {
  readonly gates = new Set<Gate>()
  readonly handlers = new Map<string, Handler>()
  readonly committed = new Map<string, Map<string, object>>()
  readonly pending = new Map<string, Pending>()
  /** What each committed transaction noted, in the order of the commits. */
  readonly log: Notes[] = []
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** The rows as one process sees them. */
  as(actor: Actor): Database {
    const alone = <Result>(work: (tx: Transaction) => Promise<Result>) => this.#transaction(actor, work)
    const unknown = () => Promise.reject(new Error('the simulated rows do not know this'))
    return {
      query: (statement, values) => alone((tx) => tx.query(statement, values)),
      execute: (statement, values) => alone((tx) => tx.execute(statement, values)),
      transaction: (work) => alone(work),
      ...{ copyIn: unknown, copyOut: unknown, script: unknown, listen: unknown, close: async () => {} },
    }
  }

  async #transaction<Result>(actor: Actor, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
    const tx = new Transaction(this, actor, this.#now())
    try {
      const result = await work(tx)
      const how = await this.gate(actor, 'commit')
      tx.commit()
      if (how === 'lost') throw new Error('the connection is cut')
      return result
    } finally {
      tx.end()
    }
  }

  gate(actor: Actor, what: string, isOpen: () => boolean = () => true): Promise<Passed> {
    return new Promise((resolve, reject) => {
      const gate: Gate = {
        ...{ actor, what, isOpen },
        pass: (how) => {
          this.gates.delete(gate)
          resolve(how)
        },
        fail: (error) => {
          this.gates.delete(gate)
          reject(error)
        },
      }
      this.gates.add(gate)
    })
  }

  /** All rows of a table that are committed. */
  table<Row extends object>(name: string): ReadonlyMap<string, Row> {
    return (this.committed.get(name) ?? new Map()) as ReadonlyMap<string, Row>
  }

  /** Changed by nobody's transaction: by the world. */
  set(table: string, key: string, row: object): void {
    const rows = this.committed.get(table) ?? new Map<string, object>()
    this.committed.set(table, rows)
    rows.set(key, row)
  }
}

/** What the world wants to know of a transaction later, whatever its rows say. */
export interface Notes {
  readonly begunAt: number
  /** Whether a plan's workflow was paused, as it was read. */
  paused?: boolean
  /** How many records were read, and how many could be at most. */
  records?: { readonly read: number; readonly most: number }
  /** Of datasets: all versions that could be seen. */
  versions?: readonly { readonly dataset: string; readonly version: number; readonly workflow: string | null }[]
  /** The plan that it was for. */
  plan?: string
  /** Keys of the ticks that it wrote. */
  readonly ticks: string[]
}

export class Transaction implements Session {
  readonly notes: Notes
  readonly #rows: Rows
  readonly #actor: Actor
  readonly #mine = new Map<string, { table: string; key: string; changed: boolean }>()

  constructor(rows: Rows, actor: Actor, begunAt: number) {
    this.#rows = rows
    this.#actor = actor
    this.notes = { begunAt, ticks: [] }
  }

  async query<Row>(statement: Statement<Row>, values: readonly unknown[] = []): Promise<Row[]> {
    const handler = this.#rows.handlers.get(statement.name)
    if (!handler) throw new Error(`the simulated rows do not know ${statement.name}`)
    await this.#rows.gate(this.#actor, statement.name)
    return (await handler(this, values)) as Row[]
  }

  async execute(statement: Statement, values: readonly unknown[] = []): Promise<number> {
    return (await this.query(statement, values)).length
  }

  get<Row extends object>(table: string, key: string): Row | undefined {
    const pending = this.#rows.pending.get(`${table} ${key}`)
    return (pending?.by === this ? pending.row : this.#rows.committed.get(table)?.get(key)) as Row | undefined
  }

  keys(table: string): Set<string> {
    const keys = new Set(this.#rows.committed.get(table)?.keys())
    for (const mine of this.#mine.values()) if (mine.table === table) keys.add(mine.key)
    return keys
  }

  all<Row extends object>(table: string): Row[] {
    return [...this.keys(table)].flatMap((key) => this.get<Row>(table, key) ?? [])
  }

  isFree(table: string, key: string): boolean {
    const pending = this.#rows.pending.get(`${table} ${key}`)
    return pending === undefined || pending.by === this
  }

  /** Waits for whoever holds the row, which need not be there yet. */
  async lock(table: string, key: string): Promise<void> {
    while (!this.isFree(table, key)) {
      await this.#rows.gate(this.#actor, `lock ${table} ${key}`, () => this.isFree(table, key))
    }
    const id = `${table} ${key}`
    if (this.#rows.pending.has(id)) return
    this.#rows.pending.set(id, { by: this, row: this.#rows.committed.get(table)?.get(key) })
    this.#mine.set(id, { table, key, changed: false })
  }

  async put(table: string, key: string, row: object): Promise<void> {
    await this.lock(table, key)
    const id = `${table} ${key}`
    this.#rows.pending.get(id)!.row = row
    this.#mine.get(id)!.changed = true
  }

  commit(): void {
    for (const [id, { table, key, changed }] of this.#mine)
      if (changed) this.#rows.set(table, key, this.#rows.pending.get(id)!.row!)
    this.#rows.log.push(this.notes)
  }

  /** Lets go of everything; what was not committed never was. */
  end(): void {
    for (const id of this.#mine.keys()) this.#rows.pending.delete(id)
    this.#mine.clear()
  }

  copyIn = (): Promise<number> => Promise.reject(new Error('the simulated rows do not know COPY'))
  copyOut = (): Promise<void> => Promise.reject(new Error('the simulated rows do not know COPY'))
  script = (): Promise<void> => Promise.reject(new Error('the simulated rows do not know scripts'))
}
