/**
 * HTTP ingest of one process: a lane for each stream that is fed by HTTP.
 *
 * The process registers as a node and renews the leases of its lanes; a lease only tells others when they may take the
 * shard, the epoch is what fences.
 */
import { SluiceError } from '../../errors.ts'
import type { PipelinedDatabase, Session } from '../../ports/database.ts'
import type { IngestAnswer, IngestPoint, IngestRequest } from '../../ports/ingest.ts'
import type { Sink } from '../../ports/sink.ts'
import type { HttpStream } from '../../sdk/stream.ts'
import { addLane } from '../../store/ingest.ts'
import { registerNode, removeNodes, renewNode } from '../../store/nodes.ts'
import { acquire, type HeldShard, release, renew } from '../../store/shards.ts'
import { type StreamControl, streamControls } from '../../store/stream-controls.ts'
import { parseDuration } from '../../time.ts'
import { type Admit, admitTo } from './admit.ts'
import { type Arrived, Delivery } from './arrival.ts'
import { defaultLaneLimits, Lane, type LaneLimits } from './lane.ts'

export interface IngestOptions {
  /** A connection for each stream, whose limits bound how long a request waits when the server does not answer. */
  readonly database: PipelinedDatabase
  /** For leases alone. */
  readonly heartbeat: Session
  readonly streams: readonly HttpStream[]
  readonly sink: (stream: HttpStream) => Sink
  /** UUID of this process. */
  readonly node: string
  readonly host: string
  readonly pid: number
  readonly leaseMs: number
  /** For the events of a request that have none. */
  readonly newId: () => string
  readonly now: () => number
  readonly limits?: Partial<LaneLimits>
  readonly report: (message: string, fields: Record<string, unknown>) => void
}

export interface Ingest {
  readonly points: readonly IngestPoint[]
  /** Streams whose events are turned away now, though nobody asked for it. */
  closed(): readonly string[]
  /** Somebody may have paused a stream, or let one go on. */
  look(): Promise<void>
  /** Commits what has been taken, and gives the shards back. Call it when no request comes any more. */
  stop(): Promise<void>
}

/** Resolves when each lane has tried to take its shard; a database that is not there is no error. */
export async function openIngest(options: IngestOptions): Promise<Ingest> {
  const { database, heartbeat, streams, node, host, pid, leaseMs, report } = options
  const lanes = new Map<string, Lane>()
  const points: IngestPoint[] = []
  const identity = { id: node, kind: 'serving', host, pid, leaseMs } as const
  let registered = false
  /** Of streams that are paused, or drain: neither takes anything in. */
  let controls: ReadonlyMap<string, StreamControl> = new Map()
  const look = async () => {
    controls = await streamControls(
      heartbeat,
      streams.map(({ name }) => name),
    )
  }
  const register = async () => {
    if (registered && (await renewNode(heartbeat, node, leaseMs))) return
    await registerNode(heartbeat, identity)
    registered = true
  }
  for (const stream of streams) {
    const lane = new Lane({
      stream: stream.name,
      database,
      openSink: async () => {
        const sink = options.sink(stream)
        await sink.open?.()
        return sink
      },
      rememberMs: parseDuration(stream.options.from.rememberIds),
      limits: { ...defaultLaneLimits, ...options.limits },
      take: () => takeShard(database, { stream: stream.name, source: `http:${stream.name}`, node, leaseMs }),
      give: (shard) => release(database, shard, shard.epoch),
      report,
    })
    const rejected = (reason: string) => lane.reject(reason)
    const admit = admitTo({ stream, rejected })
    lanes.set(stream.name, lane)
    points.push({
      stream: stream.name,
      source: stream.options.from,
      take(request, answer) {
        const control = controls.get(stream.name)
        if (control !== undefined) answer(turnedAway(stream.name, control))
        else take(lane, admit, { made: options.newId(), at: options.now() }, request, answer)
      },
    })
  }
  const keep = async () => {
    await register()
    await look()
    const held = [...lanes.values()].flatMap((lane) => (lane.shard === undefined ? [] : [{ lane, shard: lane.shard }]))
    if (held.length === 0) return
    const asked = held.map(({ lane, shard }) => ({
      ...{ ...shard, inFlight: lane.inFlight, parked: 0 },
      // Since that change was seen, nothing is taken any more.
      drained: lane.inFlight === 0 ? controls.get(shard.stream)?.change : undefined,
    }))
    const kept = new Set((await renew(heartbeat, node, leaseMs, asked)).map(nameOf))
    for (const { lane, shard } of held) if (!kept.has(nameOf(shard)) && lane.shard?.epoch === shard.epoch) lane.lost()
  }
  if (streams.length > 0) await Promise.all([register(), look()]).catch(() => {})
  await Promise.all([...lanes.values()].map((lane) => lane.open()))
  let keeping: Promise<void> | undefined
  const timer = setInterval(() => {
    // A database that is gone is told by the lanes; the epoch holds without a lease.
    keeping ??= keep()
      .catch(() => {})
      .finally(() => {
        keeping = undefined
      })
  }, leaseMs / 3)
  if (streams.length === 0) clearInterval(timer)
  return {
    points,
    look: () => look().catch(() => {}),
    closed: () => [...lanes].flatMap(([name, lane]) => (lane.isOpen ? [] : [name])),
    async stop() {
      clearInterval(timer)
      await keeping
      await Promise.all([...lanes.values()].map((lane) => lane.close()))
      if (registered) await removeNodes(heartbeat, [node]).catch(() => {})
    },
  }
}

const turnedAway = (stream: string, { mode }: StreamControl) =>
  new SluiceError('UNAVAILABLE', `The stream ${stream} is ${mode}; send the events again later`, {
    retryAfterMs: 30_000,
  })

const nameOf = ({ stream, partition }: { stream: string; partition: number }) => `${stream}/${partition}`

interface LaneOwner {
  readonly stream: string
  readonly source: string
  readonly node: string
  readonly leaseMs: number
}

/** A shard that is free, or the next number. */
async function takeShard(database: Session, owner: LaneOwner): Promise<HeldShard> {
  for (;;) {
    const [free] = await acquire(database, [owner.stream], owner.node, owner.leaseMs, 1)
    const shard = free ?? (await addLane(database, owner))
    if (shard !== undefined) return shard
  }
}

function take(
  lane: Lane,
  admit: Admit,
  { made, at }: { readonly made: string; readonly at: number },
  { events, key, suspect, batch }: IngestRequest,
  answer: IngestAnswer,
): void {
  const { sink } = lane
  if (sink === undefined) {
    answer(lane.refusal())
    return
  }
  const arrived: (Arrived | Promise<Arrived>)[] = []
  let waits = false
  for (let index = 0; index < events.length; index += 1) {
    // Sent again under the same key, a batch brings the same events at the same places.
    const place = batch ? `#${index}` : ''
    const sent = {
      event: events[index],
      key: key === undefined ? undefined : key + place,
      made: made + place,
      at,
      suspect,
    }
    const one = admit(sink, sent)
    waits ||= one instanceof Promise
    arrived.push(one)
  }
  if (!waits) {
    lane.deliver(new Delivery(arrived as Arrived[], answer))
    return
  }
  Promise.all(arrived).then(
    (all) => lane.deliver(new Delivery(all, answer)),
    (cause) =>
      answer(new SluiceError('UNAVAILABLE', 'Bytes of an event could not be put away', { cause, retryAfterMs: 1_000 })),
  )
}
