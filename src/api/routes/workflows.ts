import type { KeptFile, WorkflowManifest } from '../../core/manifest.ts'
import { type Fault, SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { lastRuns, type RunSummary } from '../../store/reading/runs.ts'
import { pausedWorkflows } from '../../store/reading/workflows.ts'
import { isKnown, setPaused } from '../../store/workflows.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { idempotencyHeader, pageOf, pageQuery, type Route, route } from '../route.ts'
import { startWorkflow, workflowOf } from '../start-workflow.ts'
import { runSummary } from './runs.ts'

const fault = z.object({
  file: z.string(),
  line: z.int().nullable(),
  column: z.int().nullable(),
  message: z.string(),
})

const workflowSummary = z.object({
  name: z.string(),
  description: z.string().nullable(),
  tags: z.array(z.string()),
  file: z.string(),
  params: z.looseObject({}).meta({ description: 'JSON Schema of the parameters' }),
  plans: z.array(z.looseObject({ name: z.string(), kind: z.string() })),
  workers: z.int().nullable().meta({ description: 'Tasks of all its runs at once at most; null: no limit of its own' }),
  paused: z.boolean(),
  version: z.string(),
  fault: fault.nullable().meta({ description: 'What is wrong with its file now; it is deployed as it was last good' }),
  since: z.string().nullable().meta({ description: 'From when on it is deployed so, RFC 3339' }),
  lastRun: runSummary.nullable(),
})

const workflowDetail = workflowSummary.extend({
  stages: z.array(z.string()),
  nodes: z.array(
    z.object({
      id: z.string(),
      action: z.string(),
      upstream: z.array(z.string()),
      stage: z.string().nullable(),
      mapped: z.boolean(),
      rule: z.string(),
      attempts: z.int(),
      timeoutMs: z.number(),
    }),
  ),
})

const cursorPosition = z.string().max(100)
const nameParams = z.object({ name: z.string().max(200) })
const startBody = z.strictObject({ params: z.record(z.string(), z.unknown()).default({}) })
const started = z.object({ id: z.string(), url: z.string() })

export function workflowRoutes(context: ApiContext, contributedFaults: () => readonly Fault[]): Route[] {
  return [
    route<unknown, { limit: number; cursor?: string | undefined }>({
      method: 'GET',
      path: '/api/v1/workflows',
      tag: 'workflows',
      summary: 'Workflows by name, and what is wrong with definition files',
      query: z.strictObject(pageQuery),
      answers: {
        200: { description: 'A page', schema: pageOf(workflowSummary, 'workflows').extend({ faults: z.array(fault) }) },
      },
      errors: ['INVALID_CURSOR'],
      async handle({ query }) {
        const after = query.cursor === undefined ? '' : decodeCursor('workflows', cursorPosition, query.cursor)
        const { workflows, faults } = context.manifest()
        const rest = workflows
          .filter(({ name, inner }) => name > after && !inner)
          .sort((one, other) => (one.name < other.name ? -1 : 1))
        const page = rest.slice(0, query.limit)
        const last = page.at(-1)
        return {
          items: await summaries(context, page),
          nextCursor: last && rest.length > page.length ? encodeCursor('workflows', last.name) : null,
          faults: [...faults, ...contributedFaults()].map(placeOf),
        }
      },
    }),
    route<{ name: string }>({
      method: 'GET',
      path: '/api/v1/workflows/:name',
      tag: 'workflows',
      summary: 'A workflow with its graph',
      params: nameParams,
      answers: { 200: { description: 'The workflow', schema: workflowDetail } },
      async handle({ params }) {
        const workflow = workflowOf(context, params.name)
        const [summary] = await summaries(context, [workflow])
        return { ...summary, stages: workflow.stages, nodes: graphOf(workflow) }
      },
    }),
    route<{ name: string }, unknown, z.infer<typeof startBody> | undefined>({
      method: 'POST',
      path: '/api/v1/workflows/:name/runs',
      tag: 'workflows',
      summary: 'Start a run',
      params: nameParams,
      headers: idempotencyHeader,
      body: startBody.optional(),
      bodyExample: { params: { file: 'catalogs/urls.txt' } },
      answers: {
        201: { description: 'A new run; Location is its address', schema: started },
        200: { description: 'The run that the same idempotency key started before', schema: started },
      },
      errors: ['IDEMPOTENCY_KEY_REUSED'],
      async handle({ params, body, headers }) {
        const idempotencyKey = headers['idempotency-key']
        const { runId, created } = await startWorkflow(
          context,
          params.name,
          body?.params ?? {},
          idempotencyKey === undefined ? {} : { idempotencyKey },
        )
        const url = `/api/v1/runs/${runId}`
        return reply(created ? 201 : 200, { id: runId, url }, { location: url })
      },
    }),
    pauseRoute(context, 'pause', 'Start no runs and no tasks of a workflow until it is resumed; what runs goes on'),
    pauseRoute(context, 'resume', 'Let a paused workflow go on'),
  ]
}

function pauseRoute(context: ApiContext, act: 'pause' | 'resume', summary: string): Route {
  return route<{ name: string }>({
    method: 'POST',
    path: `/api/v1/workflows/:name/${act}`,
    tag: 'workflows',
    summary,
    params: nameParams,
    answers: {
      200: {
        description: 'It is so; asking again changes nothing',
        schema: z.object({ name: z.string(), paused: z.boolean(), changed: z.boolean() }),
      },
    },
    errors: ['CONFLICT'],
    async handle({ params: { name } }) {
      // One that no file defines any more may still have runs.
      if (!(await isKnown(context.db, name))) workflowOf(context, name)
      const [outer] = name.split('.')
      if (outer !== name) throw new SluiceError('CONFLICT', `${name} is a part of workflow ${outer}; ${act} that one`)
      const changed = await setPaused(context.db, name, act === 'pause')
      return { name, paused: act === 'pause', changed }
    },
  })
}

async function summaries({ db, manifest }: ApiContext, workflows: readonly WorkflowManifest[]): Promise<object[]> {
  const [paused, last] = await Promise.all([
    pausedWorkflows(db),
    lastRuns(
      db,
      workflows.map((workflow) => workflow.name),
    ),
  ])
  const byName = new Map<string, RunSummary>(last.map((run) => [run.workflow, run]))
  const { hash, kept = [] } = manifest()
  return workflows.map(({ name, description, tags, file, params, plans, workers }) => ({
    name,
    description: description ?? null,
    tags: tags ?? [],
    file,
    params,
    plans,
    workers: workers ?? null,
    paused: paused.has(name),
    version: hash,
    ...faultOf(kept.find((one) => one.file === file)),
    lastRun: byName.get(name) ?? null,
  }))
}

function graphOf({ nodes, stages }: WorkflowManifest): object[] {
  return nodes.map((node) => ({
    id: node.id,
    action: node.action,
    upstream: node.upstream.map((index) => nodes[index]?.id),
    stage: node.stage === undefined ? null : (stages[node.stage] ?? null),
    mapped: node.over !== undefined,
    rule: node.rule,
    attempts: node.retry.attempts,
    timeoutMs: node.timeoutMs,
  }))
}

function faultOf(kept: KeptFile | undefined): { fault: z.infer<typeof fault> | null; since: string | null } {
  const [first] = kept?.faults ?? []
  return { fault: first === undefined ? null : placeOf(first), since: kept?.since ?? null }
}

/** `where` is `file:line:column`, or the file alone. */
function placeOf({ where, message }: Fault): z.infer<typeof fault> {
  const parts = /^(.*?)(?::(\d+))?(?::(\d+))?$/s.exec(where)
  const number = (text: string | undefined) => (text === undefined ? null : Number(text))
  return { file: parts?.[1] ?? where, line: number(parts?.[2]), column: number(parts?.[3]), message }
}
