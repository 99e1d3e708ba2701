/** Timers on a real database: items in a table, and a row for each time that the steps of one began and ended. */
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { stableHash } from '../src/core/stable-hash.ts'
import { offsetOf, phaseOf, placeOf, tickFrom, timeOfOffset } from '../src/core/ticks.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { z } from '../src/sdk/schema.ts'
import { documents, type Stream, stream } from '../src/sdk/stream.ts'
import { timer } from '../src/sdk/timer.ts'
import { Timers } from '../src/streams/timer/timers.ts'
import { noObjects, plainCapabilities } from './stream-world.ts'

export interface TestItem {
  readonly id: string
  readonly every_ms: number
  /** How long the steps take. */
  readonly ms: number
  readonly active?: boolean
}

/** Of both: `test_items` and `test_runs`. */
export const itemTables = `
  create table test_items (id text primary key, every_ms int not null, ms int not null, active boolean not null default true);
  create table test_runs (
    item text not null, scheduled_at timestamptz not null, node text not null,
    begun_at timestamptz not null default clock_timestamp(), ended_at timestamptz
  )`

const itemsStatement = statement<TestItem>(
  'test.items',
  'select id, every_ms, ms from test_items where active order by id',
)
const beginStatement = statement('test.begin', 'insert into test_runs (item, scheduled_at, node) values ($1, $2, $3)')
const endStatement = statement(
  'test.end',
  'update test_runs set ended_at = clock_timestamp() where item = $1 and scheduled_at = $2 and node = $3 and ended_at is null',
)
const putStatement = statement(
  'test.put-items',
  `insert into test_items select * from jsonb_to_recordset($1) as given (id text, every_ms int, ms int, active boolean)
   on conflict (id) do update set every_ms = excluded.every_ms, ms = excluded.ms, active = excluded.active`,
)

/** Items that are there already are changed. */
export async function putItems(db: Database, items: readonly TestItem[]): Promise<void> {
  await db.execute(putStatement, [JSON.stringify(items.map((item) => ({ active: true, ...item })))])
}

/** A stream of the items in the table. */
export function itemStream(db: Database, node: string, perProducer?: number, shards = 4): Stream {
  const items = timer('test-items', {
    schema: z.object({ id: z.string(), every_ms: z.int(), ms: z.int() }),
    items: () => db.query(itemsStatement),
    id: (item) => item.id,
    every: (item) => `${item.every_ms}ms`,
    refresh: '1s',
    shards,
    ...(perProducer === undefined ? {} : { perProducer }),
  })
  const definition: unknown = stream('timed', {
    from: items,
    id: (record) => [record.item.id, record.scheduledAt],
    key: (record) => record.item.id,
    concurrency: { total: 200 },
    steps: (records) =>
      records.step(async ({ item, scheduledAt }, { signal }) => {
        await db.execute(beginStatement, [item.id, scheduledAt, node])
        await new Promise((resolve, reject) => {
          const over = setTimeout(resolve, item.ms)
          signal.addEventListener('abort', () => {
            clearTimeout(over)
            reject(signal.reason)
          })
        })
        await db.execute(endStatement, [item.id, scheduledAt, node])
        return { id: `${item.id} ${scheduledAt}`, item: item.id, scheduledAt }
      }),
    to: documents('timed', { key: 'id' }),
  })
  return definition as Stream
}

export function testTimers(
  db: Database,
  definition: Stream,
  report: (message: string, fields: Record<string, unknown>) => void = () => {},
) {
  const timers = new Timers({ capabilities: plainCapabilities, report })
  const streams = streamAdapters({ db, objects: noObjects, timers })
  return { definition, adapters: { streams, capabilities: plainCapabilities } }
}

const writtenStatement = statement<{ item: string; scheduledAt: string }>(
  'test.timed-written',
  `select body ->> 'item' as item, body ->> 'scheduledAt' as "scheduledAt" from sluice.documents where collection = 'timed'`,
)
const overlapsStatement = statement<{ item: string }>(
  'test.timed-overlaps',
  `select a.item from test_runs a join test_runs b
     on a.item = b.item and a.ctid <> b.ctid and a.begun_at <= b.begun_at and a.ended_at > b.begun_at`,
)
const shardsStatement = statement<{ partition: number; first: number; offset: number; missed: number; folded: number }>(
  'test.timed-shards',
  `select s.partition, min(b.from_offset) as first, s.committed_offset as "offset", s.ticks_missed as missed, s.ticks_folded as folded
   from sluice.shards s left join sluice.ledger_batches b using (stream, partition) where s.stream = 'timed'
   group by s.stream, s.partition`,
)

export interface Accounts {
  /** Ticks of the items that never changed, from the beginning of their shards up to the committed offsets. */
  readonly ticks: number
  readonly written: number
  readonly missed: number
  readonly folded: number
  readonly overlaps: readonly string[]
  /** By item, in order: the times of its records. */
  readonly scheduled: ReadonlyMap<string, readonly number[]>
}

/** What became of the ticks of `items`, which are all there ever were. At rest. */
export async function accountsOf(db: Database, items: readonly TestItem[], shardsOf = 4): Promise<Accounts> {
  const shards = await db.query(shardsStatement)
  const written = await db.query(writtenStatement)
  const scheduled = new Map<string, number[]>()
  for (const { item, scheduledAt } of written)
    scheduled.set(
      item,
      [...(scheduled.get(item) ?? []), Date.parse(scheduledAt)].sort((a, b) => a - b),
    )
  let ticks = 0
  for (const { id, every_ms } of items) {
    const shard = shards.find(({ partition }) => partition === stableHash(id) % shardsOf)
    if (shard?.first == null) continue
    const { first, offset } = shard
    const place = placeOf(id)
    for (
      let at = tickFrom(phaseOf(id, every_ms), every_ms, timeOfOffset(first));
      timeOfOffset(offset) >= at;
      at += every_ms
    )
      if (offsetOf(at, place) >= first && offsetOf(at, place) < offset) ticks += 1
  }
  return {
    ticks,
    written: written.length,
    missed: shards.reduce((sum, { missed }) => sum + missed, 0),
    folded: shards.reduce((sum, { folded }) => sum + folded, 0),
    overlaps: (await db.query(overlapsStatement)).map(({ item }) => item),
    scheduled,
  }
}
