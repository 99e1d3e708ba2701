/**
 * Shards: one partition of a stream's topic each, with one holder at a time.
 *
 * 1. Acquiring raises the epoch; every commit names the epoch and moves the offset on from where the holder knows it.
 * 2. Renewing prolongs a lease also after it lapsed, while nobody else took the shard: the epoch alone is the fence.
 * 3. What a process holds by its rows and does not know of (the answer was lost, or it could not give it back) it takes
 *    again at once, under a new epoch.
 */
import type { SkippedTicks } from '../core/due-ticks.ts'
import type { Producer } from '../core/producers.ts'
import { timeOfOffset } from '../core/ticks.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import type { TimerFigures } from '../ports/source.ts'

export interface ShardId {
  readonly stream: string
  readonly partition: number
}

/** A shard in the hands of its holder. */
export interface HeldShard extends ShardId {
  readonly topic: string
  readonly epoch: number
  readonly committedOffset: number
}

const ensureStatement = statement(
  'shards.ensure',
  `
  insert into sluice.shards (stream, partition, topic, committed_offset)
  select $1, n, $2, coalesce($4, p.first_offset, 0)
  from generate_series(0, coalesce($3, (select partitions from sluice.topics where name = $2)) - 1) as n
  left join sluice.topic_partitions p on p.topic = $2 and p.partition = n
  on conflict do nothing`,
)

const otherStatement = statement<{ topic: string }>(
  'shards.other-source',
  'select topic from sluice.shards where stream = $1 and topic <> $2 limit 1',
)

/**
 * Makes the shards of a stream, one per partition of its source (default: those that the topic of that name has here); new
 * ones begin at `first`; by default with the oldest record that is kept here, or at 0.
 * @throws SluiceError DEFINITION_INVALID when its shards go by the offsets of another source: nothing is made then
 */
export async function ensureShards(
  session: Session,
  stream: string,
  topic: string,
  partitions?: number,
  first?: number,
): Promise<void> {
  const [other] = await session.query(otherStatement, [stream, topic])
  if (other !== undefined) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `The stream "${stream}" has read "${other.topic}", and is to read "${topic}" now, whose offsets mean something else; give it another name, under which it begins anew, or the source it had`,
    )
  }
  await session.execute(ensureStatement, [stream, topic, partitions ?? null, first ?? null])
}

const beatStatement = statement(
  'shards.beat',
  `
  insert into sluice.nodes (id, kind, host, pid, lease_until, streams)
  values ($1, 'shard', $2, $3, sluice.sluice_now() + $4 * interval '1 ms', $5)
  on conflict (id) do update
    set heartbeat_at = sluice.sluice_now(), lease_until = excluded.lease_until, streams = excluded.streams`,
)

export interface Beat {
  /** UUID of the process. */
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly leaseMs: number
  /** Those whose shards it may hold; none when it stops. */
  readonly streams: readonly string[]
}

/** Says that the process lives, and which streams it runs. */
export async function beat(session: Session, { id, host, pid, leaseMs, streams }: Beat): Promise<void> {
  await session.execute(beatStatement, [id, host, pid, leaseMs, streams])
}

/** What the shares of its shards follow from. */
export interface SharedStream {
  readonly stream: string
  readonly shards: number
  /** Of a timer; 0 of other sources. */
  readonly items: number
  /** The processes that run it, with the shards of it that they hold. */
  readonly living: readonly Producer[]
}

const producersStatement = statement<{
  stream: string
  shards: number
  items: number
  nodes: readonly string[]
  held: readonly number[]
}>(
  'shards.producers',
  `
  with own as (
    select stream, holder, items from sluice.shards where stream = any ($1::text[])
  ), streams as (
    select stream, count(*)::int as shards, coalesce(sum(items), 0)::int as items from own group by stream
  ), held as (
    select stream, holder, count(*)::int as held from own where holder is not null group by stream, holder
  )
  select s.stream, s.shards, s.items, array_agg(n.id order by n.id) as nodes,
    array_agg(coalesce(h.held, 0) order by n.id) as held
  from streams s
  join sluice.nodes n on s.stream = any (n.streams) and n.lease_until > sluice.sluice_now()
  left join held h on h.stream = s.stream and h.holder = n.id
  group by s.stream, s.shards, s.items
  order by s.stream`,
)

/** How many items and shards each of the streams has, and which of the processes that run it hold how many of them. */
export async function streamProducers(session: Session, streams: readonly string[]): Promise<SharedStream[]> {
  if (streams.length === 0) return []
  const rows = await session.query(producersStatement, [streams])
  return rows.map(({ nodes, held, ...row }) => ({
    ...row,
    living: nodes.map((node, index) => ({ node, held: held[index]! })),
  }))
}

const acquireStatement = statement<HeldShard>(
  'shards.acquire',
  `
  with free as (
    select stream, partition from sluice.shards
    where stream = any ($1::text[])
      and (
        holder is null
        or lease_until <= sluice.sluice_now()
        or (holder = $2 and (stream, partition) not in (select * from unnest($5::text[], $6::int[])))
      )
    -- Some of each stream, not all of the first.
    order by partition, stream
    limit $4
    for update skip locked
  )
  update sluice.shards s
  set holder = $2, epoch = s.epoch + 1, lease_until = sluice.sluice_now() + $3 * interval '1 ms', in_flight = 0, parked = 0,
    drained = null
  from free where s.stream = free.stream and s.partition = free.partition
  returning s.stream, s.partition, s.topic, s.epoch, s.committed_offset as "committedOffset"`,
)

/** Takes up to `limit` shards that are free, whose lease lapsed, or that are the node's own but for those it knows of. */
export function acquire(
  session: Session,
  streams: readonly string[],
  node: string,
  leaseMs: number,
  limit: number,
  known: readonly ShardId[] = [],
): Promise<HeldShard[]> {
  const [names, partitions] = [known.map(({ stream }) => stream), known.map(({ partition }) => partition)]
  return session.query(acquireStatement, [streams, node, leaseMs, limit, names, partitions])
}

const renewStatement = statement<ShardId>(
  'shards.renew',
  `
  with held as (
    select s.stream, s.partition, given.in_flight, given.parked, given.source_end, given.items, given.refused, given.failure,
      given.drained
    from sluice.shards s
    join unnest($2::text[], $3::int[], $4::bigint[], $5::int[], $6::int[], $8::bigint[], $9::int[], $10::int[], $11::text[],
      $12::bigint[]) as given (stream, partition, epoch, in_flight, parked, source_end, items, refused, failure, drained)
      on s.stream = given.stream and s.partition = given.partition and s.epoch = given.epoch
    where s.holder = $1
    order by s.stream, s.partition
    for update of s
  )
  update sluice.shards s
  set lease_until = sluice.sluice_now() + $7 * interval '1 ms', in_flight = held.in_flight, parked = held.parked,
    drained = held.drained, source_end = coalesce(held.source_end, s.source_end), items = coalesce(held.items, s.items),
    items_refused = coalesce(held.refused, s.items_refused),
    items_failure = case when held.items is null then s.items_failure else held.failure end
  from held where s.stream = held.stream and s.partition = held.partition
  returning s.stream, s.partition`,
)

export interface Renewal extends ShardId {
  readonly epoch: number
  readonly inFlight: number
  readonly parked: number
  /** What is known of its source, for figures. */
  readonly end?: number | undefined
  readonly figures?: TimerFigures | undefined
  /** The change to draining (see `streamControls`) under which nothing more is read, once all that was read is committed. */
  readonly drained?: number | undefined
}

/** Prolongs leases; gives the shards that are still held. Those left out have another holder. */
export function renew(session: Session, node: string, leaseMs: number, shards: readonly Renewal[]): Promise<ShardId[]> {
  return session.query(renewStatement, [
    node,
    shards.map((shard) => shard.stream),
    shards.map((shard) => shard.partition),
    shards.map((shard) => shard.epoch),
    shards.map((shard) => shard.inFlight),
    shards.map((shard) => shard.parked),
    leaseMs,
    shards.map((shard) => shard.end ?? null),
    shards.map((shard) => shard.figures?.items ?? null),
    shards.map((shard) => shard.figures?.refused ?? null),
    shards.map((shard) => shard.figures?.failure?.slice(0, 2_000).replaceAll('\0', '\uFFFD') ?? null),
    shards.map((shard) => shard.drained ?? null),
  ])
}

const releaseStatement = statement(
  'shards.release',
  `
  with released as (
    update sluice.shards set holder = null, lease_until = null, in_flight = 0, parked = 0
    where stream = $1 and partition = $2 and epoch = $3 and holder is not null
    returning 1
  )
  select pg_notify('sluice_shards', $1 || ':' || $2::text) from released`,
)

/** Gives the shard back, and wakes who may take it. Nothing happens when another holds it. */
export async function release(session: Session, { stream, partition }: ShardId, epoch: number): Promise<void> {
  await session.execute(releaseStatement, [stream, partition, epoch])
}

const releaseHeldStatement = statement(
  'shards.release-held',
  `
  with released as (
    update sluice.shards set holder = null, lease_until = null, in_flight = 0, parked = 0
    where holder = any ($1::uuid[])
    returning 1
  )
  select pg_notify('sluice_shards', '') from released limit 1`,
)

/** Frees whatever these nodes hold, since they are known to be dead, and wakes who may take it. */
export async function releaseHeldBy(session: Session, nodes: readonly string[]): Promise<void> {
  if (nodes.length > 0) await session.execute(releaseHeldStatement, [nodes])
}

const advanceStatement = statement<{ at: Date; now: number }>(
  'shards.advance',
  `
  update sluice.shards
  set committed_offset = $5, in_flight = $6, parked = $7, committed_at = greatest(sluice.sluice_now(), folded_through),
    ticks_missed = ticks_missed + $8, ticks_folded = ticks_folded + $9
  where stream = $1 and partition = $2 and epoch = $3 and committed_offset = $4 and holder is not null
  returning committed_at as at, extract(epoch from sluice.sluice_now())::float8 * 1000 as now`,
)

/** How far the clock of a process may be ahead of the database's where offsets are times. */
const aheadMs = 60_000

export interface Advance extends ShardId {
  readonly epoch: number
  readonly from: number
  readonly to: number
  readonly inFlight: number
  readonly parked: number
  /** Ticks of a timer between the two that became no record. */
  readonly skipped?: SkippedTicks
  /** Offsets are times (`core/ticks`): the shard's must not get ahead of them, since it would then stand still until they come. */
  readonly timed?: boolean
}

/**
 * The guard of a commit, and its lock, part of a transaction: moves the offset on. Gives the time that the rows of the commit bear.
 * @throws SluiceError FENCED when another took the shard, or the offset is not where the holder believes it is; CONFIGURATION
 *   when this machine's clock is ahead of the database's by more than a minute, and offsets are times.
 */
export async function advance(session: Session, move: Advance): Promise<Date> {
  const { stream, partition, epoch, from, to, inFlight, parked, skipped, timed = false } = move
  const ticks = [skipped?.missed ?? 0, skipped?.folded ?? 0]
  const [row] = await session.query(advanceStatement, [stream, partition, epoch, from, to, inFlight, parked, ...ticks])
  if (row === undefined) {
    throw new SluiceError('FENCED', `The shard ${stream}/${partition} is no longer held under epoch ${epoch}`)
  }
  if (timed && timeOfOffset(to) > row.now + aheadMs) {
    const [here, there] = [new Date(timeOfOffset(to)).toISOString(), new Date(row.now).toISOString()]
    throw new SluiceError(
      'CONFIGURATION',
      `The clock of this machine says ${here}, that of the database ${there}: set the one that is wrong; until then no timer runs here`,
    )
  }
  return row.at
}
