/**
 * Deliveries to webhooks. Refused before anything is read of the body's JSON: what is too long, not signed, or signed at
 * another time. A delivery that started a run starts no other: it gets the run of the first.
 */
import { newRunId } from '../../core/ids.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { type PlanStart, planStart } from '../../core/plan-start.ts'
import { shortestSecret, verifyDelivery } from '../../core/webhook-signature.ts'
import { SluiceError } from '../../errors.ts'
import { reply } from '../../sdk/endpoint.ts'
import { type WebhookPlan, webhookLimits } from '../../sdk/plan.ts'
import { z } from '../../sdk/schema.ts'
import { claimDelivery } from '../../store/hook-deliveries.ts'
import { isPaused, planEntry, plannedRows, recordTicks } from '../../store/plans.ts'
import { insertNewRuns } from '../../store/runs.ts'
import type { ApiContext } from '../context.ts'
import { invalid } from '../faults.ts'
import { defaultHttpLimits } from '../http-limits.ts'
import { readJson } from '../json-body.ts'
import { tooLarge } from '../request.ts'
import { type Route, route } from '../route.ts'
import { workflowOf } from '../start-workflow.ts'

interface Hook {
  readonly workflow: WorkflowManifest
  readonly plan: WebhookPlan & { readonly name: string }
}

const headers = z.object({
  'sluice-signature': z.string().max(200).optional().meta({
    description: 'HMAC-SHA256 in hex of Sluice-Timestamp, a dot, and the body',
  }),
  'sluice-timestamp': z.string().max(200).optional().meta({ description: 'When it was signed: seconds since 1970' }),
  'sluice-delivery': z.string().max(1_000).optional().meta({ description: 'The same for each try of one delivery' }),
  'x-hub-signature-256': z.string().max(200).optional().meta({
    description: 'In the place of Sluice-Signature: sha256= and the HMAC-SHA256 in hex of the body, as GitHub sends it',
  }),
})

export function hookRoutes(context: ApiContext): Route[] {
  return [
    route<{ workflow: string; hook: string }>({
      method: 'POST',
      path: '/api/v1/hooks/:workflow/:hook',
      tag: 'plans',
      summary: 'Start a run by a webhook',
      params: z.object({ workflow: z.string().max(200), hook: z.string().max(200) }),
      headers,
      upload: { types: ['application/json'], maxBytes: webhookLimits.maxBytes },
      answers: {
        202: {
          description: 'The run that it started, now or when it came first',
          schema: z.object({ id: z.uuid(), url: z.string() }),
        },
      },
      errors: ['SIGNATURE_INVALID', 'CONFLICT', 'INVALID_INPUT'],
      async handle({ params, upload, headers, signal }) {
        const hook = hookOf(context, params.workflow, params.hook)
        const body = await bytesOf(upload, hook.plan.maxBytes)
        const keys = await verified(context, hook.plan, { headers, body }, signal)
        const id = await deliver(context, hook, keys, readObject(body), headers)
        const url = `/api/v1/runs/${id}`
        return reply(202, { id, url }, { location: url })
      },
    }),
  ]
}

/** @throws SluiceError NOT_FOUND */
function hookOf(context: ApiContext, name: string, hook: string): Hook {
  const workflow = workflowOf(context, name)
  const plan = workflow.plans.find((one) => one.kind === 'webhook' && one.hook === hook)
  if (plan?.kind === 'webhook') return { workflow, plan }
  throw new SluiceError('NOT_FOUND', `The workflow ${name} has no webhook ${JSON.stringify(hook.slice(0, 80))}`)
}

/** @throws SluiceError BODY_TOO_LARGE */
async function bytesOf(upload: AsyncIterable<Uint8Array> | undefined, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of upload ?? []) {
    bytes += chunk.length
    if (bytes > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Gives what no other delivery may have. @throws SluiceError SIGNATURE_INVALID; UNAVAILABLE where there is no secret */
async function verified(
  { capabilities, clock, log }: ApiContext,
  { secret, toleranceMs, hook }: WebhookPlan,
  delivery: Parameters<typeof verifyDelivery>[0],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const text = await capabilities(signal)
    .secret(secret)
    .catch(() => '')
  if (text.length < shortestSecret) {
    log.warn('a webhook is closed', { hook, secret, reason: text === '' ? 'no secret' : 'the secret is too short' })
    throw new SluiceError('UNAVAILABLE', 'This webhook is closed: nothing is set here to check its deliveries with')
  }
  const verdict = verifyDelivery(delivery, text, { toleranceMs, now: clock.now() })
  if ('keys' in verdict) return verdict.keys
  throw new SluiceError('SIGNATURE_INVALID', `The delivery is refused: ${verdict.refused}`)
}

/** @throws SluiceError MALFORMED_JSON, INVALID_INPUT */
function readObject(body: Buffer): object {
  const value = readJson(body, defaultHttpLimits.jsonDepth)
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw invalid([{ where: '/body', message: 'is no object' }])
}

type Delivered = { readonly runId: string } | { readonly start: PlanStart; readonly paused: boolean }

/** Gives the id of the run. @throws SluiceError CONFLICT while the workflow is paused; INVALID_INPUT */
async function deliver(
  { db, manifest, clock, random }: ApiContext,
  { workflow, plan }: Hook,
  keys: readonly string[],
  body: object,
  headers: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const now = clock.now()
  const entry = planEntry(workflow, plan, manifest().hash)
  const id = newRunId(now, random)
  const delivery = keys[0]!
  const event = { body, delivery: delivery.slice(delivery.indexOf(':') + 1), time: new Date(now).toISOString() }
  const reason = `delivery ${event.delivery}${headers['user-agent'] === undefined ? '' : ` of ${headers['user-agent'].slice(0, 100)}`}`
  const done = await db.transaction(async (session): Promise<Delivered> => {
    const paused = await isPaused(session, workflow.name)
    const start = planStart(workflow, plan, { event }, { paused, outcome: 'fired', reason })
    const rows = plannedRows(entry, { time: new Date(now), logicalTime: null, event: delivery }, start, id)
    if (rows.run) {
      const earlier = await claimDelivery(session, entry, keys, id)
      if (earlier !== undefined) return { runId: earlier }
      await insertNewRuns(session, [rows.run])
    }
    await recordTicks(session, [rows.tick])
    return rows.run ? { runId: id } : { start, paused }
  })
  if ('runId' in done) return done.runId
  if (done.paused) throw new SluiceError('CONFLICT', `The workflow ${workflow.name} is paused; send it again later`)
  throw invalid(done.start.faults ?? [])
}
