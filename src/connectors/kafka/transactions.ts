/**
 * Sends that are whole or not at all, by one sender at a time: whoever begins under the same name later fences whoever
 * began before, and undoes what that had not ended.
 */
import type { Producer } from '@platformatic/kafka'
import type { KafkaClient } from './client.ts'
import { kafkaFault } from './faults.ts'
import { type OutMessage, requestsOf, toSend } from './ordered-producer.ts'

/** Whoever begins is nobody yet. The library says 0 and 0 by itself, which the broker takes for a producer that was fenced. */
const nobody = { producerId: -1n, producerEpoch: -1 }

export class TransactionalSender {
  readonly #client: KafkaClient
  readonly #producer: Producer
  #open: Awaited<ReturnType<Producer['beginTransaction']>> | undefined

  private constructor(client: KafkaClient, producer: Producer) {
    this.#client = client
    this.#producer = producer
  }

  /** When this resolves, nobody else sends under the name any more. @throws SluiceError UNAVAILABLE, CONFIGURATION */
  static async begin(client: KafkaClient, name: string): Promise<TransactionalSender> {
    const sender = new TransactionalSender(client, client.producer(name))
    try {
      sender.#open = await sender.#producer.beginTransaction(nobody)
      return sender
    } catch (thrown) {
      await sender.close()
      throw kafkaFault('a transaction cannot be begun', thrown)
    }
  }

  /** Whoever reads only what is committed sees all of it or nothing. After a failure it is not known which: `close` it. */
  async send(messages: readonly OutMessage[]): Promise<void> {
    try {
      this.#open ??= await this.#producer.beginTransaction(nobody)
      for (const request of requestsOf(messages)) await this.#open.send({ messages: request.map(toSend) })
      await this.#open.commit()
      this.#open = undefined
    } catch (thrown) {
      throw kafkaFault('records could not be written', thrown)
    }
  }

  async close(): Promise<void> {
    await this.#client.closeProducer(this.#producer)
  }
}
