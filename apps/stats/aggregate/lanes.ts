import type { SqlQueries } from 'sluice'
import { laneCount } from '../settings.ts'

/** Those in which something can be added now, or that are to be settled after a restore. */
const findText = `
  select lane::int as lane
  from generate_series(0, ${laneCount - 1}) as lane left join stats.lanes l using (lane)
  where l.server <> (select system_identifier from pg_control_system()) or exists (
    select from stats.stats_raw r
    where r.lane = lane.lane and r.xid > coalesce(l.xid, '0'::xid8) and r.xid < pg_snapshot_xmin(pg_current_snapshot())
  ) or l.lane is null and exists (
    select from stats.stats_raw r where r.lane = lane.lane and r.xid >= pg_snapshot_xmax(pg_current_snapshot())
  )
  order by lane`

export async function lanesWithWork(sql: SqlQueries): Promise<number[]> {
  return (await sql.query<{ lane: number }>(findText)).map(({ lane }) => lane)
}
