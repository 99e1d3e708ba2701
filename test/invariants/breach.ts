/** What an invariant is, and what it is asked of. */
import { type Session, statement } from '../../src/ports/database.ts'
import type { ObjectStore } from '../../src/ports/objects.ts'
import type { Memory } from './memory.ts'

/** Something that must always hold and does not. `invariant` is the number of the list in `check.ts`. */
export interface Breach {
  readonly invariant: number
  readonly what: string
}

export interface Acknowledged {
  /** Ids of runs that some client was told of. */
  readonly runs?: readonly string[]
  /** Ids under which records were published, by whom the answer reached. */
  readonly records?: readonly { readonly topic: string; readonly id: string }[]
}

export interface CheckOptions {
  /**
   * The faults have stopped and everything had time to end: then nothing is unfinished, pending, in flight or left over.
   * Default false: only what must hold at every instant.
   */
  readonly atRest?: boolean
  /**
   * Nothing has failed since the beginning: no process died or was stopped, no lease lapsed, no connection was cut. Then
   * no attempt lost its runner, and each run has had one owner. Default false.
   */
  readonly undisturbed?: boolean
  readonly acknowledged?: Acknowledged
  /** Where the bytes are: what is referred to must be there, whole. */
  readonly objects?: ObjectStore
  /** `SLUICE_HOME`: searched for what is stale, and for secrets. */
  readonly home?: string
  /** Planted texts that must show up nowhere. */
  readonly secrets?: readonly string[]
  /** Further texts that must not hold a secret, such as what processes printed and what was answered. */
  readonly texts?: readonly string[]
  /** Ids of processes that must be gone. */
  readonly processes?: readonly number[]
  /** How long after its lease lapsed something may still name a dead owner, in milliseconds. Default 10,000. */
  readonly graceMs?: number
  /** How long history is kept, in milliseconds: of what is older, parts may be gone. Default one day. */
  readonly historyMs?: number
  /** The objects were swept with this grace, in milliseconds: nothing idle for longer is left. Default 25 hours. */
  readonly sweepGraceMs?: number
  /** Streams whose sink is none of our tables: that their rows were written cannot be seen here. */
  readonly otherSinks?: readonly string[]
  /** Streams whose sink is a table, and the column in which it keeps the ids of records, if it does; see `sinks.ts`. */
  readonly tables?: readonly { readonly stream: string; readonly table: string; readonly recordId?: string }[]
  /** Streams whose sink is a topic of ours. */
  readonly topics?: readonly { readonly stream: string; readonly topic: string }[]
  /** What earlier checks saw of the same database: what only grows and what is final must still be so. */
  readonly memory?: Memory
}

export interface Snapshot {
  /** One instant of the database. */
  readonly session: Session
  /** The database as it is; the same as `session` where only that was given. */
  readonly now: Session
  readonly options: CheckOptions
}

export interface Invariant {
  readonly number: number
  readonly when: 'always' | 'at rest'
  /** One line for each breach. */
  find(snapshot: Snapshot): Promise<readonly string[]>
}

type Values = (options: CheckOptions) => readonly unknown[]

/** A query that gives one text for each breach. */
function bySql(when: Invariant['when'], number: number, name: string, text: string, values?: Values): Invariant {
  const sql = statement<{ what: string }>(`invariant.${name}`, text)
  return {
    number,
    when,
    find: async ({ session, options }) =>
      (await session.query(sql, values?.(options) ?? [])).map((row) => row.what ?? `${name}: a row that says nothing`),
  }
}

/** Holds at every instant. */
export const always = (number: number, name: string, text: string, values?: Values): Invariant =>
  bySql('always', number, name, text, values)

/** Holds when everything has ended. */
export const atRest = (number: number, name: string, text: string, values?: Values): Invariant =>
  bySql('at rest', number, name, text, values)

export const defaultGraceMs = 10_000
export const defaultHistoryMs = 86_400_000
