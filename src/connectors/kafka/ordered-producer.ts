/**
 * An idempotent producer that keeps order: one request is under way at a time, what is given meanwhile is the next, and when
 * one fails, all that was given behind it fails with it. A retry of the library repeats the same request under the same
 * sequence numbers, so that what the broker has already is not written again.
 */
import type { Producer } from '@platformatic/kafka'
import type { KafkaClient } from './client.ts'
import { kafkaFault } from './faults.ts'

export interface OutMessage {
  readonly topic: string
  readonly partition: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly (readonly [string, string | Buffer])[]
}

/** Key, value and headers of one message at most, so that it fits a batch of a broker with its usual settings (1 MiB). */
export const maxMessageBytes = 1_045_000
/** Of one partition in one request; a broker takes 1,048,588 bytes with its usual settings. */
const batchBytes = 900_000
/** Of one request. */
const requestBytes = 4_000_000

interface Given {
  readonly messages: readonly OutMessage[]
  resolve(): void
  reject(thrown: unknown): void
}

export const sizeOf = ({ key, value, headers }: Pick<OutMessage, 'key' | 'value' | 'headers'>): number =>
  headers.reduce(
    (sum, [name, text]) => sum + name.length + text.length + 4,
    (key?.length ?? 0) + (value?.length ?? 0) + 24,
  )

/** Splits what is to be sent, in order, into requests that a broker takes. */
export function requestsOf(messages: readonly OutMessage[]): OutMessage[][] {
  const requests: OutMessage[][] = []
  let open: OutMessage[] = []
  let total = 0
  let bytes = new Map<string, number>()
  for (const message of messages) {
    const place = `${message.topic}:${message.partition}`
    const size = sizeOf(message)
    const there = bytes.get(place) ?? 0
    if (open.length > 0 && (there + size > batchBytes || total + size > requestBytes)) {
      requests.push(open)
      open = []
      total = 0
      bytes = new Map()
    }
    open.push(message)
    total += size
    bytes.set(place, (bytes.get(place) ?? 0) + size)
  }
  if (open.length > 0) requests.push(open)
  return requests
}

export const toSend = ({ key, value, headers, ...place }: OutMessage) => ({
  ...place,
  ...(key === null ? {} : { key }),
  ...(value === null ? {} : { value }),
  headers: new Map(headers.map(([name, text]) => [Buffer.from(name), Buffer.from(text as string)])),
})

export class OrderedProducer {
  readonly #client: KafkaClient
  #producer: Producer | undefined
  #waiting: Given[] = []
  #sending: Promise<void> | undefined

  constructor(client: KafkaClient) {
    this.#client = client
  }

  /** Resolves when all brokers that are in sync have them. @throws SluiceError UNAVAILABLE, CONFIGURATION */
  send(messages: readonly OutMessage[]): Promise<void> {
    if (messages.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ messages, resolve, reject })
      this.#sending ??= this.#sendOn()
    })
  }

  async #sendOn(): Promise<void> {
    // What is given in one turn goes together.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      try {
        this.#producer ??= this.#client.producer()
        for (const request of requestsOf(group.flatMap(({ messages }) => messages)))
          await this.#producer.send({ messages: request.map(toSend), acks: -1 })
        for (const { resolve } of group) resolve()
      } catch (thrown) {
        const fault = kafkaFault('records could not be written', thrown)
        for (const { reject } of [...group, ...this.#waiting]) reject(fault)
        this.#waiting = []
        await this.#forget()
      }
    }
    // In the turn in which nothing waits any more: what is given after it begins anew.
    this.#sending = undefined
  }

  /** A producer whose request failed does not know what is written. */
  async #forget(): Promise<void> {
    const producer = this.#producer
    this.#producer = undefined
    if (producer !== undefined) await this.#client.closeProducer(producer)
  }

  async close(): Promise<void> {
    await this.#sending
    await this.#forget()
  }
}
