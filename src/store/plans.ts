/** Where each plan stands, and one row for every tick of every plan. */
import { type Session, statement } from '../ports/database.ts'

const begin = statement(
  'plans.begin',
  `insert into sluice.plan_cursors (workflow, plan, since)
   select workflow, plan, sluice.sluice_now() from unnest($1::text[], $2::text[]) as p(workflow, plan)
   on conflict do nothing`,
)

/** A plan that is seen for the first time starts now: ticks before it was known are not its own. */
export async function beginPlans(
  session: Session,
  plans: readonly { workflow: string; plan: string }[],
): Promise<void> {
  await session.execute(begin, [plans.map((plan) => plan.workflow), plans.map((plan) => plan.plan)])
}

const take = statement<{ workflow: string; plan: string; since: Date; paused: boolean }>(
  'plans.take',
  `select c.workflow, c.plan, c.since, coalesce(w.paused, false) as paused
   from sluice.plan_cursors c
   join unnest($1::text[], $2::text[]) as p(workflow, plan) on p.workflow = c.workflow and p.plan = c.plan
   left join sluice.workflows w on w.name = c.workflow
   order by c.workflow, c.plan for update of c skip locked`,
)

/** Locks the cursors of plans until the transaction ends; those another engine holds are left out. */
export function takePlans(session: Session, plans: readonly { workflow: string; plan: string }[]) {
  return session.query(take, [plans.map((plan) => plan.workflow), plans.map((plan) => plan.plan)])
}

export interface TickRow {
  readonly workflow: string
  readonly plan: string
  readonly logicalTime: Date
  readonly outcome: string
  readonly reason: string
  readonly runId: string | null
}

const tick = statement(
  'plans.tick',
  `with rows as (
     select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::uuid[])
       as t(workflow, plan, logical_time, outcome, reason, run_id)
   ), kept as (
     insert into sluice.ticks (workflow, plan, logical_time, outcome, reason, run_id)
     select * from rows on conflict do nothing
   )
   update sluice.plan_cursors c set since = greatest(c.since, r.latest)
   from (select workflow, plan, max(logical_time) as latest from rows group by 1, 2) r
   where c.workflow = r.workflow and c.plan = r.plan`,
)

/** Records ticks and moves the cursors of their plans up to the latest. */
export async function recordTicks(session: Session, ticks: readonly TickRow[]): Promise<void> {
  if (ticks.length === 0) return
  await session.execute(tick, [
    ticks.map((row) => row.workflow),
    ticks.map((row) => row.plan),
    ticks.map((row) => row.logicalTime),
    ticks.map((row) => row.outcome),
    ticks.map((row) => row.reason),
    ticks.map((row) => row.runId),
  ])
}

export interface FileArrival {
  readonly workflow: string
  readonly plan: string
  readonly path: string
  readonly size: number
  /** Milliseconds since the epoch. */
  readonly modifiedMs: number
  readonly runId: string
}

const known = statement<{ path: string; size: number; modified_ms: number }>(
  'plans.known_files',
  'select path, size, modified_ms from sluice.file_arrivals where workflow = $1 and plan = $2',
)

export async function knownFiles(session: Session, workflow: string, plan: string) {
  const rows = await session.query(known, [workflow, plan])
  return new Map(rows.map((row) => [row.path, { size: row.size, modifiedMs: row.modified_ms }]))
}

const arrive = statement(
  'plans.arrive',
  `insert into sluice.file_arrivals as f (workflow, plan, path, size, modified_ms, run_id) values ($1, $2, $3, $4, $5, $6)
   on conflict (workflow, plan, path) do update
     set size = excluded.size, modified_ms = excluded.modified_ms, run_id = excluded.run_id, fired_at = sluice.sluice_now()
     where (f.size, f.modified_ms) is distinct from (excluded.size, excluded.modified_ms)`,
)

/** False: this state of the file has been seen before, by this or another engine. */
export async function recordArrival(session: Session, arrival: FileArrival): Promise<boolean> {
  const { workflow, plan, path, size, modifiedMs, runId } = arrival
  return (await session.execute(arrive, [workflow, plan, path, size, modifiedMs, runId])) === 1
}

const paused = statement<{ paused: boolean }>('plans.paused', 'select paused from sluice.workflows where name = $1')

export async function isPaused(session: Session, workflow: string): Promise<boolean> {
  return (await session.query(paused, [workflow]))[0]?.paused ?? false
}
