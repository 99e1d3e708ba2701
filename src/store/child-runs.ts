/** Runs that tasks of other runs start: made with the start of the task, cancelled with its cancel. */
import { type Session, statement } from '../ports/database.ts'

export interface ChildRun {
  readonly id: string
  readonly workflow: string
  readonly version: string
  /** JSON text. */
  readonly params: string
  readonly lane: string
  readonly priority: number
  readonly parent: {
    readonly runId: string
    readonly node: number
    readonly mapIndex: number
    readonly attempt: number
  }
}

const insert = statement(
  'child_runs.insert',
  `with made as (
     insert into sluice.runs (id, workflow, version, plan, params, lane, priority,
       parent_run_id, parent_node, parent_map_index, parent_attempt)
     select id, workflow, version, 'run', params, lane, priority, parent, node, map_index, attempt
     from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]::json[], $5::text[], $6::int[], $7::uuid[], $8::int[], $9::int[], $10::int[])
       as c(id, workflow, version, params, lane, priority, parent, node, map_index, attempt)
   )
   select pg_notify('sluice_runs', '')`,
)

/** Call it in the transaction that commits the starts of their tasks. */
export async function insertChildren(session: Session, children: readonly ChildRun[]): Promise<void> {
  await session.execute(insert, [
    children.map((child) => child.id),
    children.map((child) => child.workflow),
    children.map((child) => child.version),
    children.map((child) => child.params),
    children.map((child) => child.lane),
    children.map((child) => child.priority),
    children.map((child) => child.parent.runId),
    children.map((child) => child.parent.node),
    children.map((child) => child.parent.mapIndex),
    children.map((child) => child.parent.attempt),
  ])
}

const cancel = statement(
  'child_runs.cancel',
  `with wishes as (
     insert into sluice.inbox (run_id, kind, key)
     select r.id, 'cancel', 'cancel ' || r.id
     from unnest($1::uuid[], $2::int[], $3::int[]) as t(run_id, node, map_index)
     join sluice.runs r on r.parent_run_id = t.run_id and r.parent_node = t.node and r.parent_map_index = t.map_index
     where r.state in ('queued', 'running')
     on conflict (key) do nothing
   )
   select pg_notify('sluice_inbox', '')`,
)

/** Wants the unfinished runs cancelled that these tasks started. */
export async function cancelChildren(
  session: Session,
  tasks: readonly { readonly runId: string; readonly node: number; readonly mapIndex: number }[],
): Promise<void> {
  await session.execute(cancel, [
    tasks.map((task) => task.runId),
    tasks.map((task) => task.node),
    tasks.map((task) => task.mapIndex),
  ])
}

const cancelAll = statement(
  'child_runs.cancel_of_run',
  `with wishes as (
     insert into sluice.inbox (run_id, kind, key)
     select r.id, 'cancel', 'cancel ' || r.id from sluice.runs r
     where r.parent_run_id = $1 and r.state in ('queued', 'running')
     on conflict (key) do nothing
     returning 1
   )
   select pg_notify('sluice_inbox', '') from wishes limit 1`,
)

/** Wants all unfinished runs cancelled that tasks of a run started. */
export async function cancelChildrenOf(session: Session, runId: string): Promise<void> {
  await session.execute(cancelAll, [runId])
}
