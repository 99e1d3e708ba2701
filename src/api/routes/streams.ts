import type { StreamManifest } from '../../core/manifest.ts'
import { z } from '../../sdk/schema.ts'
import { type StreamTotals, streamTotals } from '../../store/ledger.ts'
import { type OldestOpen, oldestOpen } from '../../store/stream-age.ts'
import { type StreamMode, streamModes } from '../../store/stream-controls.ts'
import { minuteFigures, type ShardFigures, shardFigures } from '../../store/stream-figures.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'
import { deadLetterRoutes, nameParams, streamOf } from './dead-letters.ts'
import { streamOperationRoutes } from './stream-operations.ts'
import { timerFigures, timerFiguresOf } from './timer-figures.ts'

const time = z.iso.datetime()
const count = z.int()

const streamSummary = z.object({
  name: z.string(),
  file: z.string(),
  topic: z.string(),
  mode: z.enum(['running', 'paused', 'draining']),
  drained: z.boolean().meta({
    description: 'It is draining, and all that was taken in has ended: nothing is in its steps, nothing waits',
  }),
  steps: z.array(z.string()),
  source: z.looseObject({ kind: z.string(), name: z.string() }),
  sink: z.looseObject({}),
  timer: timerFigures,
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
  oldest: z.object({ queued: time.nullable(), waiting: time.nullable() }).meta({
    description: 'When the oldest record was published that the offset has not passed, and since when the oldest waits',
  }),
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
      items: count.nullable().meta({ description: 'Of a timer' }),
      missed: count,
      folded: count,
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

type Name = z.infer<typeof nameParams>
type Page = { limit: number; cursor?: string | undefined }

export function streamRoutes(context: ApiContext): Route[] {
  return [listRoute(context), detailRoute(context), ...deadLetterRoutes(context), ...streamOperationRoutes(context)]
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
      const figures = await figuresOf(context, page)
      const items = page.map((stream) => summaryOf(stream, figures))
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
      const summary = summaryOf(stream, await figuresOf(context, [stream]))
      return { ...summary, minutes: await minuteFigures(context.db, stream.name) }
    },
  })
}

interface Figures {
  readonly shards: readonly ShardFigures[]
  readonly modes: ReadonlyMap<string, StreamMode>
  readonly oldest: ReadonlyMap<string, OldestOpen>
  readonly totals: ReadonlyMap<string, StreamTotals>
}

/** One after another: each is one connection of a small pool. */
async function figuresOf({ db }: ApiContext, streams: readonly StreamManifest[]): Promise<Figures> {
  const names = streams.map(({ name }) => name)
  const only = names.length === 1 ? names[0]! : null
  return {
    modes: await streamModes(db, names),
    shards: await shardFigures(db, only),
    oldest: await oldestOpen(db, only),
    // After the shards: what a drained one had has ended, or waits, by now.
    totals: await streamTotals(db, names),
  }
}

function summaryOf(stream: StreamManifest, figures: Figures): object {
  const { name, file, topic, steps, sink, source = { kind: 'topic', name: topic } } = stream
  const own = figures.shards.filter((shard) => shard.stream === name)
  const mode = figures.modes.get(name) ?? 'running'
  const totals = figures.totals.get(name)!
  return {
    ...{ name, file, topic, source, steps, sink },
    timer: timerFiguresOf(stream, own),
    mode,
    drained: mode === 'draining' && totals.waiting === 0 && own.every(({ drained }) => drained),
    totals,
    oldest: figures.oldest.get(name) ?? { queued: null, waiting: null },
    shards: own.map(({ stream: _, topic: __, refused: ___, failure: ____, drained: _____, ...shard }) => shard),
  }
}
