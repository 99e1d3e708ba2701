import type { StreamManifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import { z } from '../../sdk/schema.ts'
import { listDeadLetters, replayDeadLetters } from '../../store/dead-letters.ts'
import { totals } from '../../store/ledger.ts'
import { minuteFigures, type ShardFigures, shardFigures } from '../../store/stream-figures.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'

const time = z.iso.datetime()
const count = z.int()

const streamSummary = z.object({
  name: z.string(),
  file: z.string(),
  topic: z.string(),
  steps: z.array(z.string()),
  sink: z.looseObject({}),
  totals: z
    .object({
      received: count,
      pending: count,
      written: count,
      duplicate: count,
      filtered: count,
      rejected: count,
      dead: count,
      queued: count.meta({ description: 'Of pending: not yet passed by the offset' }),
      waiting: count.meta({ description: 'Of pending: passed by the offset, not ended' }),
      rejectedByReason: z.record(z.string(), count),
    })
    .meta({ description: 'received = pending + written + duplicate + filtered + rejected + dead' }),
  shards: z.array(
    z.object({
      partition: count,
      holder: z.uuid().nullable(),
      epoch: count,
      committedOffset: count,
      lag: count.meta({ description: 'Published, and not yet passed by the offset' }),
      inFlight: count,
      parked: count,
      waiting: count,
      retrying: count,
      dead: count,
      committedAt: time.nullable(),
    }),
  ),
})

const minutes = z.array(
  z.object({
    minute: time,
    received: count,
    written: count,
    duplicate: count,
    filtered: count,
    rejected: count,
    dead: count,
  }),
)
const streamDetail = streamSummary.extend({
  minutes: minutes.meta({
    description: 'What ended in each minute of the last hour; minutes without anything are left out',
  }),
})

const deadLetter = z.object({
  id: z.string().meta({ description: 'The id of the record' }),
  partition: count,
  offset: count,
  key: z.string().nullable(),
  value: z.unknown(),
  reason: z.string().nullable(),
  detail: z.string().nullable(),
  attempts: count,
  since: time,
})

const replayBody = z
  .strictObject({
    ids: z
      .array(z.string().min(1).max(1_000))
      .min(1)
      .max(1_000)
      .optional()
      .meta({ description: 'Ids of records, 1,000 at most' }),
    all: z.literal(true).optional(),
  })
  .refine(({ ids, all }) => (ids === undefined) !== (all === undefined), 'give either ids or all: true')

const nameParams = z.object({ name: z.string().max(200) })
type Name = z.infer<typeof nameParams>
type Page = { limit: number; cursor?: string | undefined }

export function streamRoutes(context: ApiContext): Route[] {
  return [listRoute(context), detailRoute(context), deadLettersRoute(context), replayRoute(context)]
}

function listRoute(context: ApiContext): Route {
  return route<unknown, Page>({
    method: 'GET',
    path: '/api/v1/streams',
    tag: 'streams',
    summary: 'Streams by name, with where their records ended',
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(streamSummary, 'streams') } },
    errors: ['INVALID_CURSOR'],
    async handle({ query: { limit, cursor } }) {
      const after = cursor === undefined ? '' : decodeCursor('streams', z.string().max(100), cursor)
      const rest = context
        .manifest()
        .streams.filter(({ name }) => name > after)
        .sort((one, other) => (one.name < other.name ? -1 : 1))
      const page = rest.slice(0, limit)
      const shards = await shardFigures(context.db, null)
      const items: object[] = []
      // One after another: each is one connection of a small pool.
      for (const stream of page) items.push(await summaryOf(context, stream, shards))
      return { items, nextCursor: rest.length > page.length ? encodeCursor('streams', page.at(-1)?.name) : null }
    },
  })
}

function detailRoute(context: ApiContext): Route {
  return route<Name>({
    method: 'GET',
    path: '/api/v1/streams/:name',
    tag: 'streams',
    summary: 'A stream with its last hour',
    params: nameParams,
    answers: { 200: { description: 'The stream', schema: streamDetail } },
    async handle({ params }) {
      const stream = streamOf(context, params.name)
      const summary = await summaryOf(context, stream, await shardFigures(context.db, stream.name))
      return { ...summary, minutes: await minuteFigures(context.db, stream.name) }
    },
  })
}

function deadLettersRoute(context: ApiContext): Route {
  return route<Name, Page>({
    method: 'GET',
    path: '/api/v1/streams/:name/dead-letters',
    tag: 'streams',
    summary: 'Records that gave up',
    params: nameParams,
    query: z.strictObject(pageQuery),
    answers: { 200: { description: 'A page', schema: pageOf(deadLetter, 'dead letters') } },
    errors: ['INVALID_CURSOR'],
    async handle({ params, query: { limit, cursor } }) {
      const { name } = streamOf(context, params.name)
      const after = cursor === undefined ? null : decodeCursor('dead-letters', z.string().max(50), cursor)
      const page = await listDeadLetters(context.db, name, { cursor: after, limit })
      return {
        items: page.items.map(({ recordId, value, ...letter }) => ({
          id: recordId,
          ...letter,
          value: JSON.parse(value),
        })),
        nextCursor: page.nextCursor === null ? null : encodeCursor('dead-letters', page.nextCursor),
      }
    },
  })
}

function replayRoute(context: ApiContext): Route {
  return route<Name, unknown, z.infer<typeof replayBody>>({
    method: 'POST',
    path: '/api/v1/streams/:name/dead-letters/replay',
    tag: 'streams',
    summary: 'Try dead letters again',
    description: 'Where the stream takes only the first record of each key, what died with the same key comes along.',
    params: nameParams,
    body: replayBody,
    bodyExample: { all: true },
    answers: {
      200: {
        description: 'How many wait again, and how many had no room and are still dead',
        schema: z.object({ replayed: count, remaining: count }),
      },
    },
    handle({ params, body }) {
      const stream = streamOf(context, params.name)
      return replayDeadLetters(context.db, stream.name, body.ids ?? 'all', { distinct: stream.distinct ?? false })
    },
  })
}

function streamOf({ manifest }: ApiContext, name: string): StreamManifest {
  const found = manifest().streams.find((stream) => stream.name === name)
  if (found) return found
  throw new SluiceError('NOT_FOUND', `There is no stream ${JSON.stringify(name.slice(0, 80))}`)
}

async function summaryOf(
  context: ApiContext,
  stream: StreamManifest,
  shards: readonly ShardFigures[],
): Promise<object> {
  const { name, file, topic, steps, sink } = stream
  const own = shards.filter((shard) => shard.stream === name)
  return {
    name,
    file,
    topic,
    steps,
    sink,
    totals: await totals(context.db, name),
    shards: own.map(({ stream: _stream, topic: _topic, ...shard }) => shard),
  }
}
