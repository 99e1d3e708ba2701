/**
 * Clears tasks of a run, so that they run again.
 *
 * 1. Whoever clears holds the row of the run: nobody writes the run meanwhile, and its sequence moves on, so that what its
 *    owner had still under way is refused.
 * 2. A cleared task goes back to `none`, keeps the number of its attempts (`base`), and loses its result; a row without an
 *    attempt goes. Each has its row in the log, with who did it.
 * 3. A run that had ended is `queued` again and belongs to nobody. What had been wanted of it before is forgotten.
 * 4. What its attempts had stored is kept as long as the run is: others may have been given it.
 */
import {
  badStates,
  type ClearPlan,
  chosenTasks,
  liveStates,
  mostChosen,
  type NodeFacts,
  planClear,
} from '../core/clear.ts'
import type { Graph } from '../core/graph.ts'
import { isTerminal, type RunState } from '../core/run-state.ts'
import { type TaskState, terminalTaskStates } from '../core/task-state.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

/** What a person wants cleared; the body of a `clear` message. */
export interface ClearRequest {
  /** As `chosenTasks` reads them; at most `mostChosen`. */
  readonly tasks: readonly string[]
  readonly failed: boolean
  /** Durable steps are made again also by tasks that had not succeeded. */
  readonly fresh: boolean
  readonly by: string
  readonly note: string | null
}

export interface LockedRun {
  readonly id: string
  readonly workflow: string
  readonly version: string
  readonly state: RunState
  /** The engine that has it. */
  readonly nodeId: string | null
  readonly epoch: number
  readonly cancelRequested: boolean
}

const lock = statement<LockedRun>(
  'clear.lock_run',
  `select id, workflow, version, state, node_id as "nodeId", epoch,
     exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel') as "cancelRequested"
   from sluice.runs r where id = $1 for update`,
)

/** Holds a run until the transaction ends; undefined when there is none. */
export async function lockRun(session: Session, runId: string): Promise<LockedRun | undefined> {
  return (await session.query(lock, [runId]))[0]
}

const readFacts = statement<{ node: number; state: TaskState; count: number; whole: boolean; begun: boolean }>(
  'clear.read_facts',
  `select node, state, count(*)::int as count, bool_or(map_index = -1 and state <> 'none') as whole,
     bool_or(state <> 'none' and (attempt > 0 or state = 'success')) as begun
   from sluice.tasks where run_id = $1 group by node, state`,
)
const readWidths = statement<{ node: number; width: number }>(
  'clear.read_widths',
  'select node, width from sluice.map_ranges where run_id = $1',
)

/** By node, of those that have rows. */
export async function readNodeFacts(session: Session, runId: string): Promise<Map<number, NodeFacts>> {
  const widths = new Map((await session.query(readWidths, [runId])).map(({ node, width }) => [node, width]))
  const rows = Map.groupBy(await session.query(readFacts, [runId]), ({ node }) => node)
  return new Map(
    [...new Set([...rows.keys(), ...widths.keys()])].map((node) => {
      const own = rows.get(node) ?? []
      const counts = Object.fromEntries(own.map(({ state, count }) => [state, count]))
      const some = (fact: 'whole' | 'begun') => own.some((row) => row[fact])
      return [node, { counts, whole: some('whole'), begun: some('begun'), width: widths.get(node) }]
    }),
  )
}

/** Parameters 1 to 5: the run, and what of it. */
const planned = `t.run_id = $1 and (t.node = any ($2::int[])
       or (t.node = any ($3::int[]) and t.state in (${badStates.map((state) => `'${state}'`).join(', ')}))
       or (t.node, t.map_index) in (select * from unnest($4::int[], $5::int[])))`
const terminal = terminalTaskStates.map((state) => `'${state}'`).join(', ')

const findLive = statement<{ node: number; mapIndex: number; state: TaskState }>(
  'clear.find_live',
  `select t.node, t.map_index as "mapIndex", t.state from sluice.tasks t
   where ${planned} and t.state in (${liveStates.map((state) => `'${state}'`).join(', ')})
   order by 1, 2 limit 4`,
)

/** How many tasks of a node are in a state. */
export interface ClearedTasks {
  readonly node: number
  readonly state: TaskState
  readonly count: number
}

const preview = statement<ClearedTasks>(
  'clear.preview',
  `select t.node, t.state, count(*)::int as count from sluice.tasks t
   where ${planned} and t.state in (${terminal}) group by 1, 2 order by 1, 2`,
)

const valuesOf = (runId: string, { whole, failed, some }: ClearPlan) => [
  runId,
  whole,
  failed,
  some.map(({ node }) => node),
  some.map(({ mapIndex }) => mapIndex),
]

/** A clear that can be done as the rows stand now. */
export interface JudgedClear {
  readonly plan: ClearPlan
  readonly tasks: readonly ClearedTasks[]
}

/**
 * What a request would clear.
 * @throws SluiceError INVALID_INPUT (a task that is none), CONFLICT when something of it has not ended, the run is being
 *   cancelled, or nothing can be cleared
 */
export async function judgeClear(
  session: Session,
  run: LockedRun,
  graph: Graph,
  request: ClearRequest,
): Promise<JudgedClear> {
  const ended = isTerminal(run.state)
  if (!ended && run.cancelRequested) {
    throw new SluiceError('CONFLICT', `Run ${run.id} is being cancelled; it can be cleared once it has ended`)
  }
  if (request.tasks.length > mostChosen) throw new SluiceError('INVALID_INPUT', `At most ${mostChosen} tasks are named`)
  const facts = await readNodeFacts(session, run.id)
  const tasks = chosenTasks(graph.nodes, facts, run.id, request.tasks)
  const plan = planClear(graph, facts, { tasks, failed: request.failed }, ended)
  const live = await session.query(findLive, valuesOf(run.id, plan))
  if (live.length > 0) throw hasNotEnded(graph, live)
  const found = await session.query(preview, valuesOf(run.id, plan))
  // A run that ended without its tasks' doing, such as by its time limit, goes on where it stood.
  const goesOn = ended && run.state !== 'success'
  if (found.length === 0 && !goesOn) {
    const advice =
      request.tasks.length === 0 ? 'no task of it has failed; name one' : 'what you named has not ended yet'
    throw new SluiceError('CONFLICT', `There is nothing of run ${run.id} to clear: ${advice}`)
  }
  return { plan, tasks: found }
}

function hasNotEnded(
  { nodes }: Graph,
  live: readonly { node: number; mapIndex: number; state: TaskState }[],
): SluiceError {
  const named = live.slice(0, 3).map(({ node, mapIndex, state }) => {
    return `${nodes[node]!.id}${mapIndex < 0 ? '' : `[${mapIndex}]`} is ${state}`
  })
  const more = live.length > 3 ? ' and others' : ''
  return new SluiceError(
    'CONFLICT',
    `What would be cleared has not ended: ${named.join(', ')}${more}; wait for it, or cancel the run first`,
  )
}

const clear = statement<{ seq: number }>(
  'clear.tasks',
  `with chosen as materialized (
     select t.node, t.map_index, t.attempt, t.state, row_number() over (order by t.node, t.map_index) as nth
     from sluice.tasks t where ${planned} and t.state in (${terminal})
   ), run as (
     select id, seq, epoch, state, state in ('success', 'failed', 'cancelled') as ended,
       (select count(*) from chosen) as cleared
     from sluice.runs where id = $1
   ), logged as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     select run.id, run.seq + c.nth, sluice.sluice_now(), c.node, c.map_index, c.attempt, c.state, 'none',
       case when c.nth = 1 and not run.ended then $8 else $7 end
     from run, chosen c
     union all
     select id, seq + cleared + 1, sluice.sluice_now(), -1, -1, epoch, state, 'queued', $8 from run where ended
   ), dropped as (
     delete from sluice.tasks t using chosen c
     where t.run_id = $1 and t.node = c.node and t.map_index = c.map_index and c.attempt = 0
   ), reset as (
     update sluice.tasks t
     set state = 'none', base = t.attempt, losses = 0, waits = 0, token = null, result = null, error = null, wait = null,
       retry_at = null, started_at = null, first_started_at = null, finished_at = null
     from chosen c where t.run_id = $1 and t.node = c.node and t.map_index = c.map_index and c.attempt > 0
   ), widths as (
     delete from sluice.map_ranges where run_id = $1 and node = any ($2::int[])
   ), steps as (
     delete from sluice.checkpoints k using chosen c
     where k.run_id = $1 and k.node = c.node and k.map_index = c.map_index and ($6 or c.state = 'success')
   ), progress as (
     delete from sluice.task_progress p using chosen c
     where p.run_id = $1 and p.node = c.node and p.map_index = c.map_index
   ), wishes as (
     delete from sluice.inbox i using run where run.ended and i.run_id = run.id and i.kind <> 'clear'
   ), changed as (
     update sluice.runs r
     set seq = run.seq + run.cleared + case when run.ended then 1 else 0 end,
       state = case when run.ended then 'queued' else r.state end,
       node_id = case when run.ended then null else r.node_id end,
       started_at = case when run.ended then null else r.started_at end,
       admitted_at = case when run.ended then null else r.admitted_at end,
       error = null, result = null, finished_at = null
     from run where r.id = run.id
     returning r.seq
   )
   select seq::float8 as seq, pg_notify('sluice_runs', '') from changed`,
)

/**
 * Clears what a request asks for, in a transaction. A run that had ended can be taken again after it.
 * @throws SluiceError as `judgeClear`, and NOT_FOUND
 */
export async function clearRun(session: Session, runId: string, graph: Graph, request: ClearRequest) {
  const run = await lockRun(session, runId)
  if (run === undefined) throw new SluiceError('NOT_FOUND', `There is no run ${runId}`)
  const judged = await judgeClear(session, run, graph, request)
  const detail = `cleared by ${request.by}`
  const told = request.note === null ? detail : `${detail}: ${request.note}`
  await session.query(clear, [...valuesOf(runId, judged.plan), request.fresh, detail, told])
  return judged.tasks
}
