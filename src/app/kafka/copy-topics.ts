/**
 * Copies topics of Kafka into the tables, for the plans that start runs for their records: those read tables.
 *
 * A batch and how far it goes are committed together, guarded by how far the copy was, so that any number of engines may copy:
 * whoever comes second commits nothing and goes on from where the first is. A topic is copied from what comes after its first
 * plan was seen, and since it is looked for every few seconds, from two such rounds before: not from before this process. What plans can do nothing with (no JSON, no value, an id or key that fits no index) is passed, and told.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { KafkaClient } from '../../connectors/kafka/client.ts'
import { kafkaSource } from '../../connectors/kafka/source.ts'
import { messageOf, SluiceError } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import type { SourceReader, SourceRecord } from '../../ports/source.ts'
import { beginCopy, moveCopy, plannedTopics } from '../../store/kafka-copies.ts'
import { append, checkRecords, type NewRecord } from '../../store/topics.ts'

export interface CopyParts {
  readonly db: Database
  readonly client: KafkaClient
  readonly report?: (message: string, fields: Record<string, unknown>) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** How often it asks which topics plans are about, and how many partitions those have; default 5,000. */
  readonly everyMs?: number
}

const batch = { records: 500, bytes: 4_194_304 }

export class TopicCopies {
  readonly #parts: CopyParts
  readonly #copies = new Map<string, Copy>()
  readonly #ending = new AbortController()
  #running: Promise<void> = Promise.resolve()
  readonly #begunAt: number
  #failing = false

  constructor(parts: CopyParts) {
    this.#parts = parts
    this.#begunAt = parts.now()
  }

  start(): void {
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    const { everyMs = 5_000, report } = this.#parts
    while (!this.#ending.signal.aborted) {
      try {
        await this.#look()
        this.#failing = false
      } catch (thrown) {
        if (!this.#failing) report?.('topics of Kafka could not be copied for plans', { error: messageOf(thrown) })
        this.#failing = true
      }
      await delay(everyMs, undefined, { signal: this.#ending.signal }).catch(() => {})
    }
  }

  async #look(): Promise<void> {
    const { db, client, now, everyMs = 5_000 } = this.#parts
    const topics = await plannedTopics(db)
    for (const { topic, partitions } of topics) {
      await client.ensureTopic(topic, partitions)
      const since = await client.offsetsSince(topic, Math.max(this.#begunAt, now() - 2 * everyMs))
      const begun = await beginCopy(db, topic, since)
      for (const partition of since.keys()) {
        const name = `${topic}:${partition}`
        if (this.#copies.has(name)) continue
        const copy = new Copy(this.#parts, topic, partition, begun.get(partition) ?? 0)
        this.#copies.set(name, copy)
        void copy.ended.then(() => this.#copies.delete(name))
      }
    }
    const wanted = new Set(topics.map(({ topic }) => topic))
    for (const copy of this.#copies.values()) if (!wanted.has(copy.topic)) void copy.stop()
  }

  async stop(): Promise<void> {
    this.#ending.abort()
    await this.#running
    await Promise.all([...this.#copies.values()].map((copy) => copy.stop()))
  }
}

/** One partition. It ends when it is stopped, fails, or another engine was quicker; then it is begun anew. */
class Copy {
  readonly topic: string
  readonly ended: Promise<void>
  readonly #parts: CopyParts
  readonly #partition: number
  readonly #reader: SourceReader
  #woken = Promise.withResolvers<void>()
  #stopped = false

  constructor(parts: CopyParts, topic: string, partition: number, from: number) {
    this.topic = topic
    this.#parts = parts
    this.#partition = partition
    this.#reader = kafkaSource(parts.client, topic).open(partition, from, () => this.#woken.resolve())
    this.ended = this.#run(from)
  }

  async #run(from: number): Promise<void> {
    try {
      for (let at = from; !this.#stopped; ) {
        this.#woken = Promise.withResolvers()
        const { records, next } = await this.#reader.read(at, batch)
        if (next > at) await this.#take(records, at, next)
        else if (!this.#stopped) await this.#woken.promise
        at = next
      }
    } catch (thrown) {
      const error = messageOf(thrown)
      if (!this.#stopped) this.#parts.report?.('a copy for plans begins anew', { topic: this.topic, error })
    } finally {
      await this.#reader.close()
    }
  }

  async #take(records: readonly SourceRecord[], from: number, to: number): Promise<void> {
    const fit = records.flatMap((record): NewRecord[] => (isRecord(record) ? [rowOf(record)] : []))
    const passed = records.length - fit.length
    if (passed > 0) this.#parts.report?.('records that no plan can take were passed', { topic: this.topic, passed })
    await this.#parts.db.transaction(async (session) => {
      const place = { topic: this.topic, partition: this.#partition, from, to }
      if (!(await moveCopy(session, place))) throw new SluiceError('FENCED', 'another engine copies it')
      if (fit.length > 0) await append(session, this.topic, fit)
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#woken.resolve()
    await this.ended
  }
}

const rowOf = ({ id, key, value }: SourceRecord): NewRecord => ({ id, key: key === '' ? null : key, value })

function isRecord(record: SourceRecord): boolean {
  if (record.fault !== undefined) return false
  try {
    JSON.parse(record.value)
    checkRecords([rowOf(record)])
    return true
  } catch {
    return false
  }
}
