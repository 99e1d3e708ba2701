/**
 * The streams of one process: takes its fair share of their shards, keeps their leases, and opens each.
 *
 * 1. Every third of a lease, 4 s at most (and when a shard is given back) the process says that it lives, renews, gives back what
 *    is over its share (the shards of a stream by the processes that run it; see `sharesOf`), and takes what is free or lapsed.
 * 2. A shard that fails is given back; whoever comes first takes it again. What could not be given back, since the database
 *    was gone, the process takes again itself as soon as there is one. One that fails again within a minute rests, up to 5 s.
 * 3. Notifications wake shards at once; a slow sweep stands in for those that were lost.
 * 4. What operators ask (`stream-controls`) is read at each beat, and they ring for one: the shards of a paused stream are
 *    given back and not taken, those of a draining one read nothing more.
 * 5. A process that stops counts no more for the shares of others, who take each of its shards as soon as it is given back.
 */
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { leaseTimes } from '../core/lease.ts'
import { messageOf, SluiceError } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import type { Sink } from '../ports/sink.ts'
import type { Source } from '../ports/source.ts'
import type { Capabilities } from '../sdk/context.ts'
import type { Stream } from '../sdk/stream.ts'
import { removeNodes } from '../store/nodes.ts'
import {
  acquire,
  beat,
  ensureShards,
  type HeldShard,
  release,
  renew,
  type ShardId,
  streamProducers,
} from '../store/shards.ts'
import { type StreamControl, streamControls } from '../store/stream-controls.ts'
import { type Clock, systemClock } from '../time.ts'
import { Bell } from './bell.ts'
import type { ShardLimits } from './limits.ts'
import { Shard } from './shard.ts'
import { type Share, sharesOf, surplusOf } from './shares.ts'

export interface StreamsOptions {
  /** A shard uses up to two connections at a time, one to read and one to commit. */
  readonly database: Database
  /** A connection for the leases alone, whose limits are `leaseTimes(leaseMs).answerMs`; default `database`. */
  readonly heartbeat?: Session
  /** Fails what waits on the connections, since the database seems not to answer. */
  readonly abandonConnections?: () => void
  readonly streams: readonly Stream[]
  /** UUID of this process. */
  readonly node: string
  /** Where its process id means something; default the name of the machine. */
  readonly host?: string
  /** What the steps of a shard's records are given; `signal` is aborted when an attempt times out or is given up. */
  readonly capabilities: (signal: AbortSignal, shard: ShardId) => Capabilities
  /** Where a stream's records come from and go to; see `StreamAdapters`. */
  readonly adapters: StreamAdapters
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

/** Chosen by whoever composes the process: what serves the sources and sinks that streams name. */
export interface StreamAdapters {
  /** Makes what the source needs to be there, such as its topic. */
  ensure(stream: Stream): Promise<SourcePlace>
  source(stream: Stream): Source
  /** Also of a stream that is fed by HTTP. */
  sink(stream: { readonly name: string; readonly options: Pick<Stream['options'], 'to'> }): Sink
}

/** What the shards of a stream read. */
export interface SourcePlace {
  /** Says whose offsets they are: a topic of the tables by its name, anything else as `<kind>:<name>`. It never changes. */
  readonly source: string
  readonly partitions: number
  /** Where shards begin that are new; default: with the oldest record of the topic, if it is in the tables, or 0. */
  readonly first?: number
}

export interface Streams {
  /** The shards that are held now. */
  held(): readonly ShardId[]
  /** Resolves when the shards that are held have ended everything that was published by now. */
  settled(): Promise<void>
  /** Lets what is in its steps end for up to `deadlineMs` (default 10,000), commits it and gives the shards back. */
  stop(deadlineMs?: number): Promise<void>
}

/**
 * Starts the streams; their topics and shards are made if need be. One whose definition does not fit what is there is left out
 * and reported. @throws SluiceError DATABASE_UNREACHABLE
 */
export async function openStreams(options: StreamsOptions): Promise<Streams> {
  const { database, adapters, report } = options
  const streams: Stream[] = []
  for (const stream of options.streams) {
    try {
      const { source, partitions, first } = await adapters.ensure(stream)
      await ensureShards(database, stream.name, source, partitions, first)
      streams.push(stream)
    } catch (thrown) {
      if (!(thrown instanceof SluiceError) || thrown.code !== 'DEFINITION_INVALID') throw thrown
      report?.('a stream is left out', { stream: stream.name, error: failureText(thrown) })
    }
  }
  const opened = new StreamProcess({ ...options, streams })
  await opened.start()
  return opened
}

class StreamProcess implements Streams {
  readonly #options: StreamsOptions
  readonly #leaseMs: number
  readonly #lookMs: number
  readonly #streams: ReadonlyMap<string, Stream>
  /** Items that a process takes, of the streams that say it. */
  readonly #perProducer: ReadonlyMap<string, number>
  readonly #shards = new Map<string, Shard>()
  /** What operators asked of streams, as of the last beat. */
  #controls: ReadonlyMap<string, StreamControl> = new Map()
  /** One for each shard that is open or being given back. */
  readonly #giving = new Set<Promise<void>>()
  readonly #bell = new Bell()
  readonly #silence: (() => Promise<void>)[] = []
  /** How often each shard failed of late. */
  readonly #failures = new Map<string, { count: number; at: number }>()
  readonly #ending = new AbortController()
  readonly #timers: NodeJS.Timeout[] = []
  #keeping: Promise<void> = Promise.resolve()
  #doubt: NodeJS.Timeout | undefined
  /** Its first failure is reported, the others of the same outage are not. */
  #failing = false
  #stopping = false
  #stopped: Promise<void> | undefined

  constructor(options: StreamsOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? 10_000
    this.#lookMs = Math.min(this.#leaseMs / 3, longestLookMs)
    this.#streams = new Map(options.streams.map((stream) => [stream.name, stream]))
    this.#perProducer = perProducerOf(options.streams)
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
      setInterval(() => this.#bell.ring(), this.#lookMs),
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
    this.#ending.abort()
    this.#bell.ring()
    await this.#keeping
    const renewing = setInterval(() => void this.#renew().catch(() => {}), this.#leaseMs / 3)
    // Where the database is gone, the lease lapses.
    await this.#beat([]).catch(() => {})
    for (const silence of this.#silence) await silence()
    await Promise.all([...this.#shards.values()].map((shard) => shard.drain(deadlineMs)))
    for (const timer of [...this.#timers, renewing]) clearInterval(timer)
    clearTimeout(this.#doubt)
    await Promise.all([...this.#giving])
    await removeNodes(this.#options.database, [this.#options.node])
  }

  async #keepOn(): Promise<void> {
    while (!this.#stopping) {
      await this.#bell.heard()
      if (this.#stopping) return
      try {
        await this.#keep()
        this.#failing = false
      } catch (thrown) {
        if (!this.#failing) this.#report('the leases of shards could not be kept', { error: messageOf(thrown) })
        this.#failing = true
        setTimeout(() => this.#bell.ring(), leaseTimes(this.#leaseMs).tryAgainMs)
      }
    }
  }

  async #keep(): Promise<void> {
    const { database, heartbeat = database, node } = this.#options
    const names = [...this.#streams.keys()]
    const controls = await streamControls(heartbeat, names)
    const modeOf = (name: string) => controls.get(name)?.mode
    await this.#beat(names)
    const shared = await streamProducers(
      heartbeat,
      names.filter((name) => modeOf(name) !== 'paused'),
    )
    this.#controls = controls
    for (const shard of this.#shards.values()) shard.hold(this.#holdingOf(shard.id.stream))
    await this.#renew()
    const running: Shard[] = []
    for (const shard of this.#shards.values()) {
      if (modeOf(shard.id.stream) === 'paused') void shard.drain(this.#leaseMs)
      else running.push(shard)
    }
    for (const share of sharesOf(node, shared, this.#perProducer)) {
      await this.#comeTo(
        share,
        running.filter(({ id }) => share.streams.includes(id.stream)),
      )
    }
  }

  /** Says that the process lives and may hold shards of these streams. */
  #beat(streams: readonly string[]): Promise<void> {
    const { database, heartbeat = database, node, host = hostname() } = this.#options
    return beat(heartbeat, { id: node, host, pid: process.pid, leaseMs: this.#leaseMs, streams })
  }

  /** The change of mode for which the stream reads nothing more. */
  #holdingOf(stream: string): number | undefined {
    const control = this.#controls.get(stream)
    return control?.mode === 'draining' ? control.change : undefined
  }

  /** Gives back what is over the share, or takes what is free. */
  async #comeTo({ streams, share }: Share, running: readonly Shard[]): Promise<void> {
    const { database, node } = this.#options
    const over = running.length - share
    if (over > 0) {
      for (const shard of surplusOf(running, over)) void shard.drain(this.#leaseMs)
    } else if (over < 0) {
      const askedAt = performance.now()
      const none = this.#shards.size === 0
      const known = [...this.#shards.values()].map(({ id }) => id)
      for (const held of await acquire(database, streams, node, this.#leaseMs, -over, known)) this.#open(held)
      if (none) this.#held(askedAt)
    }
  }

  async #renew(): Promise<void> {
    const { database, heartbeat = database, node } = this.#options
    const askedAt = performance.now()
    const shards = [...this.#shards.values()]
    if (shards.length === 0) return
    const renewals = shards.map(({ id, inFlight, parked, told }) => ({ ...id, inFlight, parked, ...told }))
    const kept = new Set((await renew(heartbeat, node, this.#leaseMs, renewals)).map((id) => nameOf(id.stream, id)))
    for (const shard of shards) {
      const name = nameOf(shard.id.stream, shard.id)
      if (kept.has(name)) continue
      const error = `FENCED: another holds it, not this process under epoch ${shard.id.epoch}`
      this.#report('the lease of a shard was lost', { shard: name, error })
      shard.drop()
    }
    this.#held(askedAt)
  }

  /** Every lease was granted that was asked for at this time: they last that long from then on. */
  #held(askedAt: number): void {
    clearTimeout(this.#doubt)
    const leftMs = askedAt + leaseTimes(this.#leaseMs).doubtAfterMs - performance.now()
    this.#doubt = setTimeout(() => this.#giveUpAll(), leftMs)
  }

  /** Others may take the shards soon: what is in their steps is ended before. */
  #giveUpAll(): void {
    if (this.#shards.size === 0) return
    this.#report('the leases of shards are in doubt: the shards are given up', { shards: this.#shards.size })
    for (const shard of this.#shards.values()) shard.drop()
    this.#options.abandonConnections?.()
  }

  #open(held: HeldShard): void {
    const { database, adapters, capabilities, random, redact, limits, clock = systemClock } = this.#options
    const stream = this.#streams.get(held.stream)!
    const shard = new Shard({
      ...{ database, stream, random, redact, clock, shard: held },
      ...{ source: adapters.source(stream), sink: adapters.sink(stream) },
      ...(limits === undefined ? {} : { limits }),
      capabilities: (signal) => capabilities(signal, held),
      holding: this.#holdingOf(held.stream),
    })
    const name = nameOf(held.stream, held)
    this.#shards.set(name, shard)
    const giving = shard.closed.then((failure) => this.#giveBack(name, shard, failure))
    this.#giving.add(giving)
    void giving.finally(() => this.#giving.delete(giving))
  }

  async #giveBack(name: string, shard: Shard, failure: unknown): Promise<void> {
    if (failure !== undefined) {
      this.#report('a shard was given up', { shard: name, error: failureText(failure) })
      // It stays ours meanwhile: what fails again and again would otherwise do so all the time, here or elsewhere.
      await delay(this.#restOf(name), undefined, { signal: this.#ending.signal }).catch(() => {})
    }
    if (this.#shards.get(name) === shard) this.#shards.delete(name)
    // What cannot be given back is taken again by ourselves, or lapses.
    await release(this.#options.database, shard.id, shard.id.epoch).catch(() => {})
    this.#bell.ring()
  }

  /** How long a shard that has just failed rests: not at all the first time within a minute, then 100 ms to 5 s. */
  #restOf(name: string): number {
    const now = performance.now()
    const before = this.#failures.get(name)
    const count = before === undefined || now - before.at > 60_000 ? 1 : before.count + 1
    this.#failures.set(name, { count, at: now })
    return count === 1 ? 0 : Math.min(5_000, 50 * 2 ** (count - 1))
  }

  #report(message: string, fields: Record<string, unknown>): void {
    this.#options.report?.(message, fields)
  }
}

/** Whatever the lease: what lapsed is taken within 5 s. */
const longestLookMs = 4_000

function perProducerOf(streams: readonly Stream[]): Map<string, number> {
  const limited = new Map<string, number>()
  for (const { name, options } of streams) {
    const { from } = options
    if (from.kind === 'timer' && from.perProducer !== undefined) limited.set(name, from.perProducer)
  }
  return limited
}

const failureText = (failure: unknown): string =>
  failure instanceof SluiceError ? `${failure.code}: ${failure.message}` : messageOf(failure)

const nameOf = (of: string, { partition }: { readonly partition: number }): string => `${of}:${partition}`
