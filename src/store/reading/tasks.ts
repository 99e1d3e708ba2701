/** Rows of tasks. Tasks that have not started have no row; `src/api/run-tasks.ts` adds them from the graph. */
import type { RunState } from '../../core/run-state.ts'
import type { TaskState } from '../../core/task-state.ts'
import { type Session, statement } from '../../ports/database.ts'

export interface TaskSummary {
  readonly node: number
  readonly mapIndex: number
  readonly state: TaskState
  readonly attempt: number
  /** Attempts that ended because their runner was lost. */
  readonly losses: number
  /** Attempts that ended since they had to wait. */
  readonly waits: number
  /** Attempts before it was last cleared. */
  readonly base: number
  /** What it waits for while it is deferred. */
  readonly wait: Readonly<Record<string, unknown>> | null
  /** The first 2,000 characters. */
  readonly error: string | null
  readonly retryAt: Date | null
  readonly startedAt: Date | null
  readonly finishedAt: Date | null
  /** What its function told last; null when it told nothing. */
  readonly progress: { readonly done: number; readonly total: number | null } | null
}

export interface TaskDetail extends TaskSummary {
  /** JSON text. */
  readonly result: string | null
}

/** A place in the order of a run's tasks: by node, then by map index (-1 when not mapped). */
export interface TaskPlace {
  readonly node: number
  readonly mapIndex: number
}

const counts = statement<{ node: number; state: TaskState; count: number }>(
  'reading.task_counts',
  'select node, state, count(*) from sluice.tasks where run_id = $1 group by node, state',
)

/** How many rows of each node are in each state. Reads every row of the run. */
export function countTasks(
  session: Session,
  runId: string,
): Promise<{ node: number; state: TaskState; count: number }[]> {
  return session.query(counts, [runId])
}

// A row without a map index stands for all tasks of its node: they ended without having started.
const widths = statement<{ node: number; width: number }>(
  'reading.task_widths',
  `select m.node, m.width from sluice.map_ranges m
   where m.run_id = $1 and not exists (
     select from sluice.tasks t where t.run_id = m.run_id and t.node = m.node and t.map_index = -1)`,
)

/** How many tasks each mapped node has whose list is known, but for nodes that ended as a whole. */
export async function readWidths(session: Session, runId: string): Promise<ReadonlyMap<number, number>> {
  return new Map((await session.query(widths, [runId])).map(({ node, width }) => [node, width]))
}

const between = statement<TaskSummary>(
  'reading.tasks_between',
  `select node, map_index as "mapIndex", state, attempt, losses, waits, base, wait, left(error, 2000) as error, retry_at as "retryAt",
     started_at as "startedAt", finished_at as "finishedAt",
     (select json_build_object('done', p.done, 'total', p.total) from sluice.task_progress p
      where p.run_id = t.run_id and p.node = t.node and p.map_index = t.map_index) as progress
   from sluice.tasks t
   where run_id = $1 and (node, map_index) > ($2, $3) and (node, map_index) <= ($4, $5)
   order by node, map_index limit $6`,
)

/** Rows after `after` up to and with `last`, in order. */
export function readTasksBetween(
  session: Session,
  runId: string,
  after: TaskPlace,
  last: TaskPlace,
  limit: number,
): Promise<TaskSummary[]> {
  return session.query(between, [runId, after.node, after.mapIndex, last.node, last.mapIndex, limit])
}

const inState = statement<TaskSummary>(
  'reading.tasks_in_state',
  `select node, map_index as "mapIndex", state, attempt, losses, waits, base, wait, left(error, 2000) as error, retry_at as "retryAt",
     started_at as "startedAt", finished_at as "finishedAt",
     (select json_build_object('done', p.done, 'total', p.total) from sluice.task_progress p
      where p.run_id = t.run_id and p.node = t.node and p.map_index = t.map_index) as progress
   from sluice.tasks t
   where run_id = $1 and (node, map_index) > ($2, $3) and state = $4
   order by node, map_index limit $5`,
)

export function readTasksInState(
  session: Session,
  runId: string,
  after: TaskPlace,
  state: TaskState,
  limit: number,
): Promise<TaskSummary[]> {
  return session.query(inState, [runId, after.node, after.mapIndex, state, limit])
}

const one = statement<TaskDetail>(
  'reading.task',
  `select node, map_index as "mapIndex", state, attempt, losses, waits, base, wait, error, retry_at as "retryAt",
     started_at as "startedAt", finished_at as "finishedAt", result,
     (select json_build_object('done', p.done, 'total', p.total) from sluice.task_progress p
      where p.run_id = t.run_id and p.node = t.node and p.map_index = t.map_index) as progress
   from sluice.tasks t where run_id = $1 and node = $2 and map_index = $3`,
)

export async function findTask(session: Session, runId: string, place: TaskPlace): Promise<TaskDetail | undefined> {
  return (await session.query(one, [runId, place.node, place.mapIndex]))[0]
}

/** The run of another workflow that a task started last. */
export interface ChildRun extends TaskPlace {
  readonly id: string
  readonly state: RunState
}

const children = statement<ChildRun>(
  'reading.child_runs',
  `select distinct on (parent_node, parent_map_index) parent_node as node, parent_map_index as "mapIndex", id, state
   from sluice.runs
   where parent_run_id = $1 and (parent_node, parent_map_index) in (select * from unnest($2::int[], $3::int[]))
   order by parent_node, parent_map_index, parent_attempt desc`,
)

/** Of those of the tasks that started one. */
export async function readChildRuns(session: Session, runId: string, tasks: readonly TaskPlace[]): Promise<ChildRun[]> {
  if (tasks.length === 0) return []
  return session.query(children, [runId, tasks.map(({ node }) => node), tasks.map(({ mapIndex }) => mapIndex)])
}
