/** Runs again: tasks of a run are cleared, or a new run of the latest version takes over what has not changed. */
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { chosenTasks, mostChosen, type NodeFacts } from '../../core/clear.ts'
import { compileGraph, type Graph } from '../../core/graph.ts'
import { newRunId } from '../../core/ids.ts'
import { fitParams } from '../../core/planned-params.ts'
import { type Reused, reusedNodes } from '../../core/reuse.ts'
import { isTerminal, runStates } from '../../core/run-state.ts'
import { taskStates } from '../../core/task-state.ts'
import { SluiceError } from '../../errors.ts'
import type { Session } from '../../ports/database.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { answerOnce } from '../../store/answered-requests.ts'
import {
  type ClearedTasks,
  type ClearRequest,
  clearRun,
  judgeClear,
  lockRun,
  readNodeFacts,
} from '../../store/clear.ts'
import { putInbox } from '../../store/inbox.ts'
import type { RunDetail } from '../../store/reading/runs.ts'
import { insertRetry } from '../../store/retry-runs.ts'
import { type ApiContext, idParams, runOf } from '../context.ts'
import { invalid } from '../faults.ts'
import { idempotencyHeader, type Route, route } from '../route.ts'
import { workflowOf } from '../start-workflow.ts'

const who = z.string().min(1).max(200).default('unknown').meta({ description: 'Who wants it, for the audit' })
const note = z.string().max(1_000).optional().meta({ description: 'Why, for the audit' })
const tasks = z
  .array(z.string().min(1).max(200))
  .max(mostChosen)
  .default([])
  .meta({ description: 'Ids, names (`load`, `load[3]` of a mapped task) or groups; with all that is behind them' })

const clearBody = z.strictObject({
  tasks,
  failed: z.boolean().optional().meta({
    description: 'Also all tasks that did not succeed, and what is behind them; default: when no task is named',
  }),
  fresh: z.boolean().default(false).meta({ description: 'Make durable steps again, also of tasks that had failed' }),
  dryRun: z.boolean().default(false).meta({ description: 'Only say what it would clear' }),
  by: who,
  note,
})
type ClearBody = z.infer<typeof clearBody>

const cleared = z.object({
  id: z.uuid(),
  state: z.enum(runStates),
  dryRun: z.boolean(),
  applied: z.boolean().meta({ description: 'false: the owner of the run will do it, or it was only asked what' }),
  total: z.int().meta({ description: 'Tasks that are cleared' }),
  tasks: z.array(z.object({ task: z.string(), states: z.partialRecord(z.enum(taskStates), z.int()) })),
})

const retryBody = z.strictObject({
  version: z.literal('latest'),
  tasks: tasks.meta({ description: 'Tasks that are not taken over although they have not changed' }),
  dryRun: z.boolean().default(false).meta({ description: 'Only say what it would take over' }),
  by: who,
  note,
})
type RetryBody = z.infer<typeof retryBody>

const retried = z.object({
  id: z.uuid().nullable().meta({ description: 'Of the new run; null of a dry run' }),
  url: z.string().nullable(),
  retryOf: z.uuid(),
  version: z.string(),
  dryRun: z.boolean(),
  sameParams: z.boolean().meta({ description: 'false: the latest version fills in others, so nothing is taken over' }),
  total: z.int().meta({ description: 'Tasks that are taken over' }),
  takenOver: z.array(z.object({ task: z.string(), count: z.int() })),
})

export function clearRoutes(context: ApiContext): Route[] {
  return [clearRoute(context), retryRoute(context)]
}

const hashOf = (...parts: unknown[]) => createHash('sha256').update(JSON.stringify(parts)).digest('hex')

function clearRoute(context: ApiContext): Route {
  return route<{ id: string }, unknown, ClearBody | undefined>({
    method: 'POST',
    path: '/api/v1/runs/:id/clear',
    tag: 'runs',
    summary: 'Clear tasks of a run, so that they run again',
    description: 'Whatever is behind a cleared task is cleared too. A run that has ended is queued again.',
    params: idParams,
    headers: idempotencyHeader,
    body: clearBody.optional(),
    bodyExample: { tasks: ['load'], by: 'ann', note: 'the source was corrected', dryRun: true },
    answers: {
      200: { description: 'What is cleared', schema: cleared },
      202: { description: 'The owner of the run will clear it, unless it has begun meanwhile', schema: cleared },
    },
    errors: ['CONFLICT', 'IDEMPOTENCY_KEY_REUSED'],
    async handle({ params, body = clearBody.parse({}), headers }) {
      const run = await runOf(context, params.id)
      const graph = await graphOf(context, run)
      const once = { key: headers['idempotency-key'], requestHash: hashOf('clear', run.id, body) }
      const answer = await context.db.transaction((session) =>
        body.dryRun
          ? clear(session, context, run.id, graph, body)
          : answerOnce(session, once, () => clear(session, context, run.id, graph, body)),
      )
      return reply(answer.applied || answer.dryRun ? 200 : 202, answer)
    },
  })
}

async function graphOf({ pinned }: ApiContext, { id, version, workflow }: RunDetail): Promise<Graph> {
  const found = await pinned(version, workflow)
  if (found) return compileGraph(found)
  throw new SluiceError(
    'CONFLICT',
    `Version ${version} of run ${id} has no workflow ${workflow} any more; retry it with version latest`,
  )
}

/** A run that nobody has is cleared here and now; else its owner gets a message. */
async function clear(
  session: Session,
  { clock, random }: ApiContext,
  id: string,
  graph: Graph,
  { tasks, failed = tasks.length === 0, fresh, by, note, dryRun }: ClearBody,
) {
  const request: ClearRequest = { tasks, failed, fresh, by, note: note ?? null }
  const run = await lockRun(session, id)
  if (run === undefined) throw new SluiceError('NOT_FOUND', `There is no run ${id}`)
  const ended = isTerminal(run.state)
  const applied = !dryRun && (ended || run.nodeId === null)
  const found = applied
    ? await clearRun(session, id, graph, request)
    : (await judgeClear(session, run, graph, request)).tasks
  if (!applied && !dryRun) {
    const key = `clear ${newRunId(clock.now(), random)}`
    await putInbox(session, { runId: id, kind: 'clear', key, body: JSON.stringify(request) })
  }
  return { id, state: applied && ended ? ('queued' as const) : run.state, dryRun, applied, ...shownTasks(graph, found) }
}

function shownTasks({ nodes }: Graph, found: readonly ClearedTasks[]) {
  const byNode = [...Map.groupBy(found, ({ node }) => node)]
  return {
    total: found.reduce((sum, { count }) => sum + count, 0),
    tasks: byNode.map(([node, rows]) => ({
      task: nodes[node]!.id,
      states: Object.fromEntries(rows.map(({ state, count }) => [state, count])),
    })),
  }
}

function retryRoute(context: ApiContext): Route {
  return route<{ id: string }, unknown, RetryBody>({
    method: 'POST',
    path: '/api/v1/runs/:id/retry',
    tag: 'runs',
    summary: 'A new run of the latest version, which takes over results that have not changed',
    params: idParams,
    headers: idempotencyHeader,
    body: retryBody,
    bodyExample: { version: 'latest', by: 'ann' },
    answers: {
      201: { description: 'The new run; Location is its address', schema: retried },
      200: { description: 'What it would take over', schema: retried },
    },
    errors: ['CONFLICT', 'IDEMPOTENCY_KEY_REUSED'],
    async handle({ params, body, headers }) {
      const run = await runOf(context, params.id)
      if (run.parent) {
        throw new SluiceError(
          'CONFLICT',
          `Run ${run.id} is part of run ${run.parent.runId}; retry that one, or clear this`,
        )
      }
      const before = await context.pinned(run.version, run.workflow)
      const old = { run, graph: compileGraph(before ?? { nodes: [] }) }
      const once = { key: headers['idempotency-key'], requestHash: hashOf('retry', run.id, body) }
      const answer = await context.db.transaction((session) =>
        body.dryRun
          ? retry(session, context, old, body)
          : answerOnce(session, once, () => retry(session, context, old, body)),
      )
      return reply(body.dryRun ? 200 : 201, answer, answer.url === null ? {} : { location: answer.url })
    },
  })
}

async function retry(
  session: Session,
  context: ApiContext,
  { run: old, graph }: { readonly run: RunDetail; readonly graph: Graph },
  body: RetryBody,
) {
  const { clock, random, manifest } = context
  const locked = await lockRun(session, old.id)
  if (locked === undefined || !isTerminal(locked.state)) {
    throw new SluiceError('CONFLICT', `Run ${old.id} has not ended; cancel it first, or wait`)
  }
  const workflow = workflowOf(context, old.workflow)
  const fit = fitParams(workflow, old.params)
  if ('faults' in fit) throw invalid(fit.faults)
  const sameParams = isDeepStrictEqual(JSON.parse(fit.params), old.params)
  const facts = await readNodeFacts(session, old.id)
  const again = new Set(chosenTasks(graph.nodes, facts, old.id, body.tasks).map(({ node }) => node))
  const reused = reusedNodes({ old: graph, latest: compileGraph(workflow), facts, sameParams, again })
  const version = manifest().hash
  const shown = { retryOf: old.id, version, dryRun: body.dryRun, sameParams, ...shownReuse(graph, facts, reused) }
  if (body.dryRun) return { id: null, url: null, ...shown }
  const id = newRunId(clock.now(), random)
  const detail = `taken over from run ${old.id}`
  await insertRetry(session, {
    ...{ id, of: old.id, workflow: workflow.name, version, params: fit.params, priority: workflow.priority ?? 0 },
    ...{ reused, detail, firstDetail: `${detail} by ${body.by}${body.note === undefined ? '' : `: ${body.note}`}` },
  })
  return { id, url: `/api/v1/runs/${id}`, ...shown }
}

function shownReuse({ nodes }: Graph, facts: ReadonlyMap<number, NodeFacts>, reused: readonly Reused[]) {
  const takenOver = reused.map(({ from }) => ({
    task: nodes[from]!.id,
    count: facts.get(from)?.counts.success ?? 0,
  }))
  return { total: takenOver.reduce((sum, { count }) => sum + count, 0), takenOver }
}
