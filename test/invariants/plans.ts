/** Plans: each tick that was due has one row, and one run where it fired. */
import { statement } from '../../src/ports/database.ts'
import { always, defaultGraceMs, defaultHistoryMs, type Invariant, type Snapshot } from './breach.ts'

const history = ({ historyMs = defaultHistoryMs }: { readonly historyMs?: number }) => [historyMs]

export const planInvariants: readonly Invariant[] = [
  /** 10. A tick that fired has its run, with its plan and, where that is by the clock, its time; one that was skipped has none. */
  always(
    10,
    'ticks.run',
    `with clocked as (
       select distinct w.value ->> 'name' as workflow, p.value ->> 'name' as plan
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w, json_array_elements(w.value -> 'plans') p
       where p.value ->> 'kind' in ('cron', 'interval')
     )
     select format('tick %s of %s by %s (%s): its run is %s (by %s at %s)', t.logical_time, t.workflow, t.plan, t.outcome,
       coalesce(t.run_id::text, 'none') || case when r.id is null then ', not there' else '' end, r.plan, r.logical_time) as what
     from sluice.ticks t left join sluice.runs r on r.id = t.run_id
     left join clocked c on c.workflow = t.workflow and c.plan = t.plan
     where (t.run_id is null) <> (t.outcome = 'skipped')
       or (t.run_id is not null and r.id is null and t.at > sluice.sluice_now() - $1 * interval '1 ms')
       or r.workflow <> t.workflow or r.logical_time <> t.logical_time
       or r.plan <> t.plan || coalesce('#' || r.backfill_id, '')
       or (r.id is not null and r.logical_time is null and c.plan is not null)`,
    history,
  ),

  /**
   * 10. What became of a tick is what its plan's catch-up says. One is on time up to a minute after its own; up to five
   * are given to the process that handled it, which may have been held up. Plans whose catch-up was changed are left out,
   * and ticks that a backfill ran.
   */
  always(
    10,
    'ticks.catch-up',
    `with policies as (
       select w.value ->> 'name' as workflow, p.value ->> 'name' as plan, min(p.value ->> 'catchUp') as catch_up
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w, json_array_elements(w.value -> 'plans') p
       where p.value ->> 'kind' in ('cron', 'interval')
       group by 1, 2 having count(distinct p.value ->> 'catchUp') = 1
     ), judged as (
       select t.*, p.catch_up, lead(t.logical_time) over (partition by t.workflow, t.plan order by t.logical_time) as next
       from sluice.ticks t join policies p using (workflow, plan)
       where coalesce(t.reason, '') not like 'backfill %'
     )
     select format('tick %s of %s by %s was %s (%s) at %s; its catch-up is %s, the next tick %s', logical_time, workflow, plan,
       outcome, reason, at, catch_up, coalesce(next::text, 'is not there')) as what
     from judged
     where coalesce(reason, '') !~ '^(the workflow is paused|its parameters do not fit)|catch-up starts the newest' and (
       (outcome = 'caught_up' and catch_up <> 'all')
       or (outcome = 'late' and (catch_up = 'none' or next <= at - interval '5 minutes'))
       or (outcome = 'skipped' and (catch_up = 'all' or at < logical_time + interval '50 s'
         or (catch_up = 'last' and next is null and at < sluice.sluice_now() - $1 * interval '1 ms')))
       or (outcome = 'fired' and at > logical_time + interval '5 minutes'))`,
    ({ graceMs = defaultGraceMs }) => [graceMs],
  ),

  /** 10. A run that a plan started has its tick. That of a backfill may be a tick which has had a run before. */
  always(
    10,
    'ticks.of-run',
    `select format('run %s of %s by %s at %s has %s ticks', r.id, r.workflow, r.plan, r.logical_time, count(t.run_id)) as what
     from sluice.runs r left join sluice.ticks t on t.run_id = r.id
     where r.plan <> 'manual' and r.parent_run_id is null and r.retry_of is null and r.backfill_id is null and r.created_at > sluice.sluice_now() - $1 * interval '1 ms'
     group by r.id having count(t.run_id) <> 1`,
    history,
  ),

  /** 10. A tick is unique, never early, and its plan's cursor has passed it. */
  always(
    10,
    'ticks.row',
    `select format('%s ticks of %s by %s at %s for %s', count(*), workflow, plan, logical_time, event) as what
     from sluice.ticks group by workflow, plan, logical_time, event having count(*) > 1
     union all
     select format('tick %s of %s by %s was handled early, at %s', logical_time, workflow, plan, at)
     from sluice.ticks where at < logical_time - interval '1 s'
     union all
     select format('tick %s of %s by %s was handled, and the plan stands at %s', t.logical_time, t.workflow, t.plan, c.since)
     from sluice.ticks t join sluice.plan_cursors c using (workflow, plan) where t.logical_time > c.since
     union all
     select format('run %s of %s began early, at %s for %s', id, workflow, created_at, logical_time)
     from sluice.runs where created_at < logical_time - interval '1 s'`,
  ),

  /** 10. A file's arrival is the run that its tick names. */
  always(
    10,
    'ticks.files',
    `select format('the arrival of %s for %s by %s names run %s; that is of %s by %s', f.path, f.workflow, f.plan, f.run_id, r.workflow, r.plan) as what
     from sluice.file_arrivals f join sluice.runs r on r.id = f.run_id where r.workflow <> f.workflow or r.plan <> f.plan`,
  ),

  /** 10. Between a plan's first tick and where it stands, exactly the ticks of its pattern have rows; none is overdue. */
  { number: 10, when: 'always', find: recount },
]

interface Plan {
  readonly workflow: string
  readonly plan: string
  readonly pattern: string
  readonly timezone: string
  readonly since: Date
  readonly first: Date | null
  readonly ticks: readonly number[] | null
  readonly now: Date
  readonly watched: boolean
}

/** Plans with one pattern in all versions: of the others nobody knows from here which pattern was followed when. */
const plansStatement = statement<Plan>(
  'invariant.ticks.plans',
  `with defined as (
     select distinct w.value ->> 'name' as workflow, p.value ->> 'name' as plan, p.value ->> 'pattern' as pattern, p.value ->> 'timezone' as timezone
     from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w, json_array_elements(w.value -> 'plans') p
     where p.value ->> 'kind' = 'cron'
   ), alone as (
     select workflow, plan, min(pattern) as pattern, min(timezone) as timezone from defined group by workflow, plan having count(*) = 1
   )
   select a.*, c.since, sluice.sluice_now() as now,
     (select min(t.logical_time) from sluice.ticks t where t.workflow = a.workflow and t.plan = a.plan
       and coalesce(t.reason, '') not like 'backfill %') as first,
     (select array_agg((extract(epoch from t.logical_time) * 1000)::float8) from sluice.ticks t where t.workflow = a.workflow and t.plan = a.plan) as ticks,
     exists (select from sluice.nodes n where n.kind = 'engine' and n.lease_until > sluice.sluice_now()
       and n.started_at < sluice.sluice_now() - $1 * interval '1 ms') as watched
   from alone a join sluice.plan_cursors c using (workflow, plan)`,
)

const minuteMs = 60_000
/** Longer stretches are recounted from their end only. */
const longestMs = 14 * 86_400_000

async function recount({ session, options }: Snapshot): Promise<string[]> {
  const graceMs = options.graceMs ?? defaultGraceMs
  const found: string[] = []
  for (const plan of await session.query(plansStatement, [graceMs])) {
    const name = `${plan.workflow} by ${plan.plan} (${plan.pattern})`
    const told = new Set(plan.ticks ?? [])
    // Of a plan that has no ticks yet, nobody knows from here where it began, unless that was seen.
    const began = options.memory?.began(name, plan.since) ?? plan.since.getTime()
    const from = Math.max(Math.min(plan.first?.getTime() ?? began + 1, began + 1), plan.since.getTime() - longestMs)
    const wanted = matching(plan, from, plan.since.getTime())
    for (const at of wanted ?? []) if (!told.has(at)) found.push(`${name}: the tick ${iso(at)} has no row`)
    const due = new Set(wanted)
    for (const at of wanted === undefined ? [] : told)
      if (at >= from && !due.has(at)) found.push(`${name}: ${iso(at)} is no tick of it`)
    const overdue = plan.watched ? matching(plan, plan.since.getTime() + 1, plan.now.getTime() - graceMs) : []
    for (const at of overdue ?? []) found.push(`${name}: the tick ${iso(at)} is overdue`)
  }
  return found
}

const iso = (ms: number) => new Date(ms).toISOString()

/**
 * The minutes of `from <= minute <= to` that a plain pattern (numbers, lists, ranges, steps, stars) shows in its zone.
 * Undefined for other patterns, and where the zone's clock was set in that time.
 */
function matching({ pattern, timezone }: Plan, from: number, to: number): number[] | undefined {
  const fields = pattern.trim().split(/\s+/)
  if (fields.length !== 5 || fields.some((field) => !/^[\d*,/-]+$/.test(field))) return undefined
  const offset = offsetAt(timezone, from)
  for (let day = from; day < to; day += 86_400_000) if (offsetAt(timezone, day) !== offset) return undefined
  if (offsetAt(timezone, to) !== offset) return undefined
  const [minute, hour, monthDay, month, weekday] = fields as [string, string, string, string, string]
  const found: number[] = []
  for (let at = Math.ceil(from / minuteMs) * minuteMs; at <= to; at += minuteMs) {
    const local = new Date(at + offset)
    if (!fits(minute, local.getUTCMinutes(), 0) || !fits(hour, local.getUTCHours(), 0)) continue
    if (!fits(month, local.getUTCMonth() + 1, 1)) continue
    const byMonthDay = fits(monthDay, local.getUTCDate(), 1)
    const byWeekday = fits(weekday, local.getUTCDay(), 0) || (local.getUTCDay() === 0 && fits(weekday, 7, 0))
    const eitherDay = !monthDay.startsWith('*') && !weekday.startsWith('*')
    if (eitherDay ? byMonthDay || byWeekday : byMonthDay && byWeekday) found.push(at)
  }
  return found
}

function fits(field: string, value: number, lowest: number): boolean {
  return field.split(',').some((part) => {
    const [range = '*', step] = part.split('/')
    const [first, last] = range === '*' ? [lowest, 99] : range.split('-').map(Number)
    const end = last ?? (step === undefined ? first! : 99)
    return value >= first! && value <= end && (value - first!) % Number(step ?? 1) === 0
  })
}

/** What is added to UTC to give the zone's clock, in milliseconds. */
function offsetAt(zone: string, at: number): number {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZone: zone, timeZoneName: 'longOffset' }).formatToParts(at)
  const text = parts.find(({ type }) => type === 'timeZoneName')?.value ?? 'GMT'
  const [, sign, hours, minutes] = /^GMT([+-])(\d\d):(\d\d)/.exec(text) ?? []
  return sign === undefined ? 0 : (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * minuteMs
}
