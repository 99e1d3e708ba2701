/** The response times of a site over time. */
import { problem, type SqlQueries, z } from 'sluice'
import { schema } from '../settings.ts'

export const steps = { '1m': 60, '5m': 300, '15m': 900, '1h': 3_600, '1d': 86_400 } as const
export type Step = keyof typeof steps
export const stepNames = Object.keys(steps) as [Step, ...Step[]]

const mostPoints = 2_000

export const point = z.object({
  time: z.iso.datetime().meta({ description: 'When the step begins' }),
  checks: z.int(),
  successes: z.int(),
  averageMs: z.number().nullable().meta({ description: 'Of checks without a failure, as the others' }),
  leastMs: z.number().nullable(),
  mostMs: z.number().nullable(),
  p95Ms: z.number().nullable().meta({ description: 'Where single results are read: steps below an hour; else null' }),
})

export type Point = z.infer<typeof point>

export interface Span {
  readonly from: Date
  readonly to: Date
  readonly step: Step
}

/** What is asked for, or the finest step that gives at most 300 points. @throws SluiceError INVALID_INPUT */
export function spanOf(
  asked: { from?: string | undefined; to?: string | undefined; step?: Step | undefined },
  now: number,
): Span {
  const to = asked.to === undefined ? now : Date.parse(asked.to)
  const from = asked.from === undefined ? to - 86_400_000 : Date.parse(asked.from)
  if (!(from < to)) problem('INVALID_INPUT', '/query/from must be before /query/to')
  const seconds = (to - from) / 1_000
  const step = asked.step ?? stepNames.find((name) => seconds / steps[name] <= 300) ?? '1d'
  if (seconds / steps[step] > mostPoints) {
    problem(
      'INVALID_INPUT',
      `${Math.ceil(seconds / steps[step])} points are asked for; at most ${mostPoints} are given: take a longer step`,
    )
  }
  return { from: new Date(from), to: new Date(to), step }
}

const fromResultsSql = `
  select date_bin(make_interval(secs => $4::float8), scheduled_at, timestamptz '2000-01-01Z') as time, count(*)::int as checks,
    (count(*) filter (where failure is null))::int as successes,
    avg(response_ms) filter (where failure is null) as "averageMs", min(response_ms) filter (where failure is null) as "leastMs",
    max(response_ms) filter (where failure is null) as "mostMs",
    percentile_cont(0.95) within group (order by response_ms) filter (where failure is null) as "p95Ms"
  from ${schema}.results where site = $1 and scheduled_at >= $2 and scheduled_at < $3
  group by 1 order by 1`

const sumColumns = `checks, successes, sum_ms / nullif(successes, 0) as "averageMs", least_ms as "leastMs", most_ms as "mostMs",
    null::float8 as "p95Ms"`

const hoursSql = `
  select hour as time, ${sumColumns} from ${schema}.hours where site = $1 and hour >= $2 and hour < $3 order by 1`

const daysSql = `
  select day as time, ${sumColumns} from ${schema}.days where site = $1 and day >= $2 and day < $3 order by 1`

/** Steps without a check are left out. The first begins at or after `from`, or is the part of one that does. */
export async function readSeries(sql: SqlQueries, site: number, { from, to, step }: Span): Promise<Point[]> {
  if (step === '1h') return sql.query<Point>(hoursSql, [site, from, to])
  if (step === '1d') return sql.query<Point>(daysSql, [site, from, to])
  return sql.query<Point>(fromResultsSql, [site, from, to, steps[step]])
}
