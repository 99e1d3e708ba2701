/**
 * Topics of Kafka as sources and sinks of the streams of one process, and what goes on beside the shards.
 *
 * 1. The upkeep asks how many partitions topics have: those that are new become shards without a restart. It notes how
 *    far sources go, for the lag, and how old the first record is that was not passed, and tells Kafka the committed offsets of the group `sluice.<stream>`, for Kafka's own tools; no
 *    part of Sluice reads them there.
 * 2. Brokers that do not answer fail nothing but what needs them: readers wait, commits of sinks fail and are tried again by
 *    the shard's next holder, and topics that could not be made are made by a later round of the upkeep.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { KafkaClient } from '../../connectors/kafka/client.ts'
import { OrderedProducer } from '../../connectors/kafka/ordered-producer.ts'
import { publishedAt } from '../../connectors/kafka/read-back.ts'
import { kafkaSink, largerThanAllowed } from '../../connectors/kafka/sink.ts'
import { kafkaSource } from '../../connectors/kafka/source.ts'
import { messageOf, SluiceError } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import type { Sink } from '../../ports/sink.ts'
import type { Source } from '../../ports/source.ts'
import type { Topic } from '../../sdk/topic.ts'
import { putOut } from '../../store/kafka-outbox.ts'
import {
  agingKafkaShards,
  heldKafkaShards,
  kafkaPlace,
  noteGap,
  noteSourceEnds,
  noteSourceSince,
  unheldKafkaStreams,
} from '../../store/kafka-shards.ts'
import { ensureShards } from '../../store/shards.ts'
import { prepareRecord } from '../../store/topic-sink.ts'

export interface KafkaTopicsParts {
  readonly client: KafkaClient
  readonly db: Database
  /** UUID of this process: the shards that it holds are looked after. */
  readonly node: string
  /** Is told once when the brokers do not answer, and once when they do again; and of offsets that are gone. */
  readonly report?: ((message: string, fields: Record<string, unknown>) => void) | undefined
  /** Between two rounds of the upkeep; default 5,000. */
  readonly everyMs?: number
}

interface Reading {
  readonly stream: string
  readonly topic: Topic
  /** By partition: one above the last offset. */
  readonly ends: Map<number, number>
  partitions: number
}

export class KafkaTopics {
  readonly #parts: KafkaTopicsParts
  readonly #producer: OrderedProducer
  readonly #readings = new Map<string, Reading>()
  readonly #ending = new AbortController()
  readonly #silent = new Set<string>()
  #upkeep: Promise<void> | undefined
  /** What was told to the group last, by stream and partition. */
  readonly #told = new Map<string, number>()

  constructor(parts: KafkaTopicsParts) {
    this.#parts = parts
    this.#producer = new OrderedProducer(parts.client)
  }

  /** What the shards of a stream read. Brokers that are down, or refuse us, are told. */
  async ensure(stream: string, topic: Topic): Promise<{ source: string; partitions: number }> {
    const source = kafkaPlace(topic.name)
    const partitions = await this.#ensureTopic(topic)
    this.#readings.set(stream, { stream, topic, ends: new Map(), partitions })
    this.#upkeep ??= this.#keepUp()
    return { source, partitions }
  }

  async #ensureTopic({ name, partitions }: Topic): Promise<number> {
    try {
      const found = await this.#parts.client.ensureTopic(name, partitions)
      this.#answers(`topic ${name}`, undefined)
      return found
    } catch (thrown) {
      if (!(thrown instanceof SluiceError)) throw thrown
      this.#answers(`topic ${name}`, thrown)
      return partitions
    }
  }

  source(stream: string, { name }: Topic): Source {
    const { client, db, report } = this.#parts
    return kafkaSource(client, name, {
      unreachable: (partition, fault) => this.#answers(`${name}/${partition}`, fault),
      end: (partition, offset) => this.#readings.get(stream)?.ends.set(partition, offset),
      gap: async (gap) => {
        report?.('offsets of a topic are gone', { stream, topic: name, ...gap })
        // What was heard of its end was of the topic as it was before.
        this.#readings.get(stream)?.ends.delete(gap.partition)
        await noteGap(db, { stream, ...gap })
      },
    })
  }

  sink(topic: Topic): Sink {
    return kafkaSink({
      topic: topic.name,
      producer: this.#producer,
      partitions: () => this.#parts.client.ensureTopic(topic.name, topic.partitions),
      prepare: (row) => prepareRecord(topic, row),
    })
  }

  /** Why the brokers cannot be reached, as far as it was noticed. */
  get fault(): string | undefined {
    const [first] = this.#silent
    return first === undefined ? undefined : `${this.#parts.client.brokers} cannot be reached`
  }

  #answers(what: string, fault: SluiceError | undefined): void {
    const before = this.#silent.size
    if (fault === undefined) this.#silent.delete(what)
    else this.#silent.add(what)
    if (before === 0 && fault !== undefined) this.#parts.report?.('Kafka cannot be reached', { error: fault.message })
    if (before > 0 && this.#silent.size === 0) this.#parts.report?.('Kafka can be reached again', {})
  }

  async #keepUp(): Promise<void> {
    let failed = false
    const { everyMs = 5_000 } = this.#parts
    while (!this.#ending.signal.aborted) {
      await delay(everyMs, undefined, { signal: this.#ending.signal }).catch(() => {})
      if (this.#ending.signal.aborted) return
      try {
        await this.#round()
        failed = false
      } catch (thrown) {
        if (!failed && !this.#ending.signal.aborted)
          this.#parts.report?.('the upkeep of topics in Kafka failed', { error: messageOf(thrown) })
        failed = true
      }
    }
  }

  async #round(): Promise<void> {
    const { db, client, node } = this.#parts
    for (const reading of this.#readings.values()) {
      const partitions = await this.#ensureTopic(reading.topic)
      if (partitions > reading.partitions)
        await ensureShards(db, reading.stream, kafkaPlace(reading.topic.name), partitions)
      reading.partitions = partitions
    }
    const held = await heldKafkaShards(db, node)
    const ends = held.flatMap(({ stream, partition }) => {
      const end = this.#readings.get(stream)?.ends.get(partition)
      return end === undefined ? [] : [{ stream, partition, end }]
    })
    await noteSourceEnds(db, node, ends)
    if (this.#silent.size > 0) return
    for (const stream of await unheldKafkaStreams(db, [...this.#readings.keys()])) {
      const ends = await client.endsOf(this.#readings.get(stream)!.topic.name)
      await noteSourceEnds(
        db,
        null,
        ends.map((end, partition) => ({ stream, partition, end })),
      )
    }
    await this.#lookAtAges()
    for (const { stream, topic } of this.#readings.values()) {
      const committed = held.filter((shard) => shard.stream === stream)
      const news = committed.filter((shard) => this.#told.get(`${stream}:${shard.partition}`) !== shard.committedOffset)
      if (news.length === 0) continue
      const offsets = new Map(news.map(({ partition, committedOffset }) => [partition, committedOffset]))
      await client.noteGroupOffsets(`sluice.${stream}`, topic.name, offsets)
      for (const [partition, offset] of offsets) this.#told.set(`${stream}:${partition}`, offset)
    }
  }

  /** Only of what is behind: the brokers are asked for one batch each. */
  async #lookAtAges(): Promise<void> {
    const { db, client, node } = this.#parts
    const ages = []
    for (const { stream, partition, committedOffset, behind } of await agingKafkaShards(db, node, [
      ...this.#readings.keys(),
    ])) {
      const { name } = this.#readings.get(stream)!.topic
      const since = behind ? await publishedAt(client, name, partition, committedOffset) : undefined
      ages.push({ stream, partition, since: since ?? null })
    }
    await noteSourceSince(db, ages)
  }

  /** After the shards. */
  async close(): Promise<void> {
    this.#ending.abort()
    await this.#upkeep
    await this.#producer.close()
  }
}

/**
 * A topic as the sink of rows that must not wait for Kafka, those of HTTP sources: put into the outbox in the transaction, and
 * sent from there.
 */
export function outboxSink(topic: Topic): Sink {
  return {
    class: 'transactional',
    prepare(row) {
      const prepared = prepareRecord(topic, row)
      if ('reason' in prepared) return prepared
      const detail = largerThanAllowed({ key: prepared.key, value: prepared.body })
      return detail === undefined ? prepared : { reason: 'record too large', detail }
    },
    async write(session, _origin, items) {
      const rows = items.flatMap(({ recordId, target }) =>
        'repeats' in target ? [] : [{ id: recordId, key: target.key === '' ? null : target.key, value: target.body }],
      )
      await putOut(session, topic.name, rows)
      return items.map(({ target }) => ({ outcome: 'repeats' in target ? 'duplicate' : 'written' }))
    },
  }
}
