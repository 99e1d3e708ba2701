/**
 * A topic of Kafka as the source of a stream.
 *
 * 1. Which process reads a partition is decided by the lease of its shard alone, and from where by the offset that the
 *    shard has committed in the database; Kafka's groups decide nothing here.
 * 2. A reader fetches in the background, on a connection of its own, with one long poll at a time, while less than
 *    `prefetchBytes` are read ahead; it wakes the shard when there is something after nothing.
 * 3. While the brokers do not answer it gives nothing and tries again, from 0.1 s to 5 s apart: the shard rests.
 * 4. An offset that Kafka no longer has, since retention was quicker, is passed: the records between are lost, and told. One that
 *    it does not have yet, since the topic was made anew, ends the reader: whoever composes it sets the shard back first.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Consumer } from '@platformatic/kafka'
import { SluiceError } from '../../errors.ts'
import type { ReadLimits, Source, SourceBatch, SourceReader, SourceRecord } from '../../ports/source.ts'
import type { KafkaClient, TopicShape } from './client.ts'
import { isKafkaError, kafkaFault } from './faults.ts'
import { recordsFrom, sourceRecordOf } from './record.ts'

/** Of one partition in one answer of a broker. */
const fetchBytes = 1_048_576
/** UTF-8 bytes of values that one reader holds before it fetches more; what one fetch gives comes on top. */
const prefetchBytes = 2_097_152
/** How long a broker may wait for records. */
const longPollMs = 1_000
const slowestRetryMs = 5_000

type FetchResponse = Awaited<ReturnType<Consumer['fetch']>>

export interface OffsetGap {
  readonly partition: number
  /** What was to be read. */
  readonly from: number
  /** Where it goes on: the first offset that is kept. */
  readonly to: number
}

export interface SourceEvents {
  /** The brokers do not answer (once per outage), or do again: undefined. */
  unreachable?(partition: number, fault: SluiceError | undefined): void
  /** Offsets are gone. Where `to` is below `from`, the shard is to be set back. */
  gap?(gap: OffsetGap): Promise<void>
  /** One above the last offset there, as far as is known. */
  end?(partition: number, offset: number): void
}

export function kafkaSource(client: KafkaClient, topic: string, events: SourceEvents = {}): Source {
  return { open: (partition, from, wake) => new PartitionReader(client, topic, partition, from, wake, events) }
}

class PartitionReader implements SourceReader {
  readonly #client: KafkaClient
  readonly #topic: string
  readonly #partition: number
  readonly #wake: () => void
  readonly #events: SourceEvents
  #consumer: Consumer | undefined
  #shape: TopicShape | undefined
  #queue: SourceRecord[] = []
  /** The first of the queue that was not given out. */
  #head = 0
  #bytes = 0
  /** Where the next read goes on, and where the next fetch does. */
  #position: number
  #fetchFrom: number
  /** The last read gave nothing. */
  #thirsty = true
  #room: (() => void) | undefined
  #closed = new AbortController()
  #fault: SluiceError | undefined

  constructor(
    client: KafkaClient,
    topic: string,
    partition: number,
    from: number,
    wake: () => void,
    events: SourceEvents,
  ) {
    this.#client = client
    this.#topic = topic
    this.#partition = partition
    this.#wake = wake
    this.#events = events
    this.#position = from
    this.#fetchFrom = from
    void this.#fetchOn()
  }

  async read(from: number, limits: ReadLimits): Promise<SourceBatch> {
    if (this.#fault !== undefined) throw this.#fault
    if (from !== this.#position) this.#seek(from)
    const records: SourceRecord[] = []
    let bytes = 0
    for (let index = this.#head; index < this.#queue.length && records.length < limits.records; index += 1) {
      const record = this.#queue[index]!
      const size = Buffer.byteLength(record.value)
      if (records.length > 0 && bytes + size > limits.bytes) break
      bytes += size
      records.push(record)
    }
    this.#head += records.length
    this.#bytes -= bytes
    const empty = this.#head === this.#queue.length
    if (empty) {
      this.#queue = []
      this.#head = 0
    }
    this.#position = empty ? this.#fetchFrom : records.at(-1)!.offset + 1
    this.#thirsty = empty
    if (this.#bytes < prefetchBytes) this.#room?.()
    return { records, next: this.#position }
  }

  /** Nothing of what was read ahead is meant. */
  #seek(from: number): void {
    this.#queue = []
    this.#head = 0
    this.#bytes = 0
    this.#position = from
    this.#fetchFrom = from
  }

  async close(): Promise<void> {
    this.#closed.abort()
    this.#room?.()
    // A request that brokers do not answer holds up nobody.
    if (this.#consumer !== undefined) await this.#client.closeConsumer(this.#consumer)
  }

  async #fetchOn(): Promise<void> {
    let waitMs = 0
    while (!this.#closed.signal.aborted) {
      if (this.#bytes >= prefetchBytes) {
        await new Promise<void>((resolve) => {
          this.#room = resolve
        })
        this.#room = undefined
        continue
      }
      try {
        await this.#fetch()
        if (waitMs > 0) this.#events.unreachable?.(this.#partition, undefined)
        waitMs = 0
      } catch (thrown) {
        if (this.#closed.signal.aborted) return
        if (await this.#outOfRange(thrown)) continue
        if (this.#fault !== undefined) return this.#wake()
        if (waitMs === 0) {
          const fault = kafkaFault(`${this.#topic}/${this.#partition} cannot be read`, thrown)
          this.#events.unreachable?.(this.#partition, fault)
        }
        await this.#reconnect()
        waitMs = Math.min(slowestRetryMs, Math.max(100, waitMs * 2))
        await delay(waitMs, undefined, { signal: this.#closed.signal }).catch(() => {})
      }
    }
  }

  async #fetch(): Promise<void> {
    const from = this.#fetchFrom
    this.#consumer ??= this.#client.consumer(this.#topic)
    this.#shape ??= await this.#client.shapeOf(this.#topic)
    const node = this.#shape?.leaders[this.#partition]
    if (this.#shape === undefined || node === undefined || node < 0)
      throw new SluiceError('UNAVAILABLE', `Kafka has no ${this.#topic}/${this.#partition} at the moment`)
    const wanted = {
      partition: this.#partition,
      currentLeaderEpoch: -1,
      fetchOffset: BigInt(from),
      lastFetchedEpoch: -1,
    }
    const answer = await this.#consumer.fetch({
      node,
      topics: [{ topicId: this.#shape.id, partitions: [{ ...wanted, partitionMaxBytes: fetchBytes }] }],
      maxWaitTime: longPollMs,
      minBytes: 1,
      maxBytes: fetchBytes,
      isolationLevel: 1,
    })
    if (from === this.#fetchFrom && !this.#closed.signal.aborted) this.#take(from, answer)
  }

  #take(from: number, answer: FetchResponse): void {
    const found = answer.responses.flatMap(({ partitions }) => partitions)
    for (const { partitionIndex, records: batches, abortedTransactions, lastStableOffset } of found) {
      if (partitionIndex !== this.#partition) continue
      this.#events.end?.(this.#partition, Number(lastStableOffset))
      const { records, next } = recordsFrom(from, batches ?? [], abortedTransactions ?? [])
      if (next === from) continue
      for (const placed of records) {
        const record = sourceRecordOf(this.#topic, this.#partition, placed)
        this.#queue.push(record)
        this.#bytes += placed.record.value?.length ?? 0
      }
      this.#fetchFrom = next
      if (this.#thirsty) {
        this.#thirsty = false
        this.#wake()
      }
    }
  }

  /** Whether it goes on elsewhere. */
  async #outOfRange(thrown: unknown): Promise<boolean> {
    if (!isKafkaError(thrown, 'OFFSET_OUT_OF_RANGE')) return false
    try {
      const from = this.#fetchFrom
      const to = (await this.#client.beginningsOf(this.#topic))[this.#partition]!
      await this.#events.gap?.({ partition: this.#partition, from, to })
      if (to > from) {
        this.#fetchFrom = to
        // The shard is told where it stands by a read that gives nothing but a higher position.
        if (this.#thirsty) this.#wake()
        return true
      }
      const text = `${this.#topic}/${this.#partition} has no offset ${from}: it goes on with the first that is there, ${to}`
      this.#fault = new SluiceError('CONFLICT', text)
      return false
    } catch {
      return false
    }
  }

  async #reconnect(): Promise<void> {
    this.#shape = undefined
    const consumer = this.#consumer
    this.#consumer = undefined
    if (consumer !== undefined) await this.#client.closeConsumer(consumer)
  }
}
