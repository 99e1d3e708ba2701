/**
 * Sends what is in the outbox to Kafka, exactly once: see `store/kafka-outbox.ts` for the rows, and
 * `connectors/kafka/transactions.ts` for what fences a node that was taken for dead.
 *
 * After a crash, or a failure that leaves it open whether a send took place, the topic is looked at from where it ended
 * before that send: what is there is not sent again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { KafkaClient } from '../../connectors/kafka/client.ts'
import type { OutMessage } from '../../connectors/kafka/ordered-producer.ts'
import { headersSince } from '../../connectors/kafka/read-back.ts'
import { outMessage } from '../../connectors/kafka/sink.ts'
import { TransactionalSender } from '../../connectors/kafka/transactions.ts'
import { messageOf } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import {
  type HeldSender,
  nextOut,
  noteSend,
  noteSent,
  type OutboxRow,
  outboxTopics,
  releaseSender,
  takeSender,
  topicPartitions,
} from '../../store/kafka-outbox.ts'
import { deadLetterSuffix, letterMessages, maxLetterBytes } from './letters.ts'

const outboxHeader = 'sluice-outbox-id'

export interface RelayParts {
  readonly db: Database
  readonly client: KafkaClient
  /** UUID of this process. */
  readonly node: string
  readonly leaseMs: number
  readonly report?: (message: string, fields: Record<string, unknown>) => void
  /** How often it looks for what no notification told; default 5,000. */
  readonly sweepMs?: number
}

interface Sending {
  readonly held: HeldSender
  readonly sender: TransactionalSender
  readonly partitions: number
}

export class Relay {
  readonly #parts: RelayParts
  readonly #sending = new Map<string, Sending>()
  readonly #ending = new AbortController()
  #silence: (() => Promise<void>) | undefined
  #woken: (() => void) | undefined
  #due = true
  #running: Promise<void> = Promise.resolve()
  #failing = false

  constructor(parts: RelayParts) {
    this.#parts = parts
  }

  async start(): Promise<void> {
    const wake = () => {
      this.#due = true
      this.#woken?.()
    }
    this.#silence = await this.#parts.db.listen('sluice_kafka_outbox', wake, wake)
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    const { sweepMs = 5_000, report } = this.#parts
    for (let waitMs = 0; !this.#ending.signal.aborted; ) {
      try {
        this.#due = false
        for (const topic of await outboxTopics(this.#parts.db)) await this.#empty(topic)
        if (this.#failing) report?.('the outbox is sent to Kafka again', {})
        this.#failing = false
        waitMs = 0
      } catch (thrown) {
        if (!this.#failing && !this.#ending.signal.aborted)
          report?.('the outbox could not be sent to Kafka', { error: messageOf(thrown) })
        this.#failing = true
        waitMs = Math.min(5_000, Math.max(100, waitMs * 2))
        await delay(waitMs, undefined, { signal: this.#ending.signal }).catch(() => {})
        continue
      }
      if (!this.#due) await this.#sleep(sweepMs)
    }
  }

  /** Until something is put into the outbox. */
  async #sleep(ms: number): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.#woken = resolve
    })
    const pause = new AbortController()
    await Promise.race([woken, delay(ms, undefined, { signal: pause.signal }).catch(() => {})])
    pause.abort()
    this.#woken = undefined
  }

  /** Sends all that there is for a topic, unless another node does. */
  async #empty(topic: string): Promise<void> {
    const { db, leaseMs } = this.#parts
    try {
      const sending = this.#sending.get(topic) ?? (await this.#take(topic))
      if (sending === undefined) return
      while (!this.#ending.signal.aborted) {
        const rows = await nextOut(db, topic)
        if (rows.length === 0) return
        const messages = await this.#messagesOf(topic, rows, sending.partitions)
        if (!(await noteSend(db, sending.held, await this.#parts.client.endsOf(topic), leaseMs))) break
        await sending.sender.send(messages)
        const ids = rows.map(({ id }) => id)
        if (!(await noteSent(db, sending.held, ids, leaseMs))) break
      }
      await this.#drop(topic)
    } catch (thrown) {
      await this.#drop(topic)
      throw thrown
    }
  }

  async #take(topic: string): Promise<Sending | undefined> {
    const { db, client, node, leaseMs } = this.#parts
    const held = await takeSender(db, topic, node, leaseMs)
    if (held === undefined) return undefined
    const letters = topic.endsWith(deadLetterSuffix)
    const source = letters ? topic.slice(0, -deadLetterSuffix.length) : topic
    const wanted =
      (letters ? (await client.shapeOf(source))?.leaders.length : undefined) ?? (await topicPartitions(db, source)) ?? 1
    const partitions = await client.ensureTopic(topic, wanted, letters ? maxLetterBytes : undefined)
    // From here on nobody else sends: what is found at the end of the topic is all that was.
    const sender = await TransactionalSender.begin(client, `sluice-outbox-${topic}`)
    const sending = { held, sender, partitions }
    this.#sending.set(topic, sending)
    if (held.ends === null) return sending
    const there = await headersSince(client, topic, held.ends, outboxHeader)
    const ids = [...there].filter((id) => /^\d{1,15}$/.test(id)).map(Number)
    if (await noteSent(db, held, ids, leaseMs)) return sending
    await this.#drop(topic)
    return undefined
  }

  async #messagesOf(topic: string, rows: readonly OutboxRow[], partitions: number): Promise<OutMessage[]> {
    const letters = await letterMessages(this.#parts.client, topic, rows, partitions)
    return rows.map((row): OutMessage => {
      const id = [outboxHeader, String(row.id)] as const
      const letter = letters.get(row.id)
      if (letter !== undefined) return { ...letter, headers: [...letter.headers, id] }
      return outMessage(topic, { id: row.recordId, key: row.key, value: row.value! }, partitions, [id])
    })
  }

  async #drop(topic: string): Promise<void> {
    const sending = this.#sending.get(topic)
    this.#sending.delete(topic)
    await sending?.sender.close()
  }

  /** Lets the send that is under way end. */
  async stop(): Promise<void> {
    this.#ending.abort()
    this.#woken?.()
    await this.#silence?.()
    await this.#running
    for (const [topic, { held }] of this.#sending) {
      await releaseSender(this.#parts.db, held).catch(() => {})
      await this.#drop(topic)
    }
  }
}
