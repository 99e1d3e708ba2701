/** Streams that are told to drain while a process runs them: nothing more comes in, all that is there ends, and they go on without a restart. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { patience, until } from '../../test/engine-world.ts'
import { IngestWorld, post, sample } from '../../test/ingest-world.ts'
import { builtIn, plainCapabilities, StreamWorld } from '../../test/stream-world.ts'
import { openTestApi, type TestApi, testManifest } from '../../test/test-api.ts'
import { accountsOf, itemStream, itemTables, putItems, testTimers } from '../../test/timer-world.ts'
import { type Database, type PipelinedDatabase, statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { topic } from '../sdk/topic.ts'
import { shardFigures } from '../store/stream-figures.ts'
import { openStreams, type StreamAdapters, type Streams } from './streams.ts'

patience.ms = 60_000
const timeout = 200_000
/** Long enough for a busy machine: a lease in doubt would give the shards up. */
const leaseMs = 30_000

const wakeStatement = statement('test.wake-all', `select pg_notify('sluice_shards', '')`)
const runsStatement = statement<{ item: string; ended: boolean }>(
  'test.drain-runs',
  'select item, ended_at is not null as ended from test_runs',
)

let world: StreamWorld
let reports: unknown[]
let streams: Streams | undefined
let apis: TestApi[]
beforeEach(async () => {
  world = await StreamWorld.open()
  reports = []
  apis = []
  streams = undefined
})
afterEach(async () => {
  await streams?.stop(0)
  for (const api of apis) await api.close()
  const breaches = await world.breaches()
  await world.close()
  expect(breaches).toEqual([])
})

async function open(definition: Stream, adapters: StreamAdapters): Promise<void> {
  streams = await openStreams({
    ...{ database: world.db, streams: [definition], node: randomUUID(), random: Math.random, adapters, leaseMs },
    ...{ capabilities: plainCapabilities, report: (message, fields) => reports.push({ message, fields }) },
  })
}

interface Shown {
  readonly mode: string
  readonly drained: boolean
  readonly totals: Readonly<Record<string, number>>
}

/** Asks of a stream by HTTP, as an operator does. */
async function operator(db: Database, name: string, ingest?: Parameters<typeof openTestApi>[1]) {
  const definition = { ...testManifest.streams[0]!, name }
  const manifest = { ...testManifest, streams: [definition] }
  const api = await openTestApi(db, { manifest: () => manifest, ...ingest })
  apis.push(api)
  const headers = { host: 'localhost' }
  const ask = async (act: 'drain' | 'resume') => {
    const answer = await api.app.inject({ method: 'POST', url: `/api/v1/streams/${name}/${act}`, headers })
    expect([answer.statusCode, answer.json().changed]).toEqual([200, true])
  }
  const shown = async () => (await api.app.inject({ url: `/api/v1/streams/${name}`, headers })).json<Shown>()
  const drained = () =>
    until('it says that it is drained', async () => {
      await db.execute(wakeStatement)
      return (await shown()).drained
    })
  return { api, ask, shown, drained }
}

const leaseStatement = statement<{ until: Date | null }>(
  'test.lease-of',
  'select min(lease_until) as until from sluice.shards where stream = $1',
)

/** Its holders have looked what was asked, and told how they stand. */
async function renewed(name: string): Promise<void> {
  for (const _ of [1, 2]) {
    const before = (await world.db.query(leaseStatement, [name]))[0]!.until!
    await until('another renewal', async () => {
      await world.db.execute(wakeStatement)
      return (await world.db.query(leaseStatement, [name]))[0]!.until! > before
    })
  }
}

const epochs = async (name: string) => (await shardFigures(world.db, name)).map(({ epoch }) => epoch)

describe('a stream that is drained while it runs', { timeout }, () => {
  it('of a topic: ends what is in its steps and what waits, says so, and goes on when it is resumed', async () => {
    const gates: (() => void)[] = []
    let failing = true
    const definition = stream('lines', {
      from: topic('lines', { schema: z.object({ n: z.number() }), partitions: 2 }),
      id: (line) => line.n,
      retry: { attempts: 1_000, base: '100ms', max: '200ms' },
      steps: (records) =>
        records.step(async ({ n }) => {
          if (n < 4) await new Promise<void>((resolve) => gates.push(resolve))
          if (n >= 4 && n < 10 && failing) throw new Error('not yet')
          return { id: `line-${n}` }
        }),
      to: documents('lines', { key: 'id' }),
    }) as unknown
    await open(definition as Stream, builtIn(world.db))
    const { ask, shown, drained } = await operator(world.db, 'lines')
    const publish = (from: number, count: number) =>
      world.publishValues(
        'lines',
        Array.from({ length: count }, (_, index) => ({ n: from + index })),
      )
    await publish(0, 10)
    await until('some run and some wait', async () => gates.length === 4 && (await shown()).totals.waiting! >= 6)
    const held = await epochs('lines')
    await ask('drain')
    await renewed('lines')
    await publish(100, 5)
    await renewed('lines')
    expect(await shown()).toMatchObject({ mode: 'draining', drained: false, totals: { received: 15, written: 0 } })
    failing = false
    await until('what waited has ended', async () => (await shown()).totals.written === 6)
    await renewed('lines')
    expect(await shown()).toMatchObject({ drained: false })
    for (const go of gates) go()
    await drained()
    expect((await shown()).totals).toMatchObject({ received: 15, written: 10, queued: 5, waiting: 0, dead: 0 })
    await ask('resume')
    expect(await shown()).toMatchObject({ mode: 'running', drained: false })
    await until('the rest', async () => (await shown()).totals.pending === 0)
    expect([await epochs('lines'), reports]).toEqual([held, []])
    expect((await shown()).totals).toMatchObject({ received: 15, written: 15 })
  })

  it('of a timer: the checks that run end, ticks that come due meanwhile are missed but for the last of each, and every tick is counted', async () => {
    await world.db.script(itemTables)
    const quick = Array.from({ length: 12 }, (_, n) => ({ id: `item-${n}`, every_ms: 1_000, ms: 0 }))
    const all = [...quick, { id: 'slow', every_ms: 1_000, ms: 1_500 }]
    await putItems(world.db, all)
    const { definition, adapters } = testTimers(world.db, itemStream(world.db, randomUUID()))
    await open(definition, adapters.streams)
    const { ask, drained } = await operator(world.db, 'timed')
    const runs = () => world.db.query(runsStatement)
    await until('all have run, and the slow one runs', async () => {
      const made = await runs()
      return new Set(made.map(({ item }) => item)).size === 13 && made.some((run) => run.item === 'slow' && !run.ended)
    })
    const held = await epochs('timed')
    await ask('drain')
    await drained()
    const before = await runs()
    expect(before.filter(({ ended }) => !ended)).toEqual([])
    const asOf = Date.now()
    await until('some ticks of each have come due', () => Date.now() > asOf + 3_500)
    expect(await runs()).toHaveLength(before.length)
    await ask('resume')
    await until('each runs again', async () => {
      const again = (await runs()).slice(before.length)
      return all.every(({ id }) => again.filter(({ item, ended }) => item === id && ended).length > 1)
    })
    expect([await epochs('timed'), reports]).toEqual([held, []])
    await streams!.stop()
    const { ticks, written, missed, folded, overlaps } = await accountsOf(world.db, all)
    const open_ = (await world.waiting('timed')).length
    expect({ accounted: written + open_ + missed + folded, overlaps }).toEqual({ accounted: ticks, overlaps: [] })
    // Of three ticks of each at least that came due in that time, the last one ran late.
    expect(missed).toBeGreaterThanOrEqual(2 * quick.length)
  })

  it('of HTTP: what was sent before is stored and answered, what comes meanwhile is turned away with 503, then it takes events again', async () => {
    const ingested = await IngestWorld.open()
    try {
      const gate = Promise.withResolvers<void>()
      let begun = 0
      const through = (database: PipelinedDatabase): PipelinedDatabase => ({
        ...database,
        pipeline: async (steps) => {
          begun += 1
          await gate.promise
          return database.pipeline(steps)
        },
        transaction: async (work) => {
          begun += 1
          await gate.promise
          return database.transaction(work)
        },
      })
      const ingest = await ingested.serve({ through, leaseMs: 3_000 })
      const points = ingest.points.map((point) => ({ point, file: 'workflows/stats.ts' }))
      const { api, ask, shown, drained } = await operator(ingested.db, 'stats-events', { ingest: points })
      const sent = post(ingest.point(), { ...sample, id: 'before' })
      await until('its commit is under way', () => begun === 1)
      await ask('drain')
      const send = (id: string) =>
        api.app.inject({ method: 'POST', url: '/stats', headers: { host: 'localhost' }, payload: { ...sample, id } })
      // As a notification makes it do.
      await ingest.look()
      const refused = await send('meanwhile')
      expect([refused.statusCode, refused.headers['retry-after'], refused.json().detail]).toEqual([
        ...[503, '30'],
        'The stream stats-events is draining; send the events again later',
      ])
      expect(await shown()).toMatchObject({ mode: 'draining', drained: false })
      gate.resolve()
      expect(await sent).toEqual([{ id: 'before', outcome: 'stored' }])
      await drained()
      expect((await send('meanwhile')).statusCode).toBe(503)
      expect(await ingested.ids('stats-events')).toEqual(['before'])
      await ask('resume')
      await ingest.look()
      expect((await send('after')).statusCode).toBe(202)
      expect(await ingested.ids('stats-events')).toEqual(['after', 'before'])
      expect(ingested.reports).toEqual([])
      await api.close()
      apis = []
    } finally {
      await ingested.close()
    }
  })
})
