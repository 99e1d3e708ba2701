/** Serving processes in this one, over a database of their own: events go into a table, and are counted by other SQL. */
import { randomUUID } from 'node:crypto'
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { SluiceError } from '../src/errors.ts'
import { type Database, type PipelinedDatabase, type Session, statement } from '../src/ports/database.ts'
import type { EventEnd, IngestPoint } from '../src/ports/ingest.ts'
import { openDatabase, type PooledDatabase } from '../src/postgres/pool.ts'
import { http } from '../src/sdk/http-source.ts'
import { z } from '../src/sdk/schema.ts'
import { type HttpStream, stream } from '../src/sdk/stream.ts'
import { table } from '../src/sdk/table.ts'
import { totals } from '../src/store/ledger.ts'
import { type Ingest, type IngestOptions, openIngest } from '../src/streams/ingest/ingest.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { type Breach, breaches } from './invariants/check.ts'
import { noObjects } from './stream-world.ts'

export const sample = {
  token: 'c98arf53-ae39-4c9d-af44-c6957ee2f748',
  customer: 'Customer1',
  content: 'channel1',
  timespan: 30000,
  p2p: 560065,
  cdn: 321123,
  sessionDuration: 120000,
}

const event = z.object({
  id: z.string().optional(),
  token: z.string().min(1),
  customer: z.string().min(1),
  content: z.string().min(1),
  timespan: z.int().min(0),
  p2p: z.int().min(0),
  cdn: z.int().min(0),
  sessionDuration: z.int().min(0),
})

export type Event = z.infer<typeof event>

const raw = z.object({
  event_id: z.string(),
  token: z.string(),
  customer: z.string(),
  content: z.string(),
  cdn: z.int(),
  p2p: z.int(),
  session_duration: z.int(),
  received_at: z.date(),
})

export const rawTable = table('ingest_test.raw', { schema: raw })
/** One row per token: a row that comes again leaves the one that is there. */
export const keyedTable = table('ingest_test.keyed', { schema: raw, key: 'token', recordId: 'record_id' })

const rowOf = (one: Event, { id, receivedAt }: { id: string; receivedAt: Date }) => {
  if (one.customer === 'nobody') throw new SluiceError('INVALID_INPUT', 'nobody is no customer')
  if (one.customer === 'bug') throw new TypeError('customer is a bug')
  return {
    event_id: id,
    token: one.token,
    customer: one.customer,
    content: one.content,
    cdn: one.cdn,
    p2p: one.p2p,
    session_duration: one.sessionDuration,
    received_at: receivedAt,
  }
}

export const statsEvents = stream('stats-events', {
  from: http('POST /stats', {
    schema: event,
    batch: 'POST /stats/batch',
    maxBatch: 100,
    maxBytes: 4_096,
    auth: 'open',
  }),
  id: (one) => one.id,
  row: rowOf,
  to: rawTable,
})

export const keyedEvents = stream('keyed-events', {
  from: http('POST /keyed', { schema: event, batch: 'POST /keyed/batch' }),
  id: (one) => one.id,
  row: rowOf,
  to: keyedTable,
})

const tables = `
  create schema ingest_test;
  create table ingest_test.raw (
    seq bigint generated always as identity, event_id text not null, token text not null, customer text not null, content text not null,
    cdn bigint not null, p2p bigint not null check (p2p <> 13), session_duration int not null, received_at timestamptz not null
  );
  create table ingest_test.keyed (
    event_id text not null, token text primary key, customer text not null, content text not null,
    cdn bigint not null, p2p bigint not null, session_duration int not null, received_at timestamptz not null, record_id text not null
  );`

const rowsStatement = statement<{ eventId: string; token: string; p2p: number }>(
  'test.ingest-rows',
  'select event_id as "eventId", token, p2p from ingest_test.raw order by seq',
)
const keyedStatement = statement<{ eventId: string; token: string; recordId: string }>(
  'test.ingest-keyed',
  'select event_id as "eventId", token, record_id as "recordId" from ingest_test.keyed order by token',
)
const lapseStatement = statement(
  'test.ingest-lapse',
  `update sluice.shards set lease_until = '-infinity' where stream = $1 and holder is not null`,
)
const lanesStatement = statement<{ partition: number; holder: string | null; epoch: number; committedOffset: number }>(
  'test.ingest-lanes',
  'select partition, holder, epoch, committed_offset as "committedOffset" from sluice.shards where stream = $1 order by partition',
)
const batchesStatement = statement<{
  received: number
  written: number
  duplicate: number
  rejected: number
  reasons: unknown
}>(
  'test.ingest-batches',
  'select received, written, duplicate, rejected, reasons from sluice.ledger_batches where stream = $1 order by partition, from_offset',
)

export class IngestWorld {
  readonly test: TestDatabase
  readonly db: Database
  readonly reports: { readonly message: string; readonly fields: Record<string, unknown> }[] = []
  readonly #open = new Set<{ ingest: Ingest; database: PooledDatabase }>()
  #ids = 0

  private constructor(test: TestDatabase) {
    this.test = test
    this.db = test.db
  }

  static async open(): Promise<IngestWorld> {
    const test = await testDatabase({ max: 4 })
    await test.db.script(tables)
    return new IngestWorld(test)
  }

  async close(): Promise<void> {
    await this.stopAll()
    await this.test.drop()
  }

  async stopAll(): Promise<void> {
    for (const { ingest, database } of this.#open) {
      await ingest.stop()
      await database.close()
    }
    this.#open.clear()
  }

  /** Nothing was ever received. */
  async clear(): Promise<void> {
    await this.db.script(`truncate ingest_test.raw, ingest_test.keyed, sluice.ingest_ids, sluice.ledger_batches, sluice.ledger_folds;
      delete from sluice.shards; delete from sluice.nodes`)
  }

  /** Of the events that are stored. */
  async ids(name: string): Promise<string[]> {
    const rows = name === 'stats-events' ? await this.rows() : await this.keyed()
    return rows.map(({ eventId }) => eventId).sort()
  }

  /** Opens what one serving process has of ingest. */
  async serve(
    options: Partial<Omit<IngestOptions, 'streams'>> & {
      readonly url?: string
      /** What stands between ingest and its database. */
      readonly through?: (database: PipelinedDatabase) => PipelinedDatabase
      readonly streams?: readonly HttpStream<never>[]
    } = {},
  ): Promise<Ingest & { point(stream?: string): IngestPoint }> {
    const database = openDatabase({
      ...this.test.options,
      ...(options.url === undefined ? {} : { url: options.url }),
      ...{ applicationName: 'sluice ingest', max: 3, connectTimeoutMs: 1_000, answerTimeoutMs: 2_000 },
    })
    const adapters = streamAdapters({ db: database, objects: noObjects } as never)
    const ingest = await openIngest({
      ...{
        database: options.through?.(database) ?? database,
        heartbeat: database,
        node: randomUUID(),
        host: 'test',
        pid: process.pid,
        leaseMs: 60_000,
      },
      sink: (one) => adapters.sink(one),
      newId: () => `made-${++this.#ids}`,
      now: () => Date.now(),
      report: (message, fields) => this.reports.push({ message, fields }),
      ...options,
      limits: { againMs: 20, countMs: 20, ...options.limits },
      streams: (options.streams ?? [statsEvents, keyedEvents]) as readonly HttpStream[],
    })
    this.#open.add({ ingest, database })
    const point = (name = 'stats-events') => ingest.points.find(({ stream }) => stream === name)!
    return { ...ingest, point }
  }

  rows(session: Session = this.db) {
    return session.query(rowsStatement)
  }
  keyed() {
    return this.db.query(keyedStatement)
  }
  lanes(name = 'stats-events') {
    return this.db.query(lanesStatement, [name])
  }
  batches(name = 'stats-events') {
    return this.db.query(batchesStatement, [name])
  }
  totals(name = 'stats-events') {
    return totals(this.db, name)
  }
  /** As if every lease had lapsed. */
  lapse(name = 'stats-events') {
    return this.db.execute(lapseStatement, [name])
  }
  breaches(): Promise<readonly Breach[]> {
    return breaches(this.db, { otherSinks: ['stats-events', 'keyed-events'] })
  }
}

/** Sends events as one request; gives the ends, or throws what it was turned away with. */
export function post(
  point: IngestPoint,
  events: unknown,
  { key, batch = Array.isArray(events) }: { readonly key?: string; readonly batch?: boolean } = {},
): Promise<readonly EventEnd[]> {
  return new Promise((resolve, reject) =>
    point.take({ events: batch ? (events as unknown[]) : [events], key, suspect: true, batch }, (ends) =>
      ends instanceof SluiceError ? reject(ends) : resolve(ends),
    ),
  )
}
