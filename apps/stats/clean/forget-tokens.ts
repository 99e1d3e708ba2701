/** Forgets tokens that no event can find any more. */
import type { SqlQueries } from 'sluice'

/**
 * $1 the last day that is remembered, $2 a day before now, $3 tokens at most. While an event of more than a day ago is still to
 * be aggregated, it may be one that finds them: then nothing is forgotten.
 */
const forgetText = `
  with old as (
    select t.hash from stats.tokens t
    where t.last_seen_on < $1::date and not exists (
      select from stats.stats_raw r left join stats.lanes l using (lane)
      where r.received_at < $2 and (l.lane is null or r.xid > l.xid or r.id > l.id)
    )
    order by t.last_seen_on limit $3
    for update of t skip locked
  ), forgotten as (
    delete from stats.tokens t using old where t.hash = old.hash returning t.hash
  )
  select count(*)::int as forgotten from forgotten`

const dayMs = 86_400_000
const batchRows = 10_000

export interface ForgetOptions {
  readonly now: Date
  readonly tokenDays: number
  /** Per transaction; default 10,000. */
  readonly rows?: number
}

/**
 * An event of a day knows tokens that were seen `tokenDays` before that day, and events may be aggregated a day after they were
 * received; so a token is kept a day longer. Gives how many it forgot.
 */
export async function forgetTokens(
  sql: SqlQueries,
  { now, tokenDays, rows = batchRows }: ForgetOptions,
): Promise<number> {
  const oldest = new Date(now.getTime() - (tokenDays + 1) * dayMs).toISOString().slice(0, 10)
  const dayAgo = new Date(now.getTime() - dayMs)
  for (let total = 0; ; ) {
    const [batch] = await sql.query<{ forgotten: number }>(forgetText, [oldest, dayAgo, rows])
    total += batch!.forgotten
    if (batch!.forgotten < rows) return total
  }
}
