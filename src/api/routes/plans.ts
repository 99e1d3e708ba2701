import { tickOutcomes } from '../../core/catch-up.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { describePlan, nextTicks } from '../../core/plan-preview.ts'
import { z } from '../../sdk/schema.ts'
import { listTicks, planStandings } from '../../store/reading/plans.ts'
import { pausedWorkflows } from '../../store/reading/workflows.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'
import { workflowOf } from '../start-workflow.ts'

const time = z.iso.datetime()

const plan = z.object({
  workflow: z.string(),
  name: z.string(),
  kind: z.string(),
  description: z.string(),
  paused: z.boolean().meta({ description: 'Of the workflow: ticks are skipped, with a row each' }),
  since: time.nullable().meta({ description: 'Ticks up to then are done with; null for plans of events' }),
  taken: z
    .record(z.string(), z.number())
    .nullable()
    .meta({ description: 'Next offsets by partition, or last versions by dataset; null for other plans' }),
  params: z.unknown().meta({ description: 'What its runs are given, with $tick and $event where that is known later' }),
  next: z
    .array(z.object({ time, local: z.string() }))
    .meta({ description: 'The next ticks; none for plans of events' }),
})

const tick = z.object({
  workflow: z.string(),
  plan: z.string(),
  logicalTime: time,
  event: z.string().meta({ description: 'What happened; empty for plans by the clock' }),
  outcome: z.enum(tickOutcomes),
  reason: z.string().nullable(),
  runId: z.uuid().nullable(),
  at: time.meta({ description: 'When it was handled' }),
})

const workflowName = z.string().regex(/^[a-z][a-z0-9_-]{0,59}$/, 'is not a name of a workflow')
const position = z.tuple([z.string().max(100), z.string().max(1_000)])
const ticksQuery = z.strictObject({
  workflow: workflowName.optional(),
  plan: z.string().min(1).max(500).optional(),
  outcome: z.enum(tickOutcomes).optional(),
  ...pageQuery,
})
const next = z.coerce.number().int().min(0).max(100)

export function planRoutes(context: ApiContext): Route[] {
  return [listRoute(context), ticksRoute(context), ofWorkflowRoute(context)]
}

function listRoute(context: ApiContext): Route {
  return route<unknown, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/plans',
    tag: 'plans',
    summary: 'Plans of all workflows, each with its next tick',
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(plan, 'plans') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { limit, cursor } }) {
      const [workflow, name] = cursor === undefined ? ['', ''] : decodeCursor('plans', position, cursor)
      const all = context.manifest().workflows.flatMap((one) => one.plans.map((by) => ({ workflow: one, by })))
      const rest = all
        .filter((one) => one.workflow.name > workflow || (one.workflow.name === workflow && one.by.name > name))
        .sort((a, b) => compare(a.workflow.name, b.workflow.name) || compare(a.by.name, b.by.name))
      const page = rest.slice(0, limit)
      const last = page.at(-1)
      return {
        items: await described(context, page, 1),
        nextCursor: last && rest.length > limit ? encodeCursor('plans', [last.workflow.name, last.by.name]) : null,
      }
    },
  })
}

function ofWorkflowRoute(context: ApiContext): Route {
  return route<{ name: string }, { next: number }>({
    method: 'GET',
    path: '/api/v1/workflows/:name/plans',
    tag: 'plans',
    summary: 'The plans of a workflow, with where they stand and their next ticks',
    params: z.object({ name: z.string().max(200) }),
    query: z.strictObject({ next: next.default(10).meta({ description: 'How many ticks of each plan' }) }),
    answers: {
      200: {
        description: 'The plans',
        schema: z.object({
          items: z.array(plan),
          params: z
            .looseObject({})
            .meta({ description: 'JSON Schema of the parameters, for runs that are started by hand' }),
        }),
      },
    },
    async handle({ params, query }) {
      const workflow = workflowOf(context, params.name)
      const items = await described(
        context,
        workflow.plans.map((by) => ({ workflow, by })),
        query.next,
      )
      return { items, params: workflow.params }
    },
  })
}

function ticksRoute({ db }: ApiContext): Route {
  return route<unknown, z.infer<typeof ticksQuery>>({
    method: 'GET',
    path: '/api/v1/plans/ticks',
    tag: 'plans',
    summary: 'What became of every tick and event, newest first',
    query: ticksQuery,
    answers: { 200: { description: 'A page', schema: pageOf(tick, 'ticks') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { limit, cursor, ...filter } }) {
      const before = cursor === undefined ? undefined : decodeCursor('ticks', z.int().min(1), cursor)
      const rows = await listTicks(db, { ...filter, before, limit: limit + 1 })
      const page = rows.slice(0, limit)
      return {
        items: page.map(({ seq: _, ...row }) => row),
        nextCursor: rows.length > limit ? encodeCursor('ticks', page.at(-1)?.seq) : null,
      }
    },
  })
}

interface PlanOfWorkflow {
  readonly workflow: WorkflowManifest
  readonly by: WorkflowManifest['plans'][number]
}

async function described(
  { db, clock }: ApiContext,
  plans: readonly PlanOfWorkflow[],
  count: number,
): Promise<object[]> {
  const [paused, standings] = await Promise.all([
    pausedWorkflows(db),
    planStandings(
      db,
      plans.map(({ workflow, by }) => ({ workflow: workflow.name, plan: by.name })),
    ),
  ])
  const known = new Map(standings.map((standing) => [JSON.stringify([standing.workflow, standing.plan]), standing]))
  const now = clock.now()
  return plans.map(({ workflow, by }) => {
    const standing = known.get(JSON.stringify([workflow.name, by.name]))
    return {
      workflow: workflow.name,
      name: by.name,
      kind: by.kind,
      description: describePlan(by),
      paused: paused.has(workflow.name),
      since: standing?.since ?? null,
      taken: standing?.taken ?? null,
      params: by.params ?? null,
      next: nextTicks(by, now, count),
    }
  })
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
