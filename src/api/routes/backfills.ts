/** Backfills: what one would do, starting it, looking at it, pausing and cancelling it. */
import { createHash } from 'node:crypto'
import {
  backfillLimits,
  backfillOrders,
  backfillReasons,
  type ChosenVerdict,
  chosenVerdicts,
  verdicts,
} from '../../core/backfill.ts'
import { isUuid, newRunId } from '../../core/ids.ts'
import { runStates } from '../../core/run-state.ts'
import { SluiceError } from '../../errors.ts'
import type { Session } from '../../ports/database.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { answerOnce } from '../../store/answered-requests.ts'
import { cancelBackfill, insertBackfill, lockBackfill, pauseBackfill } from '../../store/backfills.ts'
import {
  type Backfill,
  type BackfillFigures,
  findBackfill,
  listBackfills,
  readFigures,
} from '../../store/reading/backfills.ts'
import { type ApiContext, idParams } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { dryRun, type PlannedBackfill, planBackfill } from '../plan-backfill.ts'
import { idempotencyHeader, pageOf, pageQuery, type Route, route } from '../route.ts'
import { workflowOf } from '../start-workflow.ts'

const time = z.iso.datetime()
const count = z.int()

const backfill = z.object({
  id: z.uuid(),
  workflow: z.string(),
  plan: z.string(),
  version: z.string(),
  from: time,
  to: time.meta({ description: 'Excluded' }),
  reasons: z
    .array(z.enum(chosenVerdicts))
    .meta({ description: 'Which ticks are run; ok: also those without a reason' }),
  order: z.enum(backfillOrders),
  maxActive: count,
  params: z.looseObject({}).meta({ description: 'Given to all its runs, over what the plan gives' }),
  by: z.string(),
  note: z.string().nullable(),
  state: z.enum(['submitting', 'running', 'done', 'cancelled', 'failed']).meta({
    description: 'submitting: its ticks are still looked at; running: all its runs are there; done: all have ended',
  }),
  paused: z.boolean(),
  error: z.string().nullable(),
  createdAt: time,
  endedAt: time.nullable().meta({ description: 'When the last of its runs had ended' }),
  ticks: z.object({ total: count, examined: count }).meta({ description: 'Of the plan in that time' }),
  total: count.meta({ description: 'Runs that it made; final once it is not submitting any more' }),
  runs: z.record(z.enum(runStates), count).meta({ description: 'How many of them are in each state' }),
  byReason: z.partialRecord(z.enum(chosenVerdicts), count),
})

const estimate = z.object({
  history: count.meta({ description: 'Successful runs that it is drawn from, the last 100 at most' }),
  medianMs: z.number(),
  p90Ms: z.number(),
  totalMedianMs: z.number().meta({ description: 'count / maxActive, rounded up, times the median of a run' }),
  totalP90Ms: z.number(),
})

const plan = z.object({
  dryRun: z.literal(true),
  workflow: z.string(),
  plan: z.string(),
  from: time,
  to: time,
  ticks: count,
  counts: z.record(z.enum(verdicts), count).meta({
    description:
      'Every tick once. running: its run has not ended; due: its plan comes to it by itself; both are left alone',
  }),
  chosen: count.meta({ description: 'Runs that there would be' }),
  first: time.nullable(),
  last: time.nullable(),
  codeUnknown: count.meta({
    description: 'Ticks of which nobody knows whether the code has changed; taken as unchanged',
  }),
  maxActive: count,
  estimate: estimate.nullable().meta({ description: 'null: there is no history' }),
})

const clockTime = z.string().min(10).max(40)
const who = z.string().min(1).max(200).default('unknown').meta({ description: 'Who wants it, for the audit' })

const startBody = z.strictObject({
  plan: z.string().max(200).optional().meta({ description: 'A plan by the clock; may be left out where there is one' }),
  from: clockTime.meta({ description: "RFC 3339, or a day, which begins in the plan's time zone" }),
  to: clockTime.meta({ description: 'As from; excluded; up to now' }),
  reasons: z
    .array(z.enum(backfillReasons))
    .min(1)
    .optional()
    .meta({ description: `Default missing and failed; at most ${backfillLimits.ticks} ticks are looked at` }),
  all: z.literal(true).optional().meta({ description: 'Every tick but those that are running or due' }),
  dryRun: z.boolean().default(false).meta({ description: 'Only say what it would do' }),
  maxActive: count.min(1).max(backfillLimits.maxActive).default(backfillLimits.defaultMaxActive).meta({
    description: 'Runs of it that are active at once, at most',
  }),
  order: z.enum(backfillOrders).default('oldest').meta({ description: 'Which ticks start first' }),
  params: z.record(z.string(), z.unknown()).default({}),
  by: who,
  note: z.string().max(1_000).optional(),
})
type StartBody = z.infer<typeof startBody>

const actBody = z.strictObject({ by: who }).optional()

export function backfillRoutes(context: ApiContext): Route[] {
  return [
    startRoute(context),
    listRoute(context),
    detailRoute(context),
    actRoute(context, 'pause', 'Start no more of its runs; those that run go on', (session, id) =>
      pauseBackfill(session, id, true),
    ),
    actRoute(context, 'resume', 'Go on after a pause', (session, id) => pauseBackfill(session, id, false)),
    actRoute(context, 'cancel', 'Cancel it and all its runs that have not ended, as one act', (session, id, by) =>
      cancelBackfill(session, id, `backfill ${id} was cancelled by ${by}`),
    ),
  ]
}

function startRoute(context: ApiContext): Route {
  return route<{ name: string }, unknown, StartBody>({
    method: 'POST',
    path: '/api/v1/workflows/:name/backfills',
    tag: 'backfills',
    summary: 'Run ticks of a plan that were missed, failed, or are out of date',
    description: 'With `dryRun` it only says which, and how long that may take.',
    params: z.object({ name: z.string().max(200) }),
    headers: idempotencyHeader,
    body: startBody,
    bodyExample: { from: '2026-03-01', to: '2026-04-01', reasons: ['missing', 'failed'], dryRun: true },
    answers: {
      201: { description: 'It is written down, and the engines submit its runs', schema: backfill },
      200: { description: 'What it would do', schema: plan },
    },
    errors: ['INVALID_INPUT', 'IDEMPOTENCY_KEY_REUSED'],
    async handle({ params, body, headers, signal }) {
      const planned = await planBackfill(context, workflowOf(context, params.name), body)
      if (body.dryRun) return shownPlan(planned, body, await dryRun(context, planned, body.maxActive, signal))
      const id = await startOnce(context, planned, body, headers['idempotency-key'])
      return reply(201, await detailOf(context, id), { location: `/api/v1/backfills/${id}` })
    },
  })
}

/** The same key gives the same backfill. */
function startOnce(
  { db, clock, random, manifest }: ApiContext,
  { workflow, plan, from, to, ticks, reasons }: PlannedBackfill,
  body: StartBody,
  key: string | undefined,
): Promise<string> {
  const requestHash = createHash('sha256')
    .update(JSON.stringify(['backfill', workflow.name, body]))
    .digest('hex')
  const made = {
    id: newRunId(clock.now(), random),
    workflow: workflow.name,
    plan: plan.name,
    version: manifest().hash,
    from: new Date(from),
    to: new Date(to),
    reasons,
    newestFirst: body.order === 'newest',
    maxActive: body.maxActive,
    params: JSON.stringify(body.params),
    requestedBy: body.by,
    note: body.note ?? null,
    ticks: ticks.length,
  }
  return db.transaction((session) =>
    answerOnce(session, { key, requestHash }, async () => {
      await insertBackfill(session, made)
      return made.id
    }),
  )
}

function shownPlan(
  { workflow, plan, from, to }: PlannedBackfill,
  { maxActive }: StartBody,
  { counts, estimate }: Awaited<ReturnType<typeof dryRun>>,
): object {
  const { ticks, verdicts, chosen, first, last, codeUnknown } = counts
  const shown = (at: number | null) => (at === null ? null : new Date(at).toISOString())
  return {
    ...{ dryRun: true, workflow: workflow.name, plan: plan.name, from: shown(from), to: shown(to) },
    ...{ ticks, counts: verdicts, chosen, first: shown(first), last: shown(last), codeUnknown },
    ...{ maxActive, estimate: estimate ?? null },
  }
}

function listRoute({ db }: ApiContext): Route {
  return route<unknown, { workflow?: string | undefined; limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/backfills',
    tag: 'backfills',
    summary: 'Backfills, newest first',
    query: z.strictObject({ workflow: z.string().max(200).optional(), ...pageQuery }),
    answers: { 200: { description: 'A page', schema: pageOf(backfill, 'backfills') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { workflow, limit, cursor } }) {
      const before = cursor === undefined ? undefined : decodeCursor('backfills', z.uuid(), cursor)
      const rows = await listBackfills(db, { workflow, before, limit: limit + 1 })
      const items = rows.slice(0, limit)
      const figures = await readFigures(
        db,
        items.map(({ id }) => id),
      )
      return {
        items: items.map((row) => shownBackfill(row, figures.get(row.id)!)),
        nextCursor: rows.length > limit ? encodeCursor('backfills', items.at(-1)?.id) : null,
      }
    },
  })
}

function detailRoute(context: ApiContext): Route {
  return route<{ id: string }>({
    method: 'GET',
    path: '/api/v1/backfills/:id',
    tag: 'backfills',
    summary: 'A backfill and how its runs stand',
    params: idParams,
    answers: { 200: { description: 'The backfill', schema: backfill } },
    handle: ({ params }) => detailOf(context, params.id),
  })
}

function actRoute(
  context: ApiContext,
  name: 'pause' | 'resume' | 'cancel',
  summary: string,
  act: (session: Session, id: string, by: string) => Promise<unknown>,
): Route {
  return route<{ id: string }, unknown, z.infer<typeof actBody>>({
    method: 'POST',
    path: `/api/v1/backfills/:id/${name}`,
    tag: 'backfills',
    summary,
    params: idParams,
    body: actBody,
    answers: { 200: { description: 'The backfill as it is then; asking again changes nothing', schema: backfill } },
    errors: ['CONFLICT'],
    async handle({ params: { id }, body }) {
      await context.db.transaction(async (session) => {
        const found = isUuid(id) ? await lockBackfill(session, id) : undefined
        if (!found) throw notFound(id)
        if (name === 'cancel' && found.state === 'cancelled') return
        if (found.ended || found.state === 'cancelled') {
          throw new SluiceError('CONFLICT', `The backfill is over already: ${found.state}`)
        }
        await act(session, id, body?.by ?? 'unknown')
      })
      return detailOf(context, id)
    },
  })
}

async function detailOf({ db }: ApiContext, id: string): Promise<object> {
  const found = isUuid(id) ? await findBackfill(db, id) : undefined
  if (!found) throw notFound(id)
  return shownBackfill(found, (await readFigures(db, [id])).get(id)!)
}

function shownBackfill({ ticks, examined, ...row }: Backfill, { total, states, reasons }: BackfillFigures): object {
  const runs = Object.fromEntries(runStates.map((state) => [state, states[state] ?? 0]))
  return {
    ...row,
    ticks: { total: ticks, examined },
    total,
    runs,
    byReason: reasons satisfies Partial<Record<ChosenVerdict, number>>,
  }
}

function notFound(id: string): SluiceError {
  return new SluiceError('NOT_FOUND', `There is no backfill ${JSON.stringify(id.slice(0, 80))}`)
}
