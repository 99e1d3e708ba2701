/** Approvals: those that wait, and answering one. */
import { createHash } from 'node:crypto'
import { taskIdOf } from '../../core/ids.ts'
import type { NodeManifest } from '../../core/manifest.ts'
import { paramsSchema } from '../../core/planned-params.ts'
import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { z } from '../../sdk/schema.ts'
import { answerOnce } from '../../store/answered-requests.ts'
import { putAnswer } from '../../store/approvals.ts'
import { firstApproval, listApprovals, type WaitingApproval } from '../../store/reading/approvals.ts'
import { type ApiContext, idParams } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { faultsOf, invalid } from '../faults.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'
import { taskOf } from './tasks.ts'

const time = z.iso.datetime()

const approval = z.object({
  taskId: z.uuid(),
  runId: z.uuid(),
  workflow: z.string(),
  task: z.string(),
  title: z.string(),
  shown: z.unknown().meta({ description: 'What its author shows to whoever answers' }),
  form: z.looseObject({}).nullable().meta({ description: 'JSON Schema of what is filled in; null: nothing' }),
  askedAt: time.nullable(),
  deadline: time.nullable().meta({ description: 'Until when it can be answered' }),
  onDeadline: z.enum(['fail', 'skip', 'approve']).meta({ description: 'What becomes of it then' }),
  onRefuse: z.enum(['skip', 'fail']).meta({ description: 'What becomes of it when it is refused' }),
})

const answerBody = z.strictObject({
  approved: z.boolean(),
  by: z.string().trim().min(1).max(200).meta({ description: 'Who answers' }),
  note: z.string().max(1_000).optional(),
  form: z.record(z.string(), z.unknown()).optional().meta({ description: 'Fits its form; of a refusal left out' }),
})
type AnswerBody = z.infer<typeof answerBody>

const answered = z.object({ taskId: z.uuid(), runId: z.uuid(), approved: z.boolean(), by: z.string(), at: time })

const place = z.tuple([z.uuid(), z.int(), z.int()])

export function approvalRoutes(context: ApiContext): Route[] {
  return [listRoute(context), answerRoute(context)]
}

function listRoute(context: ApiContext): Route {
  return route<unknown, { run?: string | undefined; limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/approvals',
    tag: 'approvals',
    summary: 'Approvals that wait for an answer, those of the oldest runs first',
    query: z.strictObject({ run: z.uuid().toLowerCase().optional(), ...pageQuery }),
    answers: { 200: { description: 'A page', schema: pageOf(approval, 'approvals') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { run, limit, cursor } }) {
      const [runId, node, mapIndex] = cursor === undefined ? [] : decodeCursor('approvals', place, cursor)
      const after = runId === undefined ? firstApproval : { runId, node: node!, mapIndex: mapIndex! }
      const rows = await listApprovals(context.db, { after, limit: limit + 1, runId: run })
      const page = rows.slice(0, limit)
      const last = page.at(-1)
      const more = last !== undefined && rows.length > limit
      return {
        items: await Promise.all(page.map((row) => present(context, row))),
        nextCursor: more ? encodeCursor('approvals', [last.runId, last.node, last.mapIndex]) : null,
      }
    },
  })
}

async function present({ pinned }: ApiContext, row: WaitingApproval): Promise<object> {
  const { runId, node: index, mapIndex, workflow, askedAt, deadline, wait } = row
  const node = (await pinned(row.version, workflow))?.nodes[index]
  return {
    taskId: taskIdOf(runId, index, mapIndex),
    runId,
    workflow,
    task: node?.id ?? `node-${index}`,
    title: String(wait.shown?.title ?? node?.id ?? ''),
    shown: wait.shown?.show ?? null,
    form: node?.approval?.form ?? null,
    askedAt,
    deadline,
    onDeadline: node?.approval?.onDeadline ?? 'fail',
    onRefuse: node?.approval?.onRefuse ?? 'skip',
  }
}

function answerRoute(context: ApiContext): Route {
  return route<{ id: string }, unknown, AnswerBody>({
    method: 'POST',
    path: '/api/v1/tasks/:id/approval',
    tag: 'approvals',
    summary: 'Answer an approval, once; the same answer again changes nothing',
    params: idParams,
    body: answerBody,
    bodyExample: { approved: true, by: 'ann', form: { amount: 5 } },
    answers: { 200: { description: 'The answer is kept, and the run goes on', schema: answered } },
    errors: ['CONFLICT'],
    async handle({ params, body }) {
      const { run, workflow, row } = await taskOf(context, params.id)
      const node = workflow?.nodes[row.node]
      if (node?.approval === undefined) {
        throw new SluiceError('CONFLICT', `Task ${node?.id ?? params.id} is not an approval`)
      }
      const asked = { runId: run.id, node: row.node, mapIndex: row.mapIndex, attempt: row.attempt }
      const form = formOf(node, body)
      const { approved, by, note = null } = body
      const at = new Date(context.clock.now()).toISOString()
      const kept = JSON.stringify({ approved, by, note, at, form, onRefuse: node.approval.onRefuse })
      const key = `approval ${params.id} ${row.attempt}`
      const requestHash = createHash('sha256')
        .update(JSON.stringify([approved, by, note, form]))
        .digest('hex')
      const answer = { taskId: params.id, runId: run.id, approved, by, at }
      const told = await context.db
        .transaction((session) =>
          answerOnce(session, { key, requestHash }, async () => {
            await putAnswer(session, asked, kept)
            return answer
          }),
        )
        .catch(otherAnswer)
      return reply(200, told)
    },
  })
}

/** What is filled in, with defaults. @throws SluiceError INVALID_INPUT naming each field */
function formOf({ id, approval: asked }: NodeManifest, { approved, form }: AnswerBody): unknown {
  const fault = (message: string) => invalid([{ where: '/body/form', message }])
  if (!approved) {
    if (form !== undefined) throw fault('is given with a refusal; a refusal has a note alone')
    return null
  }
  if (asked?.form === undefined) {
    if (form !== undefined) throw fault('is given, and this approval has no form')
    return null
  }
  const checked = paramsSchema({ name: `approval ${id}`, params: asked.form }).safeParse(form ?? {})
  if (!checked.success) throw invalid(faultsOf(checked.error, '/body/form'))
  return checked.data
}

function otherAnswer(thrown: unknown): never {
  if (!(thrown instanceof SluiceError) || thrown.code !== 'IDEMPOTENCY_KEY_REUSED') throw thrown
  throw new SluiceError('CONFLICT', 'The approval was answered already, otherwise')
}
