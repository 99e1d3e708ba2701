/** Runs as lists and details show them. Newest first: ids are UUIDv7, so their order is that of creation. */
import type { RunState } from '../../core/run-state.ts'
import { type Session, statement } from '../../ports/database.ts'

export interface RunSummary {
  readonly id: string
  readonly workflow: string
  readonly version: string
  /** `manual`, or the name of the plan. */
  readonly plan: string
  readonly logicalTime: Date | null
  readonly state: RunState
  readonly createdAt: Date
  readonly startedAt: Date | null
  readonly finishedAt: Date | null
}

export interface RunDetail extends RunSummary {
  readonly params: unknown
  readonly error: string | null
  readonly cancelRequested: boolean
  /** JSON text of what its workflow returns. */
  readonly result: string | null
  /** The task of another run that started it. */
  readonly parent: { readonly runId: string; readonly node: number; readonly mapIndex: number } | null
  /** The run whose results it took over, and the runs that took over its own: the newest 20. */
  readonly retryOf: string | null
  readonly retries: readonly string[]
}

export interface RunFilter {
  readonly workflow?: string | undefined
  readonly state?: RunState | undefined
  /** Only runs with a smaller id. */
  readonly before?: string | undefined
  /** Rows at most. */
  readonly limit: number
}

// One statement for each set of filters: each walks one index from its end and stops at the limit.
const all = statement<RunSummary>(
  'reading.runs',
  `select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
     started_at as "startedAt", finished_at as "finishedAt"
   from sluice.runs where id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') order by id desc limit $2`,
)
const ofState = statement<RunSummary>(
  'reading.runs_of_state',
  `select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
     started_at as "startedAt", finished_at as "finishedAt"
   from sluice.runs where id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and state = $3
   order by id desc limit $2`,
)
const ofWorkflow = statement<RunSummary>(
  'reading.runs_of_workflow',
  `select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
     started_at as "startedAt", finished_at as "finishedAt"
   from sluice.runs
   where workflow = $3 and id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') order by id desc limit $2`,
)
const ofWorkflowAndState = statement<RunSummary>(
  'reading.runs_of_workflow_and_state',
  `select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
     started_at as "startedAt", finished_at as "finishedAt"
   from sluice.runs
   where workflow = $3 and state = $4 and id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   order by id desc limit $2`,
)

export function listRuns(session: Session, { workflow, state, before, limit }: RunFilter): Promise<RunSummary[]> {
  const values = [before ?? null, limit]
  if (workflow !== undefined && state !== undefined) {
    return session.query(ofWorkflowAndState, [...values, workflow, state])
  }
  if (workflow !== undefined) return session.query(ofWorkflow, [...values, workflow])
  if (state !== undefined) return session.query(ofState, [...values, state])
  return session.query(all, values)
}

const one = statement<RunDetail>(
  'reading.run',
  `select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
     started_at as "startedAt", finished_at as "finishedAt", params, error,
     exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel') as "cancelRequested", result,
     case when parent_run_id is not null then
       json_build_object('runId', parent_run_id, 'node', parent_node, 'mapIndex', parent_map_index) end as parent,
     retry_of as "retryOf",
     array(select x.id::text from sluice.runs x where x.retry_of = r.id order by x.id desc limit 20) as retries
   from sluice.runs r where id = $1`,
)

export async function findRun(session: Session, id: string): Promise<RunDetail | undefined> {
  return (await session.query(one, [id]))[0]
}

const stateOf = statement<{ state: RunState }>('reading.run_state', 'select state from sluice.runs where id = $1')

export async function findRunState(session: Session, id: string): Promise<RunState | undefined> {
  return (await session.query(stateOf, [id]))[0]?.state
}

const lastOfEach = statement<RunSummary>(
  'reading.last_runs',
  `select last.* from unnest($1::text[]) as wanted (name), lateral (
     select id, workflow, version, plan, logical_time as "logicalTime", state, created_at as "createdAt",
       started_at as "startedAt", finished_at as "finishedAt"
     from sluice.runs where workflow = wanted.name order by id desc limit 1
   ) as last`,
)

/** The newest run of each of these workflows that has one. */
export function lastRuns(session: Session, workflows: readonly string[]): Promise<RunSummary[]> {
  return session.query(lastOfEach, [workflows])
}
