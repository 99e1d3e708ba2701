/**
 * The streams of one process: takes its fair share of all shards, keeps their leases, and opens each.
 *
 * 1. Every third of a lease (and when a shard is given back) the process says that it lives, renews, gives back what is over
 *    its share (all shards by all living processes, rounded up), and takes what is free or lapsed.
 * 2. A shard that fails is given back; whoever comes first takes it again.
 * 3. Notifications wake shards at once; a slow sweep stands in for those that were lost.
 */
import { hostname } from 'node:os'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { Capabilities } from '../sdk/context.ts'
import type { Stream } from '../sdk/stream.ts'
import type { DocumentObjects } from '../store/document-bytes.ts'
import { documentSink } from '../store/document-sink.ts'
import { removeNodes } from '../store/nodes.ts'
import { acquire, beat, ensureShards, type HeldShard, release, renew, type ShardId } from '../store/shards.ts'
import { ensureTopic, topicSource } from '../store/topics.ts'
import { type Clock, systemClock } from '../time.ts'
import { Bell } from './bell.ts'
import type { ShardLimits } from './limits.ts'
import { Shard } from './shard.ts'

export interface StreamsOptions {
  /** A shard uses up to two connections at a time, one to read and one to commit. */
  readonly database: Database
  readonly streams: readonly Stream[]
  /** UUID of this process. */
  readonly node: string
  /** Where its process id means something; default the name of the machine. */
  readonly host?: string
  /** What the steps of a shard's records are given; `signal` is aborted when an attempt times out or is given up. */
  readonly capabilities: (signal: AbortSignal, shard: ShardId) => Capabilities
  readonly objects: DocumentObjects
  /** Numbers in [0, 1). */
  readonly random: () => number
  /** Masks secrets in the reasons and details that the ledger keeps; default as they are. */
  readonly redact?: (text: string) => string
  readonly clock?: Clock
  /** Default 10,000. */
  readonly leaseMs?: number
  /** How often shards look for what no notification told; default 5,000. */
  readonly sweepMs?: number
  readonly limits?: Partial<ShardLimits>
  /** Is told when a shard was given up, with the reason, and when leases could not be kept. */
  readonly report?: (message: string, fields: Record<string, unknown>) => void
}

export interface Streams {
  /** The shards that are held now. */
  held(): readonly ShardId[]
  /** Resolves when the shards that are held have ended everything that was published by now. */
  settled(): Promise<void>
  /** Lets what is in its steps end for up to `deadlineMs` (default 10,000), commits it and gives the shards back. */
  stop(deadlineMs?: number): Promise<void>
}

/** Starts the streams; their topics and shards are made if need be. @throws SluiceError DATABASE_UNREACHABLE, DEFINITION_INVALID */
export async function openStreams(options: StreamsOptions): Promise<Streams> {
  const { database, streams } = options
  for (const { name, options: definition } of streams) {
    await ensureTopic(database, definition.from.name, definition.from.partitions)
    await ensureShards(database, name, definition.from.name)
  }
  const opened = new StreamProcess(options)
  await opened.start()
  return opened
}

class StreamProcess implements Streams {
  readonly #options: StreamsOptions
  readonly #leaseMs: number
  readonly #streams: ReadonlyMap<string, Stream>
  readonly #shards = new Map<string, Shard>()
  /** One for each shard that is open or being given back. */
  readonly #giving = new Set<Promise<void>>()
  readonly #bell = new Bell()
  readonly #silence: (() => Promise<void>)[] = []
  readonly #timers: NodeJS.Timeout[] = []
  #keeping: Promise<void> = Promise.resolve()
  #stopping = false
  #stopped: Promise<void> | undefined

  constructor(options: StreamsOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? 10_000
    this.#streams = new Map(options.streams.map((stream) => [stream.name, stream]))
  }

  async start(): Promise<void> {
    const { database, sweepMs = 5_000 } = this.#options
    const all = () => {
      for (const shard of this.#shards.values()) shard.reload()
      this.#bell.ring()
    }
    const topic = (payload: string) => {
      for (const shard of this.#shards.values()) if (payload === nameOf(shard.id.topic, shard.id)) shard.wake()
    }
    this.#silence.push(
      await database.listen('sluice_topic', topic, all),
      await database.listen('sluice_stream', (payload) => this.#shards.get(payload)?.reload()),
      await database.listen('sluice_shards', () => this.#bell.ring()),
    )
    await this.#keep()
    this.#timers.push(
      setInterval(() => this.#bell.ring(), this.#leaseMs / 3),
      setInterval(() => {
        for (const shard of this.#shards.values()) shard.reload()
      }, sweepMs),
    )
    this.#keeping = this.#keepOn()
  }

  held(): readonly ShardId[] {
    return [...this.#shards.values()].map(({ id: { stream, partition } }) => ({ stream, partition }))
  }

  async settled(): Promise<void> {
    await Promise.all([...this.#shards.values()].map((shard) => shard.settled()))
  }

  stop(deadlineMs = 10_000): Promise<void> {
    this.#stopped ??= this.#stop(deadlineMs)
    return this.#stopped
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.#stopping = true
    this.#bell.ring()
    await this.#keeping
    const renewing = setInterval(() => void this.#renew().catch(() => {}), this.#leaseMs / 3)
    for (const silence of this.#silence) await silence()
    await Promise.all([...this.#shards.values()].map((shard) => shard.drain(deadlineMs)))
    for (const timer of [...this.#timers, renewing]) clearInterval(timer)
    await Promise.all([...this.#giving])
    await removeNodes(this.#options.database, [this.#options.node])
  }

  async #keepOn(): Promise<void> {
    while (!this.#stopping) {
      await this.#bell.heard()
      if (this.#stopping) return
      await this.#keep().catch((thrown: unknown) => {
        this.#report('the leases of shards could not be kept', { error: messageOf(thrown) })
      })
    }
  }

  async #keep(): Promise<void> {
    const { database, node, host = hostname() } = this.#options
    const streams = [...this.#streams.keys()]
    const share = await beat(database, {
      id: node,
      host,
      pid: process.pid,
      leaseMs: this.#leaseMs,
      streams,
    })
    await this.#renew()
    const over = this.#shards.size - share
    if (over > 0) {
      for (const shard of [...this.#shards.values()].slice(-over)) void shard.drain(this.#leaseMs)
    } else if (over < 0) {
      for (const held of await acquire(database, streams, node, this.#leaseMs, -over)) this.#open(held)
    }
  }

  async #renew(): Promise<void> {
    const { database, node } = this.#options
    const shards = [...this.#shards.values()]
    if (shards.length === 0) return
    const renewals = shards.map(({ id, inFlight, parked }) => ({ ...id, inFlight, parked }))
    const kept = new Set((await renew(database, node, this.#leaseMs, renewals)).map((id) => nameOf(id.stream, id)))
    for (const shard of shards) if (!kept.has(nameOf(shard.id.stream, shard.id))) shard.drop()
  }

  #open(held: HeldShard): void {
    const { database, objects, capabilities, random, redact, limits, clock = systemClock } = this.#options
    const stream = this.#streams.get(held.stream)!
    const { collection, key, merge } = stream.options.to
    const sink = documentSink({ collection, key, merge: merge as never, objects })
    const source = topicSource(held.topic)
    const shard = new Shard({
      ...{ database, stream, source, sink, random, redact, clock, shard: held },
      ...(limits === undefined ? {} : { limits }),
      capabilities: (signal) => capabilities(signal, held),
    })
    const name = nameOf(held.stream, held)
    this.#shards.set(name, shard)
    const giving = shard.closed.then((failure) => this.#giveBack(name, shard, failure))
    this.#giving.add(giving)
    void giving.finally(() => this.#giving.delete(giving))
  }

  async #giveBack(name: string, shard: Shard, failure: unknown): Promise<void> {
    if (this.#shards.get(name) === shard) this.#shards.delete(name)
    if (failure !== undefined) this.#report('a shard was given up', { shard: name, error: messageOf(failure) })
    // A lease that cannot be given back lapses.
    await release(this.#options.database, shard.id, shard.id.epoch).catch(() => {})
  }

  #report(message: string, fields: Record<string, unknown>): void {
    this.#options.report?.(message, fields)
  }
}

const nameOf = (of: string, { partition }: { readonly partition: number }): string => `${of}:${partition}`
