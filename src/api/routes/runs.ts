import { taskIdOf } from '../../core/ids.ts'
import { type RunState, runStates, terminalRunStates } from '../../core/run-state.ts'
import { type TaskState, taskStates, terminalTaskStates } from '../../core/task-state.ts'
import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { putInbox } from '../../store/inbox.ts'
import { findRunState, listRuns, type RunDetail } from '../../store/reading/runs.ts'
import { countTasks, readWidths } from '../../store/reading/tasks.ts'
import { readTransitions } from '../../store/reading/transitions.ts'
import { type ApiContext, idParams, runOf, waitQuery } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { recheckMs } from '../http-limits.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'
import { countStates, unstartedState } from '../run-tasks.ts'

const time = z.iso.datetime()

export const runSummary = z.object({
  id: z.uuid(),
  workflow: z.string(),
  version: z.string(),
  plan: z.string().meta({ description: 'manual, or the name of the plan' }),
  logicalTime: time.nullable(),
  state: z.enum(runStates),
  createdAt: time,
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
})

const runDetail = runSummary.extend({
  params: z.unknown(),
  error: z.string().nullable(),
  cancelRequested: z.boolean(),
  result: z
    .unknown()
    .meta({ description: 'What its workflow returns; null before its end, and where it returns nothing' }),
  parent: z
    .object({ runId: z.uuid(), taskId: z.uuid() })
    .nullable()
    .meta({ description: 'The task of another run that started it' }),
  retryOf: z.uuid().nullable().meta({ description: 'The run that it retries with another version' }),
  retries: z.array(z.uuid()).meta({ description: 'The runs that retry it, newest first, 20 at most' }),
  tasks: z.partialRecord(z.enum(taskStates), z.int()).meta({ description: 'How many tasks are in each state' }),
  progress: z.object({ done: z.int(), total: z.int() }).meta({
    description:
      'Tasks that have ended, and all that are known by now; a mapped node counts as one until its list is known',
  }),
})

const exampleRun = {
  id: '0199c7a8-5f2e-7c31-9d0a-5b8000000000',
  workflow: 'catalog',
  version: '6d7fb8c2',
  plan: 'manual',
  logicalTime: null,
  state: 'success',
  createdAt: '2026-03-28T00:00:00.000Z',
  startedAt: '2026-03-28T00:00:00.004Z',
  finishedAt: '2026-03-28T00:00:01.250Z',
}

const transition = z.object({
  seq: z.int(),
  at: time,
  task: z.string().nullable().meta({ description: 'The node; null for the run itself' }),
  index: z.int().nullable().meta({ description: 'Of a mapped task' }),
  attempt: z.int(),
  from: z.string(),
  to: z.string(),
  detail: z.string().nullable(),
})

const listQuery = z.strictObject({
  workflow: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,59}$/, 'is not a name of a workflow')
    .optional(),
  state: z.enum(runStates).optional(),
  ...pageQuery,
})

export function runRoutes(context: ApiContext): Route[] {
  return [listRoute(context), detailRoute(context), cancelRoute(context), transitionsRoute(context)]
}

function listRoute({ db }: ApiContext): Route {
  return route<unknown, z.infer<typeof listQuery>>({
    method: 'GET',
    path: '/api/v1/runs',
    tag: 'runs',
    summary: 'Runs, newest first',
    query: listQuery,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(runSummary, 'runs'),
        example: { items: [exampleRun], nextCursor: null },
      },
    },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { workflow, state, limit, cursor } }) {
      const before = cursor === undefined ? undefined : decodeCursor('runs', z.uuid(), cursor)
      const rows = await listRuns(db, { workflow, state, before, limit: limit + 1 })
      const items = rows.slice(0, limit)
      return { items, nextCursor: rows.length > limit ? encodeCursor('runs', items.at(-1)?.id) : null }
    },
  })
}

function detailRoute(context: ApiContext): Route {
  return route<{ id: string }, { wait?: number | undefined }>({
    method: 'GET',
    path: '/api/v1/runs/:id',
    tag: 'runs',
    summary: 'A run; with `wait`, once it has ended',
    params: idParams,
    query: z.strictObject({ wait: waitQuery }),
    answers: {
      200: {
        description: 'The run',
        schema: runDetail,
        example: {
          ...exampleRun,
          params: {},
          error: null,
          cancelRequested: false,
          result: null,
          parent: null,
          retryOf: null,
          retries: [],
          tasks: { success: 2 },
          progress: { done: 2, total: 2 },
        },
      },
    },
    async handle({ params, query, signal }) {
      await runOf(context, params.id)
      if (query.wait !== undefined) await untilEnded(context, params.id, query.wait, signal)
      return detailOf(context, await runOf(context, params.id))
    },
  })
}

function cancelRoute(context: ApiContext): Route {
  return route<{ id: string }>({
    method: 'POST',
    path: '/api/v1/runs/:id/cancel',
    tag: 'runs',
    summary: 'Cancel a run',
    params: idParams,
    answers: {
      202: {
        description: 'Its owner will cancel it; asking again changes nothing',
        schema: z.object({ id: z.uuid(), state: z.enum(runStates) }),
      },
    },
    errors: ['CONFLICT'],
    async handle({ params }) {
      const { id } = await runOf(context, params.id)
      const state = await putInbox(context.db, { runId: id, kind: 'cancel', key: `cancel ${id}` })
      if (state === undefined || isEnded(state))
        throw new SluiceError('CONFLICT', `The run has ended already: ${state}`)
      return reply(202, { id, state })
    },
  })
}

function transitionsRoute(context: ApiContext): Route {
  return route<{ id: string }, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/runs/:id/transitions',
    tag: 'runs',
    summary: 'Every change of state of a run and its tasks, in order',
    params: idParams,
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(transition, 'transitions') } },
    errors: ['INVALID_CURSOR'],
    async handle({ params, query: { limit, cursor } }) {
      const run = await runOf(context, params.id)
      const after = cursor === undefined ? 0 : decodeCursor(`transitions ${run.id}`, z.int().min(0), cursor)
      const workflow = await context.pinned(run.version, run.workflow)
      const rows = await readTransitions(context.db, run.id, after, limit + 1)
      const items = rows.slice(0, limit)
      return {
        items: items.map(({ node, mapIndex, ...row }) => ({
          ...row,
          task: node < 0 ? null : (workflow?.nodes[node]?.id ?? `node-${node}`),
          index: mapIndex < 0 ? null : mapIndex,
        })),
        nextCursor: rows.length > limit ? encodeCursor(`transitions ${run.id}`, items.at(-1)?.seq) : null,
      }
    },
  })
}

async function detailOf({ db, pinned }: ApiContext, run: RunDetail): Promise<object> {
  const [workflow, rows, widths] = await Promise.all([
    pinned(run.version, run.workflow),
    countTasks(db, run.id),
    readWidths(db, run.id),
  ])
  const tasks = countStates(workflow?.nodes ?? [], widths, rows, unstartedState(run.state))
  const sum = (states: readonly TaskState[]) => states.reduce((total, state) => total + (tasks[state] ?? 0), 0)
  const { parent } = run
  return {
    ...run,
    result: run.result === null ? null : (JSON.parse(run.result) as unknown),
    parent: parent && { runId: parent.runId, taskId: taskIdOf(parent.runId, parent.node, parent.mapIndex) },
    tasks,
    progress: { done: sum(terminalTaskStates), total: sum(taskStates) },
  }
}

export function isEnded(state: string): boolean {
  return (terminalRunStates as readonly string[]).includes(state)
}

/** Gives the run's state when it has ended, or when `ms` have passed. */
async function untilEnded(
  { db, tails, clock }: ApiContext,
  id: string,
  ms: number,
  signal: AbortSignal,
): Promise<RunState | undefined> {
  const until = clock.now() + ms
  const tail = await tails.follow(id)
  try {
    for (;;) {
      const state = await findRunState(db, id)
      const left = until - clock.now()
      if (state === undefined || isEnded(state) || left <= 0 || signal.aborted) return state
      await tail.news(Math.min(left, recheckMs), signal)
    }
  } finally {
    tail.close()
  }
}
