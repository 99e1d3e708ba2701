/** How sites are now, and how they have been of late. */
import { type SqlQueries, z } from 'sluice'
import { schema } from '../settings.ts'

export const states = ['up', 'down', 'late', 'pending', 'paused', 'invalid'] as const
export type State = (typeof states)[number]

const percent = z.number().min(0).max(100).nullable()
const time = z.iso.datetime()
const ms = z.number().nullable()

export const siteStatus = z.object({
  id: z.int(),
  url: z.string(),
  interval: z.int().meta({ description: 'Seconds' }),
  state: z.enum(states).meta({
    description:
      'late: its last result is older than three intervals and a minute · pending: it has none yet · paused: not active · invalid: it cannot be checked, see fault',
  }),
  since: time.nullable().meta({ description: 'The check with which the last result first was as it is: good or bad' }),
  fault: z.string().nullable(),
  uptime: z.object({ '24h': percent, '7d': percent, '30d': percent }).meta({
    description:
      'Percent of the checks without a failure: of the last 24 hours and the present one; of 7 and 30 days of UTC, today included',
  }),
  last: z
    .object({
      scheduledAt: time,
      checkedAt: time,
      status: z.int().nullable(),
      responseMs: ms,
      regexpFound: z.boolean().nullable(),
      failure: z.string().nullable(),
      detail: z.string().nullable(),
      timings: z.object({
        dnsMs: ms,
        connectMs: ms,
        tlsMs: ms,
        processingMs: ms,
        transferMs: ms,
        totalMs: z.number(),
      }),
      certificateEndsAt: time.nullable(),
    })
    .nullable(),
})

export type SiteStatus = z.infer<typeof siteStatus>

interface StatusRow {
  readonly id: number
  readonly url: string
  readonly interval: number
  readonly state: State
  readonly since: string | null
  readonly fault: string | null
  readonly scheduled_at: string | null
  readonly checked_at: string
  readonly status: number | null
  readonly response_ms: number | null
  readonly regexp_found: boolean | null
  readonly failure: string | null
  readonly detail: string | null
  readonly dns_ms: number | null
  readonly connect_ms: number | null
  readonly tls_ms: number | null
  readonly processing_ms: number | null
  readonly transfer_ms: number | null
  readonly total_ms: number
  readonly certificate_ends_at: string | null
  readonly checks_24h: number | null
  readonly good_24h: number | null
  readonly checks_7d: number | null
  readonly good_7d: number | null
  readonly checks_30d: number | null
  readonly good_30d: number | null
}

/** A page of sites is found first; sums are made for those alone. */
const statusSql = `
  select o.*, h.checks_24h, h.good_24h, d.checks_7d, d.good_7d, d.checks_30d, d.good_30d
  from (
    select * from ${schema}.overview
    where id > $1 and ($2::text is null or state = $2) and ($3::text is null or position(lower($3) in lower(url)) > 0)
      and ($4::text is null or failure = $4) and ($5::integer is null or id = $5)
    order by id limit $6
  ) o
  left join lateral (
    select sum(checks)::float8 as checks_24h, sum(successes)::float8 as good_24h
    from ${schema}.hours where site = o.id and hour >= date_trunc('hour', now(), 'UTC') - interval '24 hours'
  ) h on true
  left join lateral (
    select sum(checks)::float8 as checks_30d, sum(successes)::float8 as good_30d,
      (sum(checks) filter (where day > date_trunc('day', now(), 'UTC') - interval '7 days'))::float8 as checks_7d,
      (sum(successes) filter (where day > date_trunc('day', now(), 'UTC') - interval '7 days'))::float8 as good_7d
    from ${schema}.days where site = o.id and day > date_trunc('day', now(), 'UTC') - interval '30 days'
  ) d on true
  order by o.id`

export interface WantedStatus {
  readonly after?: number
  readonly state?: State | undefined
  /** The URL has it in it, in upper or lower case. */
  readonly url?: string | undefined
  readonly failure?: string | undefined
  readonly id?: number
  readonly limit: number
}

export async function readStatus(sql: SqlQueries, wanted: WantedStatus): Promise<SiteStatus[]> {
  const { after = 0, state, url, failure, id, limit } = wanted
  return (await sql.query<StatusRow>(statusSql, [after, state, url, failure, id, limit])).map(statusOf)
}

function statusOf(row: StatusRow): SiteStatus {
  const { id, url, interval, state, since, fault } = row
  const uptime = {
    '24h': share(row.good_24h, row.checks_24h),
    '7d': share(row.good_7d, row.checks_7d),
    '30d': share(row.good_30d, row.checks_30d),
  }
  return { id, url, interval, state, since, fault, uptime, last: lastOf(row) }
}

const share = (good: number | null, checks: number | null) =>
  checks === null || checks === 0 ? null : Math.floor((100_000 * (good ?? 0)) / checks) / 1_000

function lastOf(row: StatusRow): SiteStatus['last'] {
  if (row.scheduled_at === null) return null
  return {
    scheduledAt: row.scheduled_at,
    checkedAt: row.checked_at,
    status: row.status,
    responseMs: row.response_ms,
    regexpFound: row.regexp_found,
    failure: row.failure,
    detail: row.detail,
    timings: {
      dnsMs: row.dns_ms,
      connectMs: row.connect_ms,
      tlsMs: row.tls_ms,
      processingMs: row.processing_ms,
      transferMs: row.transfer_ms,
      totalMs: row.total_ms,
    },
    certificateEndsAt: row.certificate_ends_at,
  }
}

const summarySql = `select state, count(*)::int as sites from ${schema}.overview group by state`

/** How many sites are in each state. */
export async function readSummary(sql: SqlQueries): Promise<Readonly<Record<State, number>>> {
  const found = await sql.query<{ state: State; sites: number }>(summarySql)
  const counts = new Map(found.map(({ state, sites }) => [state, sites]))
  return Object.fromEntries(states.map((state) => [state, counts.get(state) ?? 0])) as Record<State, number>
}
