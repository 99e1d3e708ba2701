/**
 * Events by HTTP: `POST /path` takes one, the path of batches a JSON array of them. Both are answered once what they brought
 * is committed.
 *
 * 1. What the platform asks of every request holds: guard, limits, problem documents. A body is read as JSON as anywhere
 *    else, but what cannot be kept of a single event of a batch ends that event alone.
 * 2. No promise and no schema of the route is in the path of an event: a request costs what its events cost.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Fault, SluiceError } from '../errors.ts'
import type { EventEnd, IngestPoint } from '../ports/ingest.ts'
import { z } from '../sdk/schema.ts'
import { pathFault } from './contributed.ts'
import { invalid } from './faults.ts'
import { parseJson } from './json-body.ts'
import type { ApiParts } from './parts.ts'
import { problemOf, problemSchema, problemType } from './problem.ts'
import { idempotencyHeader, type Route, route } from './route.ts'

const json = 'application/json; charset=utf-8'

const stored = z.object({
  id: z.string().meta({ description: 'The id of the event; made for it where it came without' }),
  status: z.enum(['stored', 'duplicate']).meta({ description: 'duplicate: an event of this id was stored before' }),
})
const rejected = z.object({
  status: z.literal('rejected'),
  code: z.string(),
  detail: z.string(),
  errors: problemSchema.shape.errors,
})
const items = z.array(z.union([stored, rejected])).meta({ description: 'One for each event, in their order' })
const counts = { stored: z.int(), duplicate: z.int(), rejected: z.int() }
const batchAnswer = z.object({ ...counts, items })

/** Names for each event are most of what a batch is answered with: those that do not look at them need not be sent them. */
const batchHeaders = idempotencyHeader.extend({
  prefer: z.string().optional().meta({
    description: '`return=minimal` (RFC 7240): where no event is rejected, the answer has no `items`',
  }),
})
const wantsMinimal = /(?:^|[,;])\s*return\s*=\s*"?minimal"?\s*(?:[,;]|$)/i

const exampleId = '6fb43d24-6e54-4f1c-9f9b-3c5c1a3b8f10'
const exampleRejection = {
  status: 'rejected',
  code: 'INVALID_INPUT',
  detail: '/body/1/token Invalid input: expected string, received number',
  errors: [{ where: '/body/1/token', message: 'Invalid input: expected string, received number' }],
} as const

export interface ServedIngest {
  readonly points: readonly IngestPoint[]
  /** For the documentation and the table of methods; `mountIngest` serves them. */
  readonly routes: readonly Route[]
  /** Of streams whose paths cannot be served, by the file that they came from. */
  readonly faults: readonly Fault[]
}

export function ingestOf(
  { ingest = [] }: Pick<ApiParts, 'ingest'>,
  platform: readonly Route[],
  contributed: readonly Route[],
): ServedIngest {
  const points: IngestPoint[] = []
  const faults: Fault[] = []
  const taken = new Set(contributed.filter(({ method }) => method === 'POST').map(({ path }) => path))
  for (const { point, file } of ingest) {
    const paths = pathsOf(point)
    const wrong = paths.flatMap((path) => {
      const fault =
        pathFault(path, platform) ?? (taken.has(path) ? 'is contributed by another definition too' : undefined)
      return fault === undefined ? [] : [{ where: file, message: `POST ${path} of stream ${point.stream} ${fault}` }]
    })
    faults.push(...wrong)
    if (wrong.length > 0) continue
    points.push(point)
    for (const path of paths) taken.add(path)
  }
  return { points, routes: ingestRoutes(points), faults }
}

const pathsOf = ({ source: { path, batchPath } }: IngestPoint) => (batchPath === undefined ? [path] : [path, batchPath])

function ingestRoutes(points: readonly IngestPoint[]): Route[] {
  return points.flatMap(({ stream, source }) => {
    const { path, batchPath, schema, maxBatch, maxBytes, maxBatchBytes } = source
    const shared = { method: 'POST', tag: stream, headers: idempotencyHeader, handle: served } as const
    const errors = ['UNAVAILABLE'] as const
    const single = route({
      ...shared,
      path,
      errors,
      summary: `Stores an event in ${stream}`,
      description: `Answered when it is committed. At most ${maxBytes} bytes.`,
      body: schema,
      answers: {
        202: { description: 'Committed', schema: stored, example: { id: exampleId, status: 'stored' } },
      },
    })
    if (batchPath === undefined) return [single]
    const example = {
      stored: 1,
      duplicate: 0,
      rejected: 1,
      items: [{ id: exampleId, status: 'stored' }, exampleRejection],
    }
    const batch = route({
      ...shared,
      headers: batchHeaders,
      path: batchPath,
      errors,
      summary: `Stores events in ${stream}`,
      description: `Each is judged by itself; answered when those that are valid are committed. At most ${maxBatch} events and ${maxBatchBytes} bytes.`,
      body: z.array(schema).min(1).max(maxBatch),
      answers: {
        202: { description: 'All are committed', schema: z.object({ ...counts, items: items.optional() }) },
        207: { description: 'Some are committed, the others are rejected', schema: batchAnswer, example },
        422: {
          description: 'None is stored: INVALID_INPUT; `items` says why of each, where the body was read as events',
          type: problemType,
          schema: problemSchema.extend({ items: items.optional() }),
        },
      },
    })
    return [single, batch]
  })
}

const served = (): never => {
  throw new SluiceError('INTERNAL', 'Events are served by mountIngest')
}

export function mountIngest(app: FastifyInstance, point: IngestPoint, jsonDepth: number): void {
  const { path, batchPath, maxBytes, maxBatchBytes } = point.source
  // Parsers belong to a scope: these routes alone read their bodies themselves.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes, done) => done(null, bytes))
    scope.route({ method: 'POST', url: path, bodyLimit: maxBytes, handler: takeOne(point, jsonDepth) })
    if (batchPath !== undefined)
      scope.route({ method: 'POST', url: batchPath, bodyLimit: maxBatchBytes, handler: takeBatch(point, jsonDepth) })
  })
}

function takeOne(point: IngestPoint, jsonDepth: number) {
  return (request: FastifyRequest, reply: FastifyReply): undefined => {
    const { value, suspect } = bodyOf(request, jsonDepth)
    point.take({ events: [value], key: keyOf(request), suspect, batch: false }, (ends) => {
      if (ends instanceof SluiceError) return void reply.send(ends)
      const [end] = ends as readonly [EventEnd]
      if (end.outcome !== 'rejected') return void reply.code(202).type(json).send(storedText(end))
      const faults = end.faults.length > 0 ? located(end.faults, '/body') : [{ where: '/body', message: end.detail }]
      reply.send(new SluiceError(end.code, detailAt(end.detail, '/body'), { faults }))
    })
  }
}

function takeBatch(point: IngestPoint, jsonDepth: number) {
  const { maxBatch } = point.source
  return (request: FastifyRequest, reply: FastifyReply): undefined => {
    const { value, suspect } = bodyOf(request, jsonDepth)
    if (!Array.isArray(value)) throw invalid([{ where: '/body', message: 'is not an array of events' }])
    if (value.length === 0) throw invalid([{ where: '/body', message: 'has no events' }])
    if (value.length > maxBatch) {
      throw new SluiceError(
        'BODY_TOO_LARGE',
        `The batch has ${value.length} events; at most ${maxBatch} are taken at once`,
      )
    }
    point.take({ events: value, key: keyOf(request), suspect, batch: true }, (ends) => {
      if (ends instanceof SluiceError) return void reply.send(ends)
      const counts = countsOf(ends)
      if (counts.rejected === 0 && wantsMinimal.test((request.headers.prefer as string | undefined) ?? '')) {
        reply.code(202).type(json).header('preference-applied', 'return=minimal').send(JSON.stringify(counts))
        return
      }
      const { status, type, text } = batchText(ends, counts, `${request.url}#${request.id}`)
      // Bytes, since Fastify would add a charset to the type of a problem.
      reply.code(status).type(type).send(Buffer.from(text))
    })
  }
}

/** @throws SluiceError MALFORMED_JSON, INVALID_INPUT, UNSUPPORTED_MEDIA_TYPE */
function bodyOf(request: FastifyRequest, jsonDepth: number) {
  if (request.raw.url?.includes('?')) {
    const [name] = Object.keys(request.query as object)
    if (name !== undefined) throw invalid([{ where: `/query/${name.slice(0, 100)}`, message: 'is not known here' }])
  }
  if (request.body === undefined) {
    throw new SluiceError('UNSUPPORTED_MEDIA_TYPE', 'The request has no content type; send application/json')
  }
  return parseJson(request.body as Buffer, jsonDepth)
}

const keyOf = ({ headers }: FastifyRequest) => headers['idempotency-key'] as string | undefined

/** Most ids need no escape, which is quicker to see than to make. */
const plainId = /^[\w.:#-]+$/

const storedText = ({ id, outcome }: EventEnd & { id: string }) =>
  `{"id":${plainId.test(id) ? `"${id}"` : JSON.stringify(id)},"status":"${outcome}"}`

const located = (faults: readonly Fault[], at: string): Fault[] =>
  faults.map(({ where, message }) => ({ where: where.startsWith('/') || where === '' ? at + where : where, message }))

/** A detail may begin with a pointer into the event. */
const detailAt = (detail: string, at: string) => (detail.startsWith('/') ? at + detail : detail.trimStart())

function countsOf(ends: readonly EventEnd[]) {
  const counts = { stored: 0, duplicate: 0, rejected: 0 }
  for (const { outcome } of ends) counts[outcome] += 1
  return counts
}

function batchText(ends: readonly EventEnd[], counts: ReturnType<typeof countsOf>, instance: string) {
  const texts = ends.map((end, index) => {
    if (end.outcome !== 'rejected') return storedText(end)
    const { code, detail, faults } = end
    const at = `/body/${index}`
    return JSON.stringify({ status: 'rejected', code, detail: detailAt(detail, at), errors: located(faults, at) })
  })
  const list = `[${texts.join(',')}]`
  if (counts.rejected < ends.length) {
    const { stored, duplicate, rejected } = counts
    const text = `{"stored":${stored},"duplicate":${duplicate},"rejected":${rejected},"items":${list}}`
    return { status: rejected === 0 ? 202 : 207, type: json, text }
  }
  const faults = ends.flatMap((end, index) =>
    end.outcome === 'rejected' ? located(end.faults.slice(0, 1), `/body/${index}`) : [],
  )
  const error = new SluiceError('INVALID_INPUT', `None of the ${ends.length} events can be stored`, {
    faults: faults.slice(0, 100),
  })
  const problem = JSON.stringify(problemOf(error, instance))
  return { status: 422, type: problemType, text: `${problem.slice(0, -1)},"items":${list}}` }
}
