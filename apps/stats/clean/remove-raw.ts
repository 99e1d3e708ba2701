/** Removes raw rows that are old enough and aggregated; both are conditions of the statement that removes them. */
import type { SqlQueries } from 'sluice'

/**
 * $1 rows received before, $2 and not before, $3 rows at most. A lane only ever moves on: one that has moved meanwhile is taken
 * for less far than it is. Rows that another cleaner is removing are left to it.
 */
const removeText = `
  with old as (
    select r.ctid, r.received_at
    from stats.stats_raw r join stats.lanes l on l.lane = r.lane and r.xid <= l.xid and r.id <= l.id
    where r.received_at < $1 and r.received_at >= $2
    order by r.received_at limit $3
    for update of r skip locked
  ), removed as (
    delete from stats.stats_raw r using old where r.ctid = old.ctid returning old.received_at
  )
  select count(*)::int as removed, max(received_at) as last from removed`

const batchRows = 10_000

export interface RemoveOptions {
  readonly now: Date
  readonly rawMinutes: number
  /** Per transaction; default 10,000. */
  readonly rows?: number
  /** Called after each batch. */
  readonly onBatch?: (removed: number) => void
}

/** Gives how many it removed. */
export async function removeRaw(sql: SqlQueries, { now, rawMinutes, rows = batchRows, onBatch }: RemoveOptions) {
  const before = new Date(now.getTime() - rawMinutes * 60_000)
  let removed = 0
  // Each batch goes on where the one before ended, so that rows that have to stay are passed once.
  for (let from = '-infinity'; ; ) {
    const [batch] = await sql.query<{ removed: number; last: string | null }>(removeText, [before, from, rows])
    removed += batch!.removed
    onBatch?.(removed)
    if (batch!.last === null || batch!.removed < rows) return removed
    from = batch!.last
  }
}
