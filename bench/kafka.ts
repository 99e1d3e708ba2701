/**
 * A topic of Kafka into a table of PostgreSQL: a stream without steps of its own against a bare consumer of the same library
 * that parses, copies and keeps its offset in the same transaction. Same broker, records, batches and server, in turn.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { Consumer, stringDeserializers } from '@platformatic/kafka'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { KafkaTopics } from '../src/app/kafka/kafka-topics.ts'
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { KafkaClient } from '../src/connectors/kafka/client.ts'
import { OrderedProducer } from '../src/connectors/kafka/ordered-producer.ts'
import { outMessage } from '../src/connectors/kafka/sink.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { z } from '../src/sdk/schema.ts'
import { type Stream, stream } from '../src/sdk/stream.ts'
import { table as tableSink } from '../src/sdk/table.ts'
import { topic } from '../src/sdk/topic.ts'
import { migrate } from '../src/store/migrate.ts'
import { openStreams } from '../src/streams/streams.ts'
import { findKafka, isMissing } from '../test/services/found.ts'
import { Broker } from '../test/services/kafka.ts'
import { noObjects, plainCapabilities } from '../test/stream-world.ts'
import { format, median, type Report, spread, table } from './measure.ts'

const partitions = 2
const batch = 1_000
const result = z.object({ site: z.string(), at: z.string(), status: z.number(), ms: z.number(), region: z.string() })
const results = topic('results', { schema: result, key: ({ site }) => site, partitions })
const columns = ['site', 'at', 'status', 'ms', 'region'] as const

const makeTable = `
  create schema bench;
  create table bench.results (site text not null, at text not null, status int not null, ms float8 not null, region text not null);
  create table bench.offsets (partition int primary key, next_offset bigint not null);`
const committed = statement<{ sum: number }>(
  'bench.committed',
  'select coalesce(sum(committed_offset), 0)::bigint as sum from sluice.shards where stream = $1',
)
const counted = statement<{ count: number }>('bench.count', 'select count(*)::int as count from bench.results')

/** @throws Error when there is no broker to be had */
export async function benchKafka(rounds: number, records: number): Promise<Report> {
  const found = findKafka()
  if (isMissing(found)) throw new Error(`Kafka is not to be had: ${found.missing}`)
  const home = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const [broker, server] = await Promise.all([Broker.start(found, { heap: '1g' }), startEmbedded({ home })])
  const db = openDatabase({ url: server.url, applicationName: 'bench', max: 8 })
  const client = await KafkaClient.open({ brokers: [broker.brokers], replicas: 1 }, 'bench')
  const rates: Record<'bare' | 'stream', number[]> = { bare: [], stream: [] }
  try {
    await migrate(db)
    await db.script(makeTable)
    await client.ensureTopic(results.name, partitions)
    await produce(client, records)
    for (let round = 0; round <= rounds; round += 1) {
      const bare = await timed(db, records, () => runBare(broker.brokers, server.url, records))
      const own = await timed(db, records, () => runStream(client, db, records))
      // The first round warms the broker's and the server's memory and our code.
      if (round === 0) continue
      rates.bare.push(bare)
      rates.stream.push(own)
    }
  } finally {
    await client.close()
    await db.close()
    await Promise.all([broker.remove(), server.stop()])
    await rm(home, { recursive: true, force: true })
  }
  const ratio = median(rates.stream) / median(rates.bare)
  const row = (name: string, values: readonly number[]) => [
    name,
    spread(values),
    format(median(values) / median(rates.bare), 2),
  ]
  return {
    text: table(
      [`${format(records)} records of ${partitions} partitions into a table`, 'records/s', 'of the bare consumer'],
      [row('bare consumer and COPY, batches of 1,000', rates.bare), row('a stream', rates.stream)],
    ),
    figures: { records, rates, ratio },
  }
}

/** Records per second; the table holds them all at the end, once. */
async function timed(db: Database, records: number, work: () => Promise<number>): Promise<number> {
  await db.script('truncate bench.results, bench.offsets')
  const seconds = await work()
  const [row] = await db.query(counted, [])
  if (row!.count !== records) throw new Error(`${row!.count} rows, not ${records}`)
  return records / seconds
}

async function produce(client: KafkaClient, records: number): Promise<void> {
  const producer = new OrderedProducer(client)
  for (let from = 0; from < records; from += 10_000) {
    const some = Array.from({ length: Math.min(10_000, records - from) }, (_, index) => {
      const n = from + index
      const value = {
        site: `site-${n % 5_000}`,
        at: new Date(1_700_000_000_000 + n).toISOString(),
        status: 200,
        ms: (n % 977) / 10,
        region: 'eu',
      }
      return outMessage(results.name, { id: `${n}`, key: value.site, value: JSON.stringify(value) }, partitions)
    })
    await producer.send(some)
  }
  await producer.close()
}

/** From before the first connection until all is committed. */
async function runStream(client: KafkaClient, db: Database, records: number): Promise<number> {
  const name = `bench-${randomUUID()}`
  const sink = tableSink('bench.results', { schema: result })
  const definition: unknown = stream(name, {
    from: results,
    id: ({ site, at }) => [site, at],
    steps: (chain) => chain,
    to: sink,
  })
  const node = randomUUID()
  const begun = performance.now()
  const kafka = new KafkaTopics({ client, db, node })
  const streams = await openStreams({
    ...{ database: db, node, capabilities: plainCapabilities, random: Math.random },
    streams: [definition as Stream],
    adapters: streamAdapters({ db, objects: noObjects, kafka }),
  })
  while ((await db.query(committed, [name]))[0]!.sum < records) await delay(10)
  const seconds = (performance.now() - begun) / 1_000
  await streams.stop()
  await kafka.close()
  return seconds
}

async function runBare(brokers: string, url: string, records: number): Promise<number> {
  const begun = performance.now()
  const consumer = new Consumer({
    ...{ groupId: randomUUID(), clientId: 'bare', bootstrapBrokers: [brokers] },
    deserializers: stringDeserializers,
    maxBytes: 4_194_304,
    highWaterMark: 4 * batch,
  })
  const messages = await consumer.consume({ topics: [results.name], mode: 'earliest', autocommit: false })
  const connection = new pg.Client({ connectionString: url })
  await connection.connect()
  let lines: string[] = []
  let ends = new Map<number, bigint>()
  let count = 0
  for await (const { value, partition, offset } of messages) {
    const row = JSON.parse(value!) as Record<string, unknown>
    lines.push(`${columns.map((column) => String(row[column]).replaceAll(/[\\\n\r\t]/g, '\\$&')).join('\t')}\n`)
    ends.set(partition, offset + 1n)
    count += 1
    if (lines.length === batch || count === records) {
      await copy(connection, lines, ends)
      lines = []
      ends = new Map()
    }
    if (count === records) break
  }
  const seconds = (performance.now() - begun) / 1_000
  await messages.close()
  await consumer.close(true)
  await connection.end()
  return seconds
}

async function copy(connection: pg.Client, lines: readonly string[], ends: ReadonlyMap<number, bigint>): Promise<void> {
  await connection.query('begin')
  const sink = connection.query(copyFrom(`copy bench.results (${columns.join(', ')}) from stdin`))
  await pipeline([lines.join('')], sink)
  await connection.query(
    `insert into bench.offsets select * from unnest($1::int[], $2::bigint[])
     on conflict (partition) do update set next_offset = excluded.next_offset`,
    [[...ends.keys()], [...ends.values()]],
  )
  await connection.query('commit')
}
