import { taskIdOf, taskKeyOf } from '../../core/ids.ts'
import type { NodeManifest, WorkflowManifest } from '../../core/manifest.ts'
import { runStates } from '../../core/run-state.ts'
import { type TaskState, taskStates } from '../../core/task-state.ts'
import { SluiceError } from '../../errors.ts'
import { z } from '../../sdk/schema.ts'
import type { RunDetail } from '../../store/reading/runs.ts'
import {
  findTask,
  readChildRuns,
  readTasksBetween,
  readTasksInState,
  readWidths,
  type TaskPlace,
  type TaskSummary,
} from '../../store/reading/tasks.ts'
import { type ApiContext, idParams, runOf } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'
import { blank, firstPlace, lastPlace, mergeTasks, placesAfter, unstartedState } from '../run-tasks.ts'

const time = z.iso.datetime()

const task = z.object({
  id: z.uuid(),
  runId: z.uuid(),
  name: z.string().meta({ description: 'The node of the graph' }),
  index: z
    .int()
    .nullable()
    .meta({ description: 'Of a mapped task; null of one that is not, and of a mapped node whose list is not known' }),
  kind: z.enum(['action', 'branch', 'wait', 'approval', 'workflow']).nullable(),
  action: z.string().nullable().meta({ description: 'The action; of a task that runs a workflow, that workflow' }),
  group: z.string().nullable().meta({ description: 'The groups it stands in, outermost first, joined by dots' }),
  stage: z.string().nullable(),
  upstream: z.array(z.string()),
  state: z.enum(taskStates),
  attempt: z.int().meta({ description: '0 before the first' }),
  losses: z.int().meta({ description: 'Attempts that ended because their runner was lost' }),
  waits: z.int().meta({ description: 'Attempts that ended since the task had to wait' }),
  base: z.int().meta({ description: 'Attempts before it was last cleared' }),
  wait: z.looseObject({}).nullable().meta({ description: 'What it waits for without a runner; `kind` says which' }),
  run: z
    .object({ id: z.uuid(), state: z.enum(runStates) })
    .nullable()
    .meta({ description: 'The run of another workflow that it started last' }),
  error: z.string().nullable(),
  retryAt: time.nullable(),
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  progress: z
    .object({ done: z.number(), total: z.number().nullable() })
    .nullable()
    .meta({ description: 'What its function told last; null when it told nothing' }),
})

const order = z
  .int()
  .min(-1)
  .max(2 ** 31 - 1)
const place = z.tuple([order, order])

export function taskRoutes(context: ApiContext): Route[] {
  return [
    route<
      { id: string },
      { limit: number; cursor?: string | undefined; state?: Exclude<TaskState, 'none'> | undefined }
    >({
      method: 'GET',
      path: '/api/v1/runs/:id/tasks',
      tag: 'runs',
      summary: 'The tasks of a run in the order of its graph, those that have not started included',
      params: idParams,
      query: z.strictObject({
        state: z.enum(taskStates).exclude(['none']).optional().meta({ description: 'Only tasks in this state' }),
        ...pageQuery,
      }),
      answers: { 200: { description: 'A page', schema: pageOf(task, 'tasks') } },
      errors: ['INVALID_CURSOR'],
      async handle({ params, query: { limit, cursor, state } }) {
        const run = await runOf(context, params.id)
        const after = cursor === undefined ? firstPlace : placeOf(decodeCursor(`tasks ${run.id}`, place, cursor))
        const workflow = await context.pinned(run.version, run.workflow)
        const found = state
          ? await readTasksInState(context.db, run.id, after, state, limit + 1)
          : await tasksAfter(context, run, workflow, after, limit + 1)
        const items = found.slice(0, limit)
        const last = items.at(-1)
        return {
          items: await presentAll(context, run.id, workflow, items),
          nextCursor: last && found.length > limit ? encodeCursor(`tasks ${run.id}`, [last.node, last.mapIndex]) : null,
        }
      },
    }),
    route<{ id: string }>({
      method: 'GET',
      path: '/api/v1/tasks/:id',
      tag: 'tasks',
      summary: 'A task with its result',
      params: idParams,
      answers: { 200: { description: 'The task', schema: task.extend({ result: z.unknown() }) } },
      async handle({ params }) {
        const { run, workflow, row } = await taskOf(context, params.id)
        const result = row.result === null ? null : JSON.parse(row.result)
        const [shown] = await presentAll(context, run.id, workflow, [row])
        return { ...shown, result }
      },
    }),
  ]
}

const placeOf = ([node, mapIndex]: readonly [number, number]): TaskPlace => ({ node, mapIndex })

async function tasksAfter(
  { db }: ApiContext,
  run: RunDetail,
  workflow: WorkflowManifest | undefined,
  after: TaskPlace,
  limit: number,
): Promise<TaskSummary[]> {
  const places = placesAfter(workflow?.nodes ?? [], await readWidths(db, run.id), after, limit)
  const last = places.length === limit ? (places.at(-1) as TaskPlace) : lastPlace
  const rows = await readTasksBetween(db, run.id, after, last, limit)
  return mergeTasks(places, rows, unstartedState(run.state)).slice(0, limit)
}

/** A task by its id, also before it has a row. @throws SluiceError NOT_FOUND */
export async function taskOf(
  context: ApiContext,
  id: string,
): Promise<{
  run: RunDetail
  workflow: WorkflowManifest | undefined
  row: TaskSummary & { readonly result: string | null }
}> {
  const { runId, ...key } = taskKeyOf(id)
  const run = await runOf(context, runId).catch((thrown: unknown) => {
    if (thrown instanceof SluiceError && thrown.code === 'NOT_FOUND')
      throw new SluiceError('NOT_FOUND', `There is no task ${id}`)
    throw thrown
  })
  const workflow = await context.pinned(run.version, run.workflow)
  const found = await findTask(context.db, runId, key)
  if (found) return { run, workflow, row: found }
  const planned = await isPlanned(context, run, workflow?.nodes[key.node], key)
  if (!planned) throw new SluiceError('NOT_FOUND', `There is no task ${id}`)
  return { run, workflow, row: { ...blank(key, unstartedState(run.state)), result: null } }
}

async function isPlanned(
  { db }: ApiContext,
  run: RunDetail,
  node: NodeManifest | undefined,
  key: TaskPlace,
): Promise<boolean> {
  if (!node) return false
  const width = node.over === undefined ? undefined : (await readWidths(db, run.id)).get(key.node)
  return width === undefined ? key.mapIndex === -1 : key.mapIndex >= 0 && key.mapIndex < width
}

async function presentAll(
  { db }: ApiContext,
  runId: string,
  workflow: WorkflowManifest | undefined,
  rows: readonly TaskSummary[],
): Promise<object[]> {
  const starters = rows.filter(({ node, attempt }) => attempt > 0 && workflow?.nodes[node]?.kind === 'workflow')
  const runs = new Map(
    (await readChildRuns(db, runId, starters)).map(({ node, mapIndex, id, state }) => [
      `${node} ${mapIndex}`,
      { id, state },
    ]),
  )
  return rows.map((row) => ({
    ...present(runId, workflow, row),
    run: runs.get(`${row.node} ${row.mapIndex}`) ?? null,
  }))
}

function present(runId: string, workflow: WorkflowManifest | undefined, row: TaskSummary): object {
  const node = workflow?.nodes[row.node]
  return {
    id: taskIdOf(runId, row.node, row.mapIndex),
    runId,
    name: node?.id ?? `node-${row.node}`,
    index: row.mapIndex < 0 ? null : row.mapIndex,
    kind: node === undefined ? null : (node.kind ?? 'action'),
    action: node?.action ?? null,
    group: node?.group ?? null,
    stage: node?.stage === undefined ? null : (workflow?.stages[node.stage] ?? null),
    upstream: node?.upstream.map((index) => workflow?.nodes[index]?.id) ?? [],
    state: row.state,
    attempt: row.attempt,
    losses: row.losses,
    waits: row.waits,
    base: row.base,
    wait: row.state === 'deferred' ? row.wait : null,
    error: row.error,
    retryAt: row.retryAt,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
    progress: row.progress,
  }
}
