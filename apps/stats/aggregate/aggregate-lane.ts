/**
 * Adds the raw rows of a lane to the sums of their windows, each exactly once.
 *
 * 1. Rows count in the order (xid, id), and only below the oldest transaction that runs anywhere on the server: whatever has
 *    a lower xid has ended, so nothing can appear between rows that were read. A row that becomes visible late has a higher
 *    xid than all that were read before, and is added to its window then.
 * 2. How far a lane is, its sums and its tokens are written by one statement. What is killed has added nothing; what is
 *    tried again after its answer was lost finds the lane further and adds nothing twice.
 * 3. A lane is claimed before the statement that reads: what it sees contains everything that the claimant before has
 *    committed. Who finds a lane claimed leaves it alone.
 * 4. Lanes share rows of the sums alone. Everybody writes these in one order, so nobody waits in a circle.
 * 5. Where the order is the same, so are the sums: how many aggregate, when, and in what portions changes nothing.
 */

import type { PostgresClient, SqlQueries } from 'sluice'
import { windowMinutes } from '../settings.ts'

/**
 * A lane has a row from its first claim on. Rows of a transaction that this server has not begun yet were restored from another
 * one.
 */
const openLane = `
  insert into stats.lanes (lane, server)
  select $1::smallint, case
    when exists (select from stats.stats_raw r where r.lane = $1 and r.xid >= pg_snapshot_xmax(pg_current_snapshot())) then 0
    else (select system_identifier from pg_control_system())
  end
  on conflict (lane) do nothing`

const claimLane = `
  select xid::text as xid, server = (select system_identifier from pg_control_system()) as "sameServer"
  from stats.lanes where lane = $1 for update skip locked`

/**
 * Restored into another server, whose xids may be lower than those of the rows: what is aggregated gets the lowest xid, the
 * rest that of this transaction, in the order of their ids.
 */
const settleLane = `
  with settled as (
    update stats.stats_raw r
    set xid = case when r.xid <= l.xid and r.id <= l.id then '0'::xid8 else pg_current_xact_id() end
    from stats.lanes l where l.lane = r.lane and r.lane = $1
  )
  update stats.lanes set xid = '0', server = (select system_identifier from pg_control_system()) where lane = $1`

/**
 * $1 lane, $2 its xid, $3 rows at most, but for whole transactions, $4 days for which tokens are remembered, $5 now.
 * Of a token, the days on which it was seen count: those of its earlier events here, and that which is remembered.
 */
const addEvents = `
  with portion as materialized (
    select r.xid from stats.stats_raw r
    where r.lane = $1 and r.xid > $2::xid8 and r.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by r.xid limit $3
  ), events as materialized (
    select r.xid, r.id, r.customer, r.content, r.cdn, r.p2p, r.session_duration,
      date_bin('${windowMinutes} minutes', r.received_at, '2000-01-01T00:00Z') + interval '${windowMinutes} minutes' as time,
      (r.received_at at time zone 'UTC')::date as day,
      stats.token_hash(r.customer, r.token) as token
    from stats.stats_raw r
    where r.lane = $1 and r.xid > $2::xid8 and r.xid <= (select xid from portion order by xid desc limit 1)
  ), judged as materialized (
    select e.*,
      e.session_duration < ${windowMinutes * 60_000} and (
        (e.cdn = 0 and e.p2p = 0)
        or coalesce(
          greatest((select t.last_seen_on from stats.tokens t where t.hash = e.token), max(e.day) over earlier) < e.day - $4::int,
          true)
      ) as starts
    from events e
    window earlier as (partition by e.token order by e.xid, e.id rows between unbounded preceding and 1 preceding)
  ), remembered as (
    insert into stats.tokens as t (hash, last_seen_on)
    select token, max(day) from events group by token order by token
    on conflict (hash) do update set last_seen_on = excluded.last_seen_on where t.last_seen_on < excluded.last_seen_on
  ), added as (
    insert into stats.stats as s (time, customer, content, cdn, p2p, sessions)
    select time, customer, content, least(sum(cdn), 9223372036854775807)::bigint,
      least(sum(p2p), 9223372036854775807)::bigint, count(*) filter (where starts)
    from judged group by time, customer, content order by time, customer, content
    on conflict (customer, content, time) do update set
      cdn = least(s.cdn::numeric + excluded.cdn, 9223372036854775807)::bigint,
      p2p = least(s.p2p::numeric + excluded.p2p, 9223372036854775807)::bigint,
      sessions = s.sessions + excluded.sessions
  ), total as (
    select count(*) as events, max(id) as id, (select xid from events order by xid desc limit 1) as xid,
      (select count(*) from portion) as portion
    from events
  ), moved as (
    update stats.lanes l set xid = total.xid, id = greatest(l.id, total.id), events = l.events + total.events, aggregated_at = $5
    from total where l.lane = $1 and total.events > 0
  )
  select total.events::int as events, total.portion::int as portion from total`

export interface Portion {
  /** Events that were added. */
  readonly added: number
  /** `busy`: another aggregator has the lane. `more`: there was more than a portion takes. `done`: nothing more was there. */
  readonly state: 'busy' | 'more' | 'done'
}

/** How much is added at once, unless a single transaction wrote more: 20,000 events take about a second and 10 MB. */
const portionRows = 20_000

export interface LaneOptions {
  readonly tokenDays: number
  readonly now: Date
  /** Default 20,000. */
  readonly rows?: number
}

/** One transaction. */
export async function addPortion(warehouse: PostgresClient, lane: number, options: LaneOptions): Promise<Portion> {
  const { tokenDays, now, rows = portionRows } = options
  return warehouse.transaction(async (sql) => {
    const claimed = await claim(sql, lane)
    if (claimed === undefined) return { added: 0, state: 'busy' }
    const [sum] = await sql.query<{ events: number; portion: number }>(addEvents, [lane, claimed, rows, tokenDays, now])
    return { added: sum!.events, state: sum!.portion < rows ? 'done' : 'more' }
  })
}

/** The xid up to which the lane is aggregated; undefined when somebody else has it. */
async function claim(sql: SqlQueries, lane: number): Promise<string | undefined> {
  await sql.query(openLane, [lane])
  const [claimed] = await sql.query<{ xid: string; sameServer: boolean }>(claimLane, [lane])
  if (claimed === undefined || claimed.sameServer) return claimed?.xid
  await sql.query(settleLane, [lane])
  return '0'
}
