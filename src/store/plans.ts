/** Where each plan stands, and one row for every tick of every plan. */
import type { WorkflowManifest } from '../core/manifest.ts'
import type { PlanStart } from '../core/plan-start.ts'
import { type Session, statement } from '../ports/database.ts'
import type { NewRun } from './runs.ts'

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
  /** What happened, where the time alone does not say it; at most 500 characters. Default: nothing. */
  readonly event?: string
  readonly outcome: string
  readonly reason: string
  readonly runId: string | null
}

/** What a plan is to whoever starts its runs. */
export interface PlanEntry {
  readonly workflow: string
  readonly plan: string
  readonly version: string
  /** Of the runs that it starts. */
  readonly priority: number
}

/** A plan of a workflow of a version. */
export function planEntry(
  { name, priority = 0 }: Pick<WorkflowManifest, 'name' | 'priority'>,
  plan: { readonly name: string },
  version: string,
): PlanEntry {
  return { workflow: name, plan: plan.name, version, priority }
}

/** The row of a tick or an event, and the run that it starts under that id, if it starts one. */
export function plannedRows(
  entry: PlanEntry,
  at: { readonly time: Date; readonly logicalTime: Date | null; readonly event?: string },
  start: PlanStart,
  id: string,
): { readonly tick: TickRow; readonly run: NewRun | undefined } {
  const { outcome, reason, params } = start
  const { logicalTime, event = '' } = at
  const tick = {
    workflow: entry.workflow,
    plan: entry.plan,
    logicalTime: at.time,
    event: event.slice(0, longestEvent),
    outcome,
    reason,
  }
  if (params === undefined) return { tick: { ...tick, runId: null }, run: undefined }
  const run = {
    id,
    workflow: entry.workflow,
    version: entry.version,
    plan: entry.plan,
    logicalTime,
    params,
    idempotencyKey: null,
    requestHash: null,
    priority: entry.priority,
  }
  return { tick: { ...tick, runId: id }, run }
}

/** Characters; four times as many bytes fit an index. */
const longestEvent = 500

/** Of ticks whose run was there already, since somebody else started it for the same time: they start none. */
export function withoutTaken(ticks: readonly TickRow[], inserted: ReadonlySet<string>): TickRow[] {
  return ticks.map((row) =>
    row.runId === null || inserted.has(row.runId)
      ? row
      : { ...row, outcome: 'skipped', reason: 'there is a run of this time already', runId: null },
  )
}

const tick = statement(
  'plans.tick',
  `with rows as (
     select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[])
       as t(workflow, plan, logical_time, event, outcome, reason, run_id)
   ), kept as (
     insert into sluice.ticks as t (workflow, plan, logical_time, event, outcome, reason, run_id)
     select * from rows on conflict (workflow, plan, logical_time, event) do update
       set outcome = excluded.outcome, reason = excluded.reason, run_id = excluded.run_id
       where t.run_id is null and excluded.run_id is not null
   )
   update sluice.plan_cursors c set since = greatest(c.since, r.latest)
   from (select workflow, plan, max(logical_time) as latest from rows group by 1, 2) r
   where c.workflow = r.workflow and c.plan = r.plan`,
)

/**
 * Records ticks and moves the cursors of their plans up to the latest. What comes again in the very millisecond in which it
 * was skipped, and now has a run, has that in its row.
 */
export async function recordTicks(session: Session, ticks: readonly TickRow[]): Promise<void> {
  if (ticks.length === 0) return
  await session.execute(tick, [
    ticks.map((row) => row.workflow),
    ticks.map((row) => row.plan),
    ticks.map((row) => row.logicalTime),
    ticks.map((row) => row.event ?? ''),
    ticks.map((row) => row.outcome),
    ticks.map((row) => row.reason.replaceAll('\0', '')),
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
