/** Task rows: read at adoption, and guarded by the attempt's token for whatever an attempt writes itself. */
import type { TaskRow } from '../core/run-restore.ts'
import type { TaskState } from '../core/task-state.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

const readTasks = statement<{
  node: number
  map_index: number
  state: TaskState
  attempt: number
  losses: number
  waits: number
  base: number
  token: number | null
  result: string | null
  retry_at: Date | null
  first_started_at: Date | null
}>(
  'tasks.read_run',
  `select node, map_index, state, attempt, losses, waits, base, token, result, retry_at, first_started_at
   from sluice.tasks where run_id = $1`,
)

const readWidths = statement<{ node: number; width: number }>(
  'tasks.read_widths',
  'select node, width from sluice.map_ranges where run_id = $1',
)

export async function readRunTasks(
  session: Session,
  runId: string,
): Promise<{ tasks: TaskRow[]; widths: { node: number; width: number }[] }> {
  const tasks = await session.query(readTasks, [runId])
  const widths = await session.query(readWidths, [runId])
  return {
    tasks: tasks.map((row) => ({
      node: row.node,
      mapIndex: row.map_index,
      state: row.state,
      attempt: row.attempt,
      losses: row.losses,
      waits: row.waits,
      base: row.base,
      token: row.token,
      result: row.result,
      retryAt: row.retry_at?.getTime() ?? null,
      firstStartedAt: row.first_started_at?.getTime() ?? null,
    })),
    widths,
  }
}

export interface AttemptKey {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly token: number
}

const guard = statement(
  'tasks.guard_attempt',
  `select from sluice.tasks where run_id = $1 and node = $2 and map_index = $3 and token = $4 and state = 'running' for share`,
)

/** Holds the attempt live until the transaction ends. @throws SluiceError FENCED when it is not live. */
export async function guardAttempt(session: Session, key: AttemptKey): Promise<void> {
  const rows = await session.execute(guard, [key.runId, key.node, key.mapIndex, key.token])
  if (rows !== 1)
    throw new SluiceError('FENCED', 'this attempt is no longer the live one of its task; what it writes is refused')
}

const readStep = statement<{ result: string }>(
  'checkpoints.read',
  'select result from sluice.checkpoints where run_id = $1 and node = $2 and map_index = $3 and name = $4',
)
const writeStep = statement(
  'checkpoints.write',
  `insert into sluice.checkpoints (run_id, node, map_index, name, result) values ($1, $2, $3, $4, $5)
   on conflict do nothing`,
)

/** The JSON text of a durable step's result, if an earlier attempt (or this one) has made it. */
export async function readCheckpoint(session: Session, key: AttemptKey, name: string): Promise<string | undefined> {
  return (await session.query(readStep, [key.runId, key.node, key.mapIndex, name]))[0]?.result
}

/** Call it in a transaction after `guardAttempt`. */
export async function writeCheckpoint(session: Session, key: AttemptKey, name: string, result: string): Promise<void> {
  await session.execute(writeStep, [key.runId, key.node, key.mapIndex, name, result])
}

export interface TaskProgress {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly done: number
  readonly total: number | null
}

const writeProgressStatement = statement(
  'tasks.write_progress',
  `insert into sluice.task_progress (run_id, node, map_index, done, total)
   select * from unnest($1::uuid[], $2::int[], $3::int[], $4::float8[], $5::float8[]) order by 1, 2, 3
   on conflict (run_id, node, map_index) do update set done = excluded.done, total = excluded.total`,
)

/** Keeps the latest word of each task; one row a task. */
export async function writeProgress(session: Session, told: readonly TaskProgress[]): Promise<void> {
  await session.execute(writeProgressStatement, [
    told.map((one) => one.runId),
    told.map((one) => one.node),
    told.map((one) => one.mapIndex),
    told.map((one) => one.done),
    told.map((one) => one.total),
  ])
}
