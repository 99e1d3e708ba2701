/** The SQL of the read API. Names are `$n::text is null or ...`: each statement is planned with its values. */
import type { SqlQueries, SqlValue } from 'sluice'
import type { SumsRow } from './answer.ts'
import type { Range } from './range.ts'

export interface Names {
  readonly customer?: string | undefined
  readonly content?: string | undefined
}

export interface WindowRow extends SumsRow {
  readonly time: string
  readonly customer: string
  readonly content: string
}

const windowsText = `
  select time, customer, content, cdn::text, p2p::text, sessions::text
  from stats.stats
  where time > $1 and time <= $2 and ($3::text is null or customer = $3) and ($4::text is null or content = $4)
    and ($5::timestamptz is null or (time, customer, content) > ($5, $6::text, $7::text))
  order by time, customer, content limit $8`

export function windows(
  sql: SqlQueries,
  range: Range,
  names: Names,
  place: readonly string[] | undefined,
  limit: number,
) {
  const [time = null, customer = null, content = null] = place ?? []
  return sql.query<WindowRow>(windowsText, [...asked(range, names), time, customer, content, limit])
}

const seriesText = `
  select date_bin($5::interval, time - interval '5 minutes', '2000-01-01T00:00Z') + $5::interval as time,
    sum(cdn)::text as cdn, sum(p2p)::text as p2p, sum(sessions)::text as sessions
  from stats.stats
  where time > $1 and time <= $2 and ($3::text is null or customer = $3) and ($4::text is null or content = $4)
  group by 1 order by 1`

export function series(sql: SqlQueries, range: Range, names: Names, stepMinutes: number) {
  return sql.query<SumsRow & { readonly time: string }>(seriesText, [...asked(range, names), `${stepMinutes} minutes`])
}

const totalsText = `
  select count(*)::text as windows, coalesce(sum(cdn), 0)::text as cdn, coalesce(sum(p2p), 0)::text as p2p,
    coalesce(sum(sessions), 0)::text as sessions
  from stats.stats
  where time > $1 and time <= $2 and ($3::text is null or customer = $3) and ($4::text is null or content = $4)`

export async function totals(sql: SqlQueries, range: Range, names: Names) {
  const [row] = await sql.query<SumsRow & { readonly windows: string }>(totalsText, asked(range, names))
  return row!
}

const customersText = `
  select customer, count(distinct content)::text as contents, sum(cdn)::text as cdn, sum(p2p)::text as p2p,
    sum(sessions)::text as sessions
  from stats.stats where time > $1 and time <= $2 and ($3::text is null or customer > $3)
  group by customer order by customer limit $4`

export function customers(sql: SqlQueries, { from, to }: Range, place: readonly string[] | undefined, limit: number) {
  return sql.query<SumsRow & { readonly customer: string; readonly contents: string }>(customersText, [
    ...[from, to, place?.[0] ?? null, limit],
  ])
}

const contentsText = `
  select content, sum(cdn)::text as cdn, sum(p2p)::text as p2p, sum(sessions)::text as sessions
  from stats.stats where time > $1 and time <= $2 and customer = $3 and ($4::text is null or content > $4)
  group by content order by content limit $5`

export function contents(
  sql: SqlQueries,
  { from, to }: Range,
  customer: string,
  place: readonly string[] | undefined,
  limit: number,
) {
  return sql.query<SumsRow & { readonly content: string }>(contentsText, [
    ...[from, to, customer, place?.[0] ?? null, limit],
  ])
}

export interface RawRow {
  readonly receivedAt: string
  readonly number: string
  readonly id: string
  readonly token: string
  readonly customer: string
  readonly content: string
  readonly timespan: string
  readonly p2p: string
  readonly cdn: string
  readonly sessionDuration: string
  readonly aggregated: boolean
}

const rawText = `
  select r.received_at as "receivedAt", r.id::text as number, r.event_id as id, r.token, r.customer, r.content,
    r.timespan::text, r.p2p::text, r.cdn::text, r.session_duration::text as "sessionDuration",
    coalesce(r.xid <= l.xid and r.id <= l.id, false) as aggregated
  from stats.stats_raw r left join stats.lanes l using (lane)
  where ($1::text is null or r.customer = $1) and ($2::text is null or r.token = $2) and ($3::text is null or r.event_id = $3)
    and ($4::timestamptz is null or (r.received_at, r.id) < ($4, $5::bigint))
  order by r.received_at desc, r.id desc limit $6`

export interface RawNames {
  readonly customer?: string | undefined
  readonly token?: string | undefined
  readonly id?: string | undefined
}

export function raw(
  sql: SqlQueries,
  { customer, token, id }: RawNames,
  place: readonly string[] | undefined,
  limit: number,
) {
  const [time = null, number = null] = place ?? []
  return sql.query<RawRow>(rawText, [customer ?? null, token ?? null, id ?? null, time, number, limit])
}

const asked = ({ from, to }: Range, { customer, content }: Names): SqlValue[] => [
  ...[from, to, customer ?? null, content ?? null],
]
