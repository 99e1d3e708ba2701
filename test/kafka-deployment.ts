/**
 * Sluice as users start it, on topics of Kafka: real processes, looked at and killed from outside. Their PostgreSQL is the
 * embedded one, or a database of their own on the server of SLUICE_TEST_DATABASE_URL.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { openFiles } from '../src/objects/files.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { embeddedUrl } from './chaos/embedded-url.ts'
import { kill, processesOf, type Role } from './chaos/processes.ts'
import { testDatabase } from './database.ts'
import { type Breach, breaches, type CheckOptions } from './invariants/check.ts'
import { type Project, type RunningSluice, startSluice, until } from './sluice-process.ts'

/** A busy machine may take its time; nothing here is measured. */
export const patienceMs = 180_000

export interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
  readonly filtered: number
  readonly rejected: number
  readonly dead: number
  readonly queued: number
  readonly waiting: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

/** A moment in the database at which a process can be held up. */
interface Place {
  readonly table: string
  readonly does: 'insert' | 'update' | 'delete'
  /** Before the statement has any effect, behind it, or in the COMMIT. */
  readonly at: 'before' | 'after' | 'commit'
  /** A condition in SQL that tells statements apart; `current_query()` is the text of each. */
  readonly only?: string
}

const triggers = {
  before: ['trigger', 'before', 'for each statement'],
  after: ['trigger', 'after', 'for each statement'],
  commit: ['constraint trigger', 'after', 'deferrable initially deferred for each row'],
} as const

/** What holds up the processes at a gate: see `KafkaDeployment.gate`. */
export interface Gate {
  /** Until so many transactions wait there; default 1. */
  reached(count?: number): Promise<void>
  /** Ends the connections that wait there, as a server does that sees their clients gone: nothing of theirs is committed. */
  cut(): Promise<void>
  /** Lets through who waits there. */
  open(): Promise<void>
}

export class KafkaDeployment {
  readonly #sql: pg.Pool
  readonly #url: string
  readonly #drop: () => Promise<void>
  #gates = 0
  readonly project: Project
  readonly server: RunningSluice

  private constructor(project: Project, server: RunningSluice, url: string, drop: () => Promise<void>) {
    this.project = project
    this.server = server
    this.#url = url
    this.#drop = drop
    this.#sql = new pg.Pool({ connectionString: url, max: 3 })
    this.#sql.on('error', () => {})
  }

  static async start(project: Project): Promise<KafkaDeployment> {
    if (process.env.SLUICE_TEST_DATABASE_URL === undefined) {
      const server = await startSluice(project)
      return new KafkaDeployment(project, server, embeddedUrl(project.home), async () => {})
    }
    const { url, drop } = await testDatabase({ migrated: false, max: 1 })
    const environment = { ...project.environment, SLUICE_DATABASE_URL: url }
    const there = { ...project, environment }
    try {
      return new KafkaDeployment(there, await startSluice(there), url, drop)
    } catch (thrown) {
      await drop()
      throw thrown
    }
  }

  async close(): Promise<void> {
    await this.#sql.end()
    await this.server.stop()
    await this.#drop()
    await this.project.remove()
  }

  async rows<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await this.#sql.query<Row>(text, [...values])).rows
  }

  async count(text: string, values: readonly unknown[] = []): Promise<number> {
    const [row] = await this.rows<{ count: string }>(`select count(*) as count from ${text}`, values)
    return Number(row!.count)
  }

  async totals(stream: string): Promise<Totals> {
    return (await this.server.get<{ totals: Totals }>(`/api/v1/streams/${stream}`)).totals
  }

  /** Until the stream stands as wanted; a server that is starting again is waited for. */
  async until(stream: string, wanted: (totals: Totals) => boolean): Promise<Totals> {
    const found = await until(
      () => this.totals(stream).catch(() => undefined),
      (totals) => totals !== undefined && wanted(totals),
      patienceMs,
    )
    return found!
  }

  processes(role: Role): number[] {
    return processesOf(this.project.home).flatMap((found) => (found.role === role ? [found.pid] : []))
  }

  /** kill -9 of a process of this role; gives its id. */
  async kill(role: Role): Promise<number> {
    const found = await until(
      async () => this.processes(role),
      (pids) => pids.length > 0,
      patienceMs,
    )
    kill(found[0]!)
    return found[0]!
  }

  /** From now on whoever does what `place` says waits there. */
  async gate({ table, does, at, only = 'true' }: Place): Promise<Gate> {
    this.#gates += 1
    const [name, lock] = [`test_gate_${this.#gates}`, 471_100 + this.#gates]
    const holder = await this.#sql.connect()
    await holder.query('select pg_advisory_lock($1)', [lock])
    const [kind, moment, each] = triggers[at]
    await this.rows(`
      create function public.${name}() returns trigger language plpgsql as $$
      begin
        if ${only} then perform pg_advisory_xact_lock_shared(${lock}); end if;
        return null;
      end $$;
      create ${kind} ${name} ${moment} ${does} on ${table} ${each} execute function public.${name}()`)
    const waiting = `pg_locks where locktype = 'advisory' and objid = ${lock} and not granted`
    return {
      reached: async (wanted = 1) => {
        await until(
          () => this.count(waiting),
          (count) => count >= wanted,
          patienceMs,
        )
      },
      cut: async () => {
        await this.rows(`select pg_terminate_backend(pid) from ${waiting}`)
        await until(
          () => this.count(waiting),
          (count) => count === 0,
          patienceMs,
        )
      },
      open: async () => {
        await holder.query('select pg_advisory_unlock($1)', [lock])
        holder.release()
        // It asks for the table, which those that were let through may still have.
        await this.rows(`drop trigger ${name} on ${table}; drop function public.${name}()`)
      },
    }
  }

  /** What must always hold and does not; of what ends after a fault, once it had time to. */
  async breaches(options: CheckOptions): Promise<readonly Breach[]> {
    const db = openDatabase({ url: this.#url, applicationName: 'sluice test', max: 2 })
    const { home } = this.project
    try {
      const find = () => breaches(db, { objects: openFiles(join(home, 'objects')), home, atRest: true, ...options })
      const endAt = performance.now() + 30_000
      for (;;) {
        const found = await find()
        if (found.length === 0 || performance.now() > endAt) return found
        await delay(500)
      }
    } finally {
      await db.close()
    }
  }
}
