/** The tables of the statistics app in a database of its own, and what is done to them, without processes. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { PostgresClient, SqlQueries, SqlValue } from 'sluice'
import { addPortion, type LaneOptions } from '../../apps/stats/aggregate/aggregate-lane.ts'
import { lanesWithWork } from '../../apps/stats/aggregate/lanes.ts'
import { laneCount } from '../../apps/stats/settings.ts'
import { type Database, type Session, statement } from '../../src/ports/database.ts'
import { type DatabaseOptions, openDatabase } from '../../src/postgres/pool.ts'
import { testDatabase } from '../database.ts'
import { until } from '../sluice-process.ts'

export const migrations = { scope: 'stats', folder: join(import.meta.dirname, '../../apps/stats/migrations') }

export interface Event {
  readonly token: string
  readonly customer: string
  readonly content: string
  readonly p2p: number | bigint
  readonly cdn: number | bigint
  readonly sessionDuration: number
  readonly receivedAt: Date
}

export interface Sums {
  readonly time: string
  readonly customer: string
  readonly content: string
  readonly cdn: string
  readonly p2p: string
  readonly sessions: string
}

export interface OpenTransaction {
  insert(...events: readonly Event[]): Promise<void>
  /** Commits it, or rolls it back. */
  end(commit: boolean): Promise<void>
}

const sqlOver = (session: Session): SqlQueries => ({
  async query<Row extends object>(text: string, values: readonly SqlValue[] = []) {
    const name = `stats.${createHash('sha256').update(text).digest('hex').slice(0, 40)}`
    const rows = await session.query(statement<Row>(name, text), values)
    return rows.map((row) => Object.fromEntries(Object.entries(row).map(([key, value]) => [key, shown(value)])) as Row)
  },
})

const shown = (value: unknown) => (value instanceof Date ? value.toISOString() : value)

const insertText = `
  insert into stats.stats_raw (received_at, event_id, token, customer, content, timespan, p2p, cdn, session_duration)
  values ($1, $2, $3, $4, $5, 30000, $6, $7, $8)`

export async function insertEvents(sql: SqlQueries, events: readonly Event[]): Promise<void> {
  for (const { receivedAt, token, customer, content, p2p, cdn, sessionDuration } of events) {
    await sql.query(insertText, [receivedAt, 'e', token, customer, content, String(p2p), String(cdn), sessionDuration])
  }
}

/** What is inserted is kept apart as well, in the same transaction, for counting it again. */
const recordAll = `
  create schema oracle;
  create table oracle.events (like stats.stats_raw);
  create function oracle.record() returns trigger language plpgsql as $$
  begin
    insert into oracle.events select new.*;
    return null;
  end $$;
  create trigger record after insert on stats.stats_raw for each row execute function oracle.record()`

/** By force: each event by itself, against all that came before it. */
const oracleText = `
  with days as (select e.*, (e.received_at at time zone 'UTC')::date as day from oracle.events e)
  select to_char(to_timestamp(floor(extract(epoch from received_at) / 300) * 300 + 300) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as time,
    customer, content,
    least(sum(cdn), 9223372036854775807)::text as cdn, least(sum(p2p), 9223372036854775807)::text as p2p,
    sum(case when session_duration >= 300000 then 0 when cdn::numeric + p2p = 0 then 1 when exists (
      select from days f
      where f.customer = e.customer and f.token = e.token and (f.xid < e.xid or f.xid = e.xid and f.id < e.id)
        and f.day >= e.day - $1::int
    ) then 0 else 1 end)::text as sessions
  from days e group by 1, customer, content order by 1, customer, content`

const sumsText = `
  select to_char(time at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as time, customer, content,
    cdn::text, p2p::text, sessions::text
  from stats.stats order by time, customer, content`

const olderText = `
  select count(*)::int as n from pg_stat_activity
  where datname <> current_database() and backend_xid::text::bigint < $1::bigint & x'ffffffff'::bigint`

export class StatsWorld {
  readonly #database: Database
  readonly #close: () => Promise<void>
  #open = 0
  readonly warehouse: PostgresClient

  private constructor(database: Database, close: () => Promise<void>) {
    this.#database = database
    this.#close = close
    this.warehouse = this.over(database)
  }

  /** A database of its own. */
  static async open(max = 8): Promise<StatsWorld> {
    const test = await testDatabase({ apps: [migrations], max })
    return StatsWorld.#recording(test.db, () => test.drop())
  }

  /** The database of a Sluice that runs. */
  static async at(options: DatabaseOptions): Promise<StatsWorld> {
    const database = openDatabase(options)
    return new StatsWorld(database, () => database.close())
  }

  /** The same, and what is inserted from now on is kept apart as well. */
  static recordingAt(options: DatabaseOptions): Promise<StatsWorld> {
    const database = openDatabase(options)
    return StatsWorld.#recording(database, () => database.close())
  }

  static async #recording(database: Database, close: () => Promise<void>): Promise<StatsWorld> {
    await database.script(recordAll)
    return new StatsWorld(database, close)
  }

  /** As a connection gives it to authors. */
  over(database: Database): PostgresClient {
    return {
      ...sqlOver(database),
      transaction: (work) => database.transaction((session) => work(sqlOver(session))),
    }
  }

  close(): Promise<void> {
    return this.#close()
  }

  /** As a connection that is killed on the way has it. */
  async withVictim(work: (victim: PostgresClient, kill: () => Promise<unknown>) => Promise<void>): Promise<void> {
    await this.#database.transaction((session) => {
      const victim = sqlOver(session)
      const kill = async () => {
        const [own] = await victim.query<{ pid: number }>('select pg_backend_pid() as pid')
        await this.query('select pg_terminate_backend($1::int)', [own!.pid])
      }
      return work({ ...victim, transaction: (inner) => inner(victim) }, kill)
    })
  }

  query<Row extends object>(text: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    return this.warehouse.query<Row>(text, values)
  }

  /** In one transaction, which is committed. */
  insert(...events: readonly Event[]): Promise<void> {
    return this.warehouse.transaction((sql) => insertEvents(sql, events))
  }

  /** In a transaction that stays open. */
  async insertOpen(...events: readonly Event[]): Promise<OpenTransaction> {
    this.#open += 1
    const opened = Promise.withResolvers<SqlQueries>()
    const decided = Promise.withResolvers<boolean>()
    const ended = this.warehouse
      .transaction(async (sql) => {
        opened.resolve(sql)
        if (!(await decided.promise)) throw new RolledBack()
      })
      .catch((thrown: unknown) => {
        opened.reject(thrown)
        if (!(thrown instanceof RolledBack)) throw thrown
      })
      .finally(() => {
        this.#open -= 1
      })
    const sql = await opened.promise
    await insertEvents(sql, events)
    return {
      insert: (...more) => insertEvents(sql, more),
      end(commit) {
        decided.resolve(commit)
        return ended
      },
    }
  }

  /**
   * Waits for transactions of other databases of this server that are older than what was committed here: other tests have theirs
   * open for a moment, and nothing above them counts. Never with one of its own open, for which others may be waiting.
   */
  async quiet(): Promise<void> {
    if (this.#open > 0) throw new Error('a transaction of this world is open')
    const [now] = await this.query<{ xid: string }>('select pg_current_xact_id()::text as xid')
    const older = () => this.query<{ n: number }>(olderText, [now!.xid])
    await until(older, ([found]) => found!.n === 0, 120_000)
  }

  /** All that is committed. */
  async aggregate(options: Partial<LaneOptions> = {}): Promise<number> {
    await this.quiet()
    return this.aggregateNow(options)
  }

  /** All that can be aggregated now. */
  async aggregateNow(options: Partial<LaneOptions> = {}): Promise<number> {
    let added = 0
    for (const lane of await lanesWithWork(this.warehouse)) {
      for (;;) {
        const portion = await addPortion(this.warehouse, lane, { tokenDays: 30, now: new Date(0), ...options })
        added += portion.added
        if (portion.state !== 'more') break
      }
    }
    return added
  }

  sums(): Promise<Sums[]> {
    return this.query<Sums>(sumsText)
  }

  /** What the sums must be once all is aggregated. */
  oracle(tokenDays = 30): Promise<Sums[]> {
    return this.query<Sums>(oracleText, [tokenDays])
  }

  clear(): Promise<unknown> {
    return this.query(
      'truncate stats.stats_raw, stats.stats, stats.tokens, stats.lanes, stats.settings, oracle.events restart identity',
    )
  }

  async rawCount(): Promise<number> {
    const [row] = await this.query<{ n: number }>('select count(*)::int as n from stats.stats_raw')
    return row!.n
  }
}

class RolledBack extends Error {}

export const everyLane = Array.from({ length: laneCount }, (_, lane) => lane)
