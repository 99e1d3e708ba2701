import type { SqlQueries } from 'sluice'
import { laneCount } from '../settings.ts'

/** What is received and not aggregated; $1 received before, $2 rows at most that are counted. */
const backlogText = `
  select count(*)::int as events, min(received_at) as oldest
  from (
    select r.received_at from stats.stats_raw r left join stats.lanes l using (lane)
    where r.received_at < $1 and (l.lane is null or r.xid > l.xid or r.id > l.id)
    order by r.received_at limit $2
  ) as waiting`

interface BacklogRow {
  readonly events: number
  readonly oldest: string | null
}

export interface Backlog {
  /** Counted up to 100,000. */
  readonly events: number
  /** When the oldest of them was received; null when there is none. */
  readonly oldest: Date | null
}

export const mostCounted = 100_000

const backlogOf = ([row]: readonly BacklogRow[]): Backlog => ({
  events: row!.events,
  oldest: row!.oldest === null ? null : new Date(row!.oldest),
})

/** Events that were received before a time and are not aggregated. */
export async function backlogBefore(sql: SqlQueries, before: Date): Promise<Backlog> {
  return backlogOf(await sql.query<BacklogRow>(backlogText, [before, mostCounted]))
}

/** Through the index by which aggregation reads, lane by lane; $1 rows at most that are counted of each. */
const waitingText = `
  select count(*)::int as events, min(waiting.received_at) as oldest
  from generate_series(0, ${laneCount - 1}) as lane left join stats.lanes l using (lane)
  cross join lateral (
    select r.received_at from stats.stats_raw r
    where r.lane = lane.lane and r.xid > coalesce(l.xid, '0'::xid8)
    order by r.xid limit $1
  ) as waiting`

/** Events that are not aggregated. */
export async function waitingNow(sql: SqlQueries): Promise<Backlog> {
  return backlogOf(await sql.query<BacklogRow>(waitingText, [Math.ceil(mostCounted / laneCount)]))
}

/** What the alarm says. */
export function behindText({ events, oldest }: Backlog, alertMinutes: number, now: Date): string {
  const count = events < mostCounted ? `${events}` : `at least ${mostCounted}`
  const minutes = oldest === null ? 0 : Math.floor((now.getTime() - oldest.getTime()) / 60_000)
  return [
    `Events received more than ${alertMinutes} min ago that are not aggregated: ${count}.`,
    `The oldest was received at ${oldest?.toISOString()}, ${minutes} min ago. Their rows are kept.`,
    'Look at the runs of stats-aggregate (paused? failed?), and for a transaction that has been open for as long:',
    'what was committed after its first write waits for its end',
  ].join(' ')
}

const sumText = `
  select coalesce(sum(events), 0)::bigint as events, max(aggregated_at) as at from stats.lanes`

/** Events that were ever aggregated, and when any were last. */
export async function aggregated(sql: SqlQueries): Promise<{ readonly events: number; readonly at: Date | null }> {
  const [found] = await sql.query<{ events: number; at: string | null }>(sumText)
  const { events, at } = found!
  return { events: Number(events), at: at === null ? null : new Date(at) }
}
