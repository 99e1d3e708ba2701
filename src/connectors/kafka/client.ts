/**
 * The brokers of one cluster: makes the clients that talk to them, all with the same address, TLS and credentials.
 *
 * 1. No client of the library retries by itself: who uses it knows what a failure means (see `OrderedProducer`,
 *    `KafkaSource`), and a retry that is hidden could reorder.
 * 2. Topics are made by `ensureTopic` alone; no request makes one by the way.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Admin, Consumer, Producer } from '@platformatic/kafka'
import { SluiceError } from '../../errors.ts'
import { isKafkaError, kafkaFault } from './faults.ts'
import { type KafkaLibrary, loadKafka } from './library.ts'
import type { KafkaSettings } from './settings.ts'

const notLedYet = ['NOT_LEADER_OR_FOLLOWER', 'LEADER_NOT_AVAILABLE', 'UNKNOWN_TOPIC_OR_PARTITION']

/** How long a request may take, and a connection to be made. */
const timeouts = { connectTimeout: 5_000, requestTimeout: 30_000, timeout: 20_000 }

export interface TopicShape {
  readonly id: string
  /** The broker that leads each partition, by its number. */
  readonly leaders: readonly number[]
}

export class KafkaClient {
  readonly #library: KafkaLibrary
  readonly #settings: KafkaSettings
  readonly #name: string
  readonly #producers = new Set<Producer>()
  readonly #consumers = new Set<Consumer>()
  #admin: Admin | undefined
  #closed = false

  private constructor(library: KafkaLibrary, settings: KafkaSettings, name: string) {
    this.#library = library
    this.#settings = settings
    this.#name = name
  }

  /** Connects to nothing yet. @throws SluiceError CONFIGURATION when the library is not installed */
  static async open(settings: KafkaSettings, name: string): Promise<KafkaClient> {
    return new KafkaClient(await loadKafka(), settings, name.replaceAll(/\s+/g, '-'))
  }

  /** For messages: host:port of the brokers as configured. */
  get brokers(): string {
    return this.#settings.brokers.join(',')
  }

  get #options() {
    if (this.#closed) throw new SluiceError('UNAVAILABLE', 'Kafka: this client is closed')
    const { brokers, tls, sasl } = this.#settings
    const { serverName, ...pem } = tls ?? {}
    return {
      clientId: `sluice-${this.#name}`,
      bootstrapBrokers: [...brokers],
      ...timeouts,
      retries: 0,
      autocreateTopics: false,
      ...(tls === undefined ? {} : { tls: pem, tlsServerName: serverName ?? true }),
      ...(sasl === undefined ? {} : { sasl }),
    }
  }

  admin(): Admin {
    this.#admin ??= new this.#library.Admin(this.#options)
    return this.#admin
  }

  /** One for each partition that is read: a fetch that waits holds up its connection. */
  consumer(topic: string): Consumer {
    const consumer = new this.#library.Consumer({ ...this.#options, groupId: 'sluice', metadataMaxAge: 300_000 })
    consumer.topics.track(topic)
    this.#consumers.add(consumer)
    return consumer
  }

  async closeConsumer(consumer: Consumer): Promise<void> {
    this.#consumers.delete(consumer)
    await consumer.close(true).catch(() => {})
  }

  /** Idempotent: what arrives twice is written once, as long as the same producer sends it. */
  producer(transactionalId?: string): Producer {
    const producer = new this.#library.Producer({
      ...this.#options,
      idempotent: true,
      // The library reads 0 and 1 as no bound at all for such a producer.
      retries: 2,
      retryDelay: 200,
      ...(transactionalId === undefined ? {} : { transactionalId }),
    })
    this.#producers.add(producer)
    return producer
  }

  async closeProducer(producer: Producer): Promise<void> {
    this.#producers.delete(producer)
    await producer.close(true).catch(() => {})
  }

  /** Resolves when a broker answers. @throws SluiceError UNAVAILABLE, CONFIGURATION */
  async answers(): Promise<void> {
    try {
      await this.admin().metadata({ topics: [], forceUpdate: true })
    } catch (thrown) {
      throw kafkaFault('the brokers do not answer', thrown)
    }
  }

  /** Undefined when there is no such topic. @throws SluiceError UNAVAILABLE, CONFIGURATION */
  async shapeOf(topic: string): Promise<TopicShape | undefined> {
    try {
      const { topics } = await this.admin().metadata({ topics: [topic], forceUpdate: true })
      const found = topics.get(topic)
      return found && { id: found.id, leaders: found.partitions.map(({ leader }) => leader) }
    } catch (thrown) {
      if (isUnknownTopic(thrown)) return undefined
      throw kafkaFault(`the topic ${topic} cannot be looked up`, thrown)
    }
  }

  /**
   * Makes the topic, which takes batches of up to `maxBytes` (default 2 MiB), or adds partitions to it; it never loses any. Gives
   * the number it has, which may be more.
   * @throws SluiceError UNAVAILABLE, CONFIGURATION (not allowed, or the name is none for Kafka)
   */
  async ensureTopic(topic: string, partitions: number, maxBytes = 2_097_152): Promise<number> {
    const found = await this.shapeOf(topic)
    try {
      if (found === undefined) {
        await this.admin()
          .createTopics({
            topics: [topic],
            partitions,
            replicas: this.#settings.replicas,
            configs: [{ name: 'max.message.bytes', value: String(maxBytes) }],
          })
          .catch(unless('TOPIC_ALREADY_EXISTS'))
        return Math.max(partitions, (await this.shapeOf(topic))?.leaders.length ?? partitions)
      }
      if (found.leaders.length < partitions) {
        // Null: the brokers place them. The library passes it on, though its type does not say so.
        const assignments = null as unknown as []
        await this.admin()
          .createPartitions({ topics: [{ name: topic, count: partitions, assignments }] })
          .catch(unless('INVALID_PARTITIONS'))
      }
      return Math.max(partitions, found.leaders.length)
    } catch (thrown) {
      throw kafkaFault(`the topic ${topic} cannot be made with ${partitions} partitions`, thrown)
    }
  }

  /** One above the last offset that is committed, of each partition. @throws SluiceError */
  endsOf(topic: string): Promise<number[]> {
    return this.#offsetsOf(topic, -1n)
  }

  /** The first offset that is kept, of each partition. @throws SluiceError */
  beginningsOf(topic: string): Promise<number[]> {
    return this.#offsetsOf(topic, -2n)
  }

  /** The first offset with a record of that time (milliseconds since the epoch) or later, else the end. @throws SluiceError */
  async offsetsSince(topic: string, time: number): Promise<number[]> {
    const [ends, since] = await Promise.all([this.endsOf(topic), this.#offsetsOf(topic, BigInt(Math.floor(time)))])
    return ends.map((end, partition) => {
      const found = since[partition] ?? -1
      return found < 0 ? end : found
    })
  }

  /** A topic that was made a moment ago may not be led yet. */
  async #offsetsOf(topic: string, timestamp: bigint, tries = 20): Promise<number[]> {
    const shape = await this.shapeOf(topic)
    if (shape === undefined) throw new SluiceError('UNAVAILABLE', `Kafka: there is no topic ${topic}`)
    try {
      const partitions = shape.leaders.map((_, partitionIndex) => ({ partitionIndex, timestamp }))
      const isolationLevel = this.#library.FetchIsolationLevels.READ_COMMITTED
      const [listed] = await this.admin().listOffsets({ topics: [{ name: topic, partitions }], isolationLevel })
      const offsets: number[] = []
      for (const { partitionIndex, offset } of listed?.partitions ?? []) offsets[partitionIndex] = Number(offset)
      return offsets
    } catch (thrown) {
      if (tries > 0 && isKafkaError(thrown, ...notLedYet)) {
        await delay(100)
        return this.#offsetsOf(topic, timestamp, tries - 1)
      }
      throw kafkaFault(`the offsets of ${topic} cannot be listed`, thrown)
    }
  }

  /** Tells Kafka's own tools how far a stream is; no part of Sluice reads it. @throws SluiceError */
  async noteGroupOffsets(groupId: string, topic: string, offsets: ReadonlyMap<number, number>): Promise<void> {
    const partitionOffsets = [...offsets].map(([partition, offset]) => ({ partition, offset: BigInt(offset) }))
    try {
      await this.admin().alterConsumerGroupOffsets({ groupId, topics: [{ name: topic, partitionOffsets }] })
    } catch (thrown) {
      throw kafkaFault(`the offsets of the group ${groupId} cannot be noted`, thrown)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#consumers].map((consumer) => this.closeConsumer(consumer)))
    await Promise.all([...this.#producers].map((producer) => this.closeProducer(producer)))
    await this.#admin?.close().catch(() => {})
  }
}

/** The library hides the answer of the broker behind a text of its own. */
const isUnknownTopic = (thrown: unknown): boolean =>
  isKafkaError(thrown, 'UNKNOWN_TOPIC_OR_PARTITION') ||
  (thrown instanceof Error && thrown.message.startsWith('Unknown topic'))

const unless =
  (id: string) =>
  (thrown: unknown): void => {
    if (!isKafkaError(thrown, id)) throw thrown
  }
