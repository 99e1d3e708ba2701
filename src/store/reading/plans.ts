/** Where plans stand, and the ledger of their ticks, newest first. */
import type { TickOutcome } from '../../core/catch-up.ts'
import { type Session, statement } from '../../ports/database.ts'

export interface LedgerRow {
  readonly seq: number
  readonly workflow: string
  readonly plan: string
  readonly logicalTime: Date
  readonly event: string
  readonly outcome: TickOutcome
  readonly reason: string | null
  readonly runId: string | null
  readonly at: Date
}

export interface LedgerFilter {
  readonly workflow?: string | undefined
  readonly plan?: string | undefined
  readonly outcome?: TickOutcome | undefined
  /** Only rows that were recorded before this one. */
  readonly before?: number | undefined
  /** Rows at most. */
  readonly limit: number
}

const ofAll = statement<LedgerRow>(
  'reading.ticks',
  `select seq::float8 as seq, workflow, plan, logical_time as "logicalTime", event, outcome, reason, run_id as "runId", at
   from sluice.ticks
   where seq < coalesce($1::bigint, 9223372036854775807) and ($3::text is null or plan = $3) and ($4::text is null or outcome = $4)
   order by seq desc limit $2`,
)

const ofWorkflow = statement<LedgerRow>(
  'reading.ticks_of_workflow',
  `select seq::float8 as seq, workflow, plan, logical_time as "logicalTime", event, outcome, reason, run_id as "runId", at
   from sluice.ticks
   where workflow = $5 and seq < coalesce($1::bigint, 9223372036854775807)
     and ($3::text is null or plan = $3) and ($4::text is null or outcome = $4)
   order by seq desc limit $2`,
)

/** Walks one index from its end; rows of other plans and outcomes are passed. */
export function listTicks(session: Session, filter: LedgerFilter): Promise<LedgerRow[]> {
  const { workflow, plan, outcome, before, limit } = filter
  const values = [before ?? null, limit, plan ?? null, outcome ?? null]
  return workflow === undefined ? session.query(ofAll, values) : session.query(ofWorkflow, [...values, workflow])
}

export interface PlanStanding {
  readonly workflow: string
  readonly plan: string
  /** Of plans by the clock: ticks up to this time are done with. */
  readonly since: Date | null
  /** Of topics, by partition; of datasets, by name: what is done with. */
  readonly taken: Readonly<Record<string, number>> | null
}

const standings = statement<PlanStanding>(
  'reading.plan_standings',
  `select g.workflow, g.plan, c.since,
     coalesce(
       (select json_object_agg(t.partition, t.next_offset order by t.partition) from sluice.plan_topic_cursors t
        where t.workflow = g.workflow and t.plan = g.plan),
       (select json_object_agg(d.dataset, d.version order by d.dataset) from sluice.plan_dataset_cursors d
        where d.workflow = g.workflow and d.plan = g.plan)) as taken
   from unnest($1::text[], $2::text[]) as g(workflow, plan)
   left join sluice.plan_cursors c on c.workflow = g.workflow and c.plan = g.plan`,
)

export function planStandings(
  session: Session,
  plans: readonly { readonly workflow: string; readonly plan: string }[],
): Promise<PlanStanding[]> {
  return session.query(standings, [plans.map((plan) => plan.workflow), plans.map((plan) => plan.plan)])
}
