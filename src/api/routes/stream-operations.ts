/** What operators ask of streams: pause, resume, drain, rewind, scale; and what they asked. */
import { newRunId } from '../../core/ids.ts'
import type { StreamManifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import { z } from '../../sdk/schema.ts'
import { answerOnce } from '../../store/answered-requests.ts'
import { type RewindTarget, rewindShards } from '../../store/rewind-shards.ts'
import { scaleTopic } from '../../store/scale-topic.ts'
import { type Asked, type StreamMode, setStreamMode, streamOperations } from '../../store/stream-controls.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { idempotencyHeader, pageOf, pageQuery, type Route, route } from '../route.ts'
import { nameParams, onceFor, streamOf } from './dead-letters.ts'

const time = z.iso.datetime()
const count = z.int()
type Name = z.infer<typeof nameParams>

const audited = {
  by: z.string().min(1).max(200).default('unknown').meta({ description: 'Who asks, for the audit' }),
  note: z.string().max(1_000).optional().meta({ description: 'Why' }),
}
const askedBody = z.strictObject(audited)

const rewindBody = z
  .strictObject({
    ...audited,
    offset: count.min(0).optional().meta({ description: 'To the beginning of the batch with this offset' }),
    time: z.iso
      .datetime({ offset: true })
      .optional()
      .meta({ description: 'To the first batch that was committed at this time or later' }),
    beginning: z.literal(true).optional().meta({ description: 'To the oldest batch whose records are kept' }),
    partition: count.min(0).max(255).optional().meta({ description: 'This one only; default all' }),
  })
  .refine(
    ({ offset, time, beginning }) => [offset, time, beginning].filter((one) => one !== undefined).length === 1,
    'give one of offset, time, and beginning: true',
  )

const scaleBody = z.strictObject({ ...audited, partitions: count.min(1).max(256) })

const acts = [
  [
    'pause',
    'paused',
    'Take nothing in until it is resumed; its shards are given back once what is in their steps has ended',
  ],
  ['drain', 'draining', 'Read nothing more and let what was taken in end, retries included'],
  ['resume', 'running', 'Let a paused or drained stream go on'],
] as const

export function streamOperationRoutes(context: ApiContext): Route[] {
  return [
    ...acts.map(([act, mode, summary]) => modeRoute(context, act, mode, summary)),
    rewindRoute(context),
    scaleRoute(context),
    operationsRoute(context),
  ]
}

function modeRoute(context: ApiContext, act: string, mode: StreamMode, summary: string): Route {
  return route<Name, unknown, z.infer<typeof askedBody> | undefined>({
    method: 'POST',
    path: `/api/v1/streams/:name/${act}`,
    tag: 'streams',
    summary,
    params: nameParams,
    body: askedBody.optional(),
    bodyExample: { by: 'ada', note: 'the warehouse is being moved' },
    answers: {
      200: {
        description: 'It is so; asking again changes nothing',
        schema: z.object({ name: z.string(), mode: z.enum(['running', 'paused', 'draining']), changed: z.boolean() }),
      },
    },
    async handle({ params, body }) {
      const { name } = streamOf(context, params.name)
      const asked = askedBy(context, body ?? {})
      const changed = await context.db.transaction((session) => setStreamMode(session, name, mode, asked))
      return { name, mode, changed }
    },
  })
}

function rewindRoute(context: ApiContext): Route {
  return route<Name, unknown, z.infer<typeof rewindBody>>({
    method: 'POST',
    path: '/api/v1/streams/:name/rewind',
    tag: 'streams',
    summary: 'Receive records again, from the beginning of a batch on',
    description:
      'What was counted from there on is taken back, so the sums count each record once; what waits or is dead from there on is received again. Rows that are there stay: a sink knows its records.',
    params: nameParams,
    headers: idempotencyHeader,
    body: rewindBody,
    bodyExample: { time: '2026-03-28T12:00:00Z', by: 'ada', note: 'a step was wrong since noon' },
    answers: {
      200: {
        description: 'Per partition: where it was, where it goes on, and how many records are received again',
        schema: z.object({
          name: z.string(),
          shards: z.array(z.object({ partition: count, from: count, to: count, records: count })),
        }),
      },
    },
    errors: ['CONFLICT', 'IDEMPOTENCY_KEY_REUSED'],
    async handle({ params, body, headers }) {
      const stream = streamOf(context, params.name)
      const { name, distinct = false } = stream
      const source = sourceOf(stream)
      if (source.kind !== 'topic') {
        throw new SluiceError(
          'CONFLICT',
          `${name} reads of ${source.kind} ${source.name}, which keeps nothing to be received again`,
        )
      }
      if (distinct) {
        throw new SluiceError(
          'CONFLICT',
          `${name} takes each key once: all that it received again would be duplicates. Publish what is to be processed again`,
        )
      }
      const { partition = null } = body
      const asked = askedBy(context, body)
      const keptFrom = await context.keptFrom?.(source.name)
      return context.db.transaction((session) =>
        answerOnce(session, onceFor(headers, ['rewind', name, body]), async () => ({
          name,
          shards: await rewindShards(session, name, { target: targetOf(body), partition, keptFrom }, asked),
        })),
      )
    },
  })
}

function scaleRoute(context: ApiContext): Route {
  return route<Name, unknown, z.infer<typeof scaleBody>>({
    method: 'POST',
    path: '/api/v1/streams/:name/scale',
    tag: 'streams',
    summary: 'Give the topic of a stream more partitions, and so the stream more shards',
    description:
      'Partitions are never taken away. A key may go to another partition from then on: drain the stream first where order per key matters.',
    params: nameParams,
    body: scaleBody,
    bodyExample: { partitions: 8, by: 'ada' },
    answers: {
      200: {
        description: 'As many there are now',
        schema: z.object({ name: z.string(), topic: z.string(), partitions: count, before: count }),
      },
    },
    errors: ['CONFLICT'],
    async handle({ params, body }) {
      const stream = streamOf(context, params.name)
      const { name } = stream
      const source = sourceOf(stream)
      if (source.kind !== 'topic') {
        throw new SluiceError(
          'CONFLICT',
          `${name} reads of ${source.kind} ${source.name}; the number of its shards is in its definition`,
        )
      }
      const scaled = await context.db.transaction((session) =>
        scaleTopic(session, { stream: name, topic: source.name, partitions: body.partitions }, askedBy(context, body)),
      )
      return { name, topic: source.name, ...scaled }
    },
  })
}

const operation = z.object({
  id: z.uuid(),
  act: z.enum(['pause', 'resume', 'drain', 'rewind', 'scale']),
  by: z.string(),
  note: z.string().nullable(),
  detail: z.looseObject({}),
  at: time,
})

function operationsRoute(context: ApiContext): Route {
  return route<Name, { limit: number; cursor?: string | undefined }>({
    method: 'GET',
    path: '/api/v1/streams/:name/operations',
    tag: 'streams',
    summary: 'What was asked of a stream, by whom and why, the latest first',
    params: nameParams,
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(operation, 'operations') } },
    errors: ['INVALID_CURSOR'],
    async handle({ params, query: { limit, cursor } }) {
      const { name } = streamOf(context, params.name)
      const kind = `operations ${name}`
      const before = cursor === undefined ? null : decodeCursor(kind, z.uuid(), cursor)
      const rows = await streamOperations(context.db, name, { before, limit: limit + 1 })
      const items = rows.slice(0, limit)
      return { items, nextCursor: rows.length > limit ? encodeCursor(kind, items.at(-1)?.id) : null }
    },
  })
}

const sourceOf = ({ source, topic }: StreamManifest) => source ?? ({ kind: 'topic', name: topic } as const)

function askedBy(
  { clock, random }: ApiContext,
  { by = 'unknown', note }: { by?: string; note?: string | undefined },
): Asked {
  return { id: newRunId(clock.now(), random), by, note: note ?? null }
}

function targetOf({ offset, time: from }: z.infer<typeof rewindBody>): RewindTarget {
  if (offset !== undefined) return { offset }
  return from === undefined ? 'beginning' : { time: new Date(from) }
}
