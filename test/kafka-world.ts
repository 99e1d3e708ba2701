/** Streams on a real Kafka, over a database of their own: processes that come, leave and die, and an account of all that happened. */
import { randomUUID } from 'node:crypto'
import { KafkaTopics } from '../src/app/kafka/kafka-topics.ts'
import { Relay } from '../src/app/kafka/relay.ts'
import { streamAdapters } from '../src/app/stream-adapters.ts'
import { KafkaClient } from '../src/connectors/kafka/client.ts'
import { OrderedProducer, type OutMessage } from '../src/connectors/kafka/ordered-producer.ts'
import { recordsFrom } from '../src/connectors/kafka/record.ts'
import type { KafkaSettings } from '../src/connectors/kafka/settings.ts'
import { outMessage } from '../src/connectors/kafka/sink.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { z } from '../src/sdk/schema.ts'
import { documents, type Stream, stream } from '../src/sdk/stream.ts'
import { topic } from '../src/sdk/topic.ts'
import { totals } from '../src/store/ledger.ts'
import { openStreams, type Streams } from '../src/streams/streams.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { until } from './engine-world.ts'
import { noObjects, plainCapabilities } from './stream-world.ts'

/** A record of the streams here: each key's numbers ascend. */
export const line = z.object({ key: z.string(), n: z.number(), act: z.enum(['ok', 'die', 'reject']).optional() })
type Line = z.infer<typeof line>
interface Account {
  key: string
  lines: number[]
}

/** Documents by key, with the numbers in the order in which they were written: what is lost, doubled or out of order shows. */
export function accounts(name: string, partitions: number): Stream {
  const definition: unknown = stream(name, {
    from: topic(name, { schema: line, partitions }),
    id: ({ key, n }) => `${key}/${n}`,
    key: ({ key }) => key,
    retry: { attempts: 2, base: '1ms', max: '1ms' },
    steps: (records) =>
      records.step((record: Line, context): Account => {
        if (record.act === 'die') throw new Error('it dies')
        if (record.act === 'reject') context.reject('not wanted', 'as asked')
        return { key: record.key, lines: [record.n] }
      }),
    to: documents(name, {
      key: 'key',
      merge: (document: Account, record: Line): Account => ({ ...document, lines: [...document.lines, record.n] }),
    }),
  })
  return definition as Stream
}

/** From the topic of its name to the one with `-out`. */
export function passing(name: string, partitions: number): Stream {
  const definition: unknown = stream(name, {
    from: topic(name, { schema: line, partitions }),
    id: ({ key, n }) => `${key}/${n}`,
    steps: (records) => records.step((record: Line) => record),
    to: topic(`${name}-out`, { schema: line, key: ({ key }) => key, partitions }),
  })
  return definition as Stream
}

export interface Member {
  readonly streams: Streams
  readonly reports: string[]
  stop(): Promise<void>
  /** As kill -9: what is under way goes nowhere, and nothing is given back. */
  die(): Promise<void>
}

export interface JoinOptions {
  /** One that fails. */
  readonly database?: Database
  readonly leaseMs?: number
  /** As if no Kafka was configured. */
  readonly inTables?: boolean
}

export class KafkaWorld {
  readonly #test: TestDatabase
  readonly #members = new Set<Member>()
  readonly #relays = new Set<Relay>()
  readonly db: Database
  readonly client: KafkaClient
  readonly producer: OrderedProducer

  private constructor(test: TestDatabase, client: KafkaClient) {
    this.#test = test
    this.db = test.db
    this.client = client
    this.producer = new OrderedProducer(client)
  }

  static async open(settings: string | KafkaSettings): Promise<KafkaWorld> {
    const client = await KafkaClient.open(
      typeof settings === 'string' ? { brokers: [settings], replicas: 1 } : settings,
      'test',
    )
    return new KafkaWorld(await testDatabase({ max: 16 }), client)
  }

  async close(): Promise<void> {
    for (const member of this.#members) await member.stop()
    for (const relay of this.#relays) await relay.stop()
    await this.producer.close()
    await this.client.close()
    await this.#test.drop()
  }

  get options() {
    return this.#test.options
  }

  /** A process that runs streams. */
  async join(
    definitions: readonly Stream[],
    { database = this.db, leaseMs = 3_000, inTables = false }: JoinOptions = {},
  ): Promise<Member> {
    const node = randomUUID()
    const reports: string[] = []
    const report = (message: string, fields: Record<string, unknown>) =>
      void reports.push(`${message} ${JSON.stringify(fields)}`)
    const kafka = new KafkaTopics({ client: this.client, db: this.db, node, report, everyMs: 100 })
    let dead = false
    const mortal: Database = {
      ...database,
      transaction: (work) =>
        dead ? Promise.reject(new Error('this process is dead')) : database.transaction((session) => work(session)),
    }
    const streams = await openStreams({
      database: mortal,
      streams: definitions,
      node,
      capabilities: plainCapabilities,
      adapters: streamAdapters({ db: mortal, objects: noObjects, kafka: inTables ? undefined : kafka }),
      random: Math.random,
      leaseMs,
      sweepMs: 500,
      report,
    })
    const stop = async (deadlineMs?: number) => {
      this.#members.delete(member)
      await streams.stop(deadlineMs)
      await kafka.close()
    }
    const member: Member = {
      streams,
      reports,
      stop: () => stop(),
      async die() {
        dead = true
        await stop(0)
      },
    }
    this.#members.add(member)
    return member
  }

  async relay(client = this.client, db = this.db): Promise<Relay> {
    const relay = new Relay({ db, client, node: randomUUID(), leaseMs: 1_000, sweepMs: 200 })
    this.#relays.add(relay)
    await relay.start()
    return relay
  }

  /** Publishes lines under running ids, as anybody's producer would: without ids of ours. */
  async publish(name: string, partitions: number, lines: readonly Line[]): Promise<void> {
    await this.raw(
      lines.map((one) => ({
        ...outMessage(name, { id: '', key: one.key, value: JSON.stringify(one) }, partitions),
        headers: [],
      })),
    )
  }

  raw(messages: readonly OutMessage[]): Promise<void> {
    return this.producer.send(messages)
  }

  /** Everything that lies in a topic now, by partition and offset. */
  async read(name: string) {
    const ends = await this.client.endsOf(name)
    const { id } = (await this.client.shapeOf(name))!
    const found = []
    const consumer = this.client.consumer(name)
    for (const [partition, end] of ends.entries()) {
      for (let at = 0; at < end; ) {
        const wanted = { partition, currentLeaderEpoch: -1, fetchOffset: BigInt(at), lastFetchedEpoch: -1 }
        const { responses } = await consumer.fetch({
          node: 1,
          topics: [{ topicId: id, partitions: [{ ...wanted, partitionMaxBytes: 10_000_000 }] }],
          ...{ maxWaitTime: 100, minBytes: 1, maxBytes: 10_000_000, isolationLevel: 1 },
        })
        const got = responses[0]?.partitions[0]
        const { records, next } = recordsFrom(at, got?.records ?? [], got?.abortedTransactions ?? [])
        for (const { offset, timestamp, record } of records)
          found.push({
            partition,
            offset,
            timestamp: Number(timestamp),
            key: record.key?.toString() ?? null,
            value: record.value,
            headers: Object.fromEntries(record.headers.map(([name, value]) => [`${name}`, `${value}`])),
          })
        at = next
      }
    }
    await this.client.closeConsumer(consumer)
    return found
  }

  /** Waits until the stream has ended so many records. */
  async ended(name: string, count: number): Promise<void> {
    const show = async () => `${count} ends of ${name}, not ${JSON.stringify(await totals(this.db, name))}`
    await until(show, async () => {
      const sums = await totals(this.db, name)
      return sums.received - sums.waiting - sums.queued >= count && sums.waiting === 0
    })
  }

  /** By key, the numbers in the order in which they were written. */
  async accounts(name: string): Promise<Record<string, number[]>> {
    const rows = await this.db.query(accountsStatement, [name])
    return Object.fromEntries(rows.map(({ key, lines }) => [key, lines]))
  }
}

const accountsStatement = statement<{ key: string; lines: number[] }>(
  'test.accounts',
  `select key, body -> 'lines' as lines from sluice.documents where collection = $1 order by key`,
)
