/**
 * Shards: one partition of a stream's topic each, with one holder at a time.
 *
 * 1. Acquiring raises the epoch; every commit names the epoch and moves the offset on from where the holder knows it.
 * 2. Renewing prolongs a lease also after it lapsed, while nobody else took the shard: the epoch alone is the fence.
 * 3. What a process holds by its rows and does not know of (the answer was lost, or it could not give it back) it takes
 *    again at once, under a new epoch.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

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
  select $1, n, $2, coalesce(p.first_offset, 0)
  from generate_series(0, coalesce($3, (select partitions from sluice.topics where name = $2)) - 1) as n
  left join sluice.topic_partitions p on p.topic = $2 and p.partition = n
  on conflict do nothing`,
)

/**
 * Makes the shards of a stream, one per partition of its source (default: those that the topic of that name has here); new
 * ones begin with the oldest record that is kept here, or at 0.
 */
export async function ensureShards(
  session: Session,
  stream: string,
  topic: string,
  partitions?: number,
): Promise<void> {
  await session.execute(ensureStatement, [stream, topic, partitions ?? null])
}

const beatStatement = statement<{ nodes: number; shards: number; held: number }>(
  'shards.beat',
  `
  with beat as (
    insert into sluice.nodes (id, kind, host, pid, lease_until)
    values ($1, 'shard', $2, $3, sluice.sluice_now() + $4 * interval '1 ms')
    on conflict (id) do update set heartbeat_at = sluice.sluice_now(), lease_until = excluded.lease_until
    returning 1
  )
  select
    (select count(*) from sluice.nodes where kind = 'shard' and id <> $1 and lease_until > sluice.sluice_now())::int
      + (select count(*) from beat)::int as nodes,
    (select count(*) from sluice.shards where stream = any ($5::text[]))::int as shards,
    (select count(*) from sluice.shards where stream = any ($5::text[]) and holder = $1)::int as held`,
)

export interface Beat {
  /** UUID of the process. */
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly leaseMs: number
  readonly streams: readonly string[]
}

/** Says that the process lives; gives how many shards of these streams are its fair share. */
export async function beat(session: Session, { id, host, pid, leaseMs, streams }: Beat): Promise<number> {
  const [row] = await session.query(beatStatement, [id, host, pid, leaseMs, streams])
  return Math.ceil(row!.shards / row!.nodes)
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
    order by stream, partition
    limit $4
    for update skip locked
  )
  update sluice.shards s
  set holder = $2, epoch = s.epoch + 1, lease_until = sluice.sluice_now() + $3 * interval '1 ms', in_flight = 0, parked = 0
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
    select s.stream, s.partition, given.in_flight, given.parked
    from sluice.shards s
    join unnest($2::text[], $3::int[], $4::bigint[], $5::int[], $6::int[])
      as given (stream, partition, epoch, in_flight, parked)
      on s.stream = given.stream and s.partition = given.partition and s.epoch = given.epoch
    where s.holder = $1
    order by s.stream, s.partition
    for update of s
  )
  update sluice.shards s
  set lease_until = sluice.sluice_now() + $7 * interval '1 ms', in_flight = held.in_flight, parked = held.parked
  from held where s.stream = held.stream and s.partition = held.partition
  returning s.stream, s.partition`,
)

export interface Renewal extends ShardId {
  readonly epoch: number
  readonly inFlight: number
  readonly parked: number
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

const advanceStatement = statement<{ at: Date }>(
  'shards.advance',
  `
  update sluice.shards
  set committed_offset = $5, in_flight = $6, parked = $7, committed_at = greatest(sluice.sluice_now(), folded_through)
  where stream = $1 and partition = $2 and epoch = $3 and committed_offset = $4 and holder is not null
  returning committed_at as at`,
)

export interface Advance extends ShardId {
  readonly epoch: number
  readonly from: number
  readonly to: number
  readonly inFlight: number
  readonly parked: number
}

/**
 * The guard of a commit, and its lock: moves the offset on. Gives the time that the rows of the commit bear.
 * @throws SluiceError FENCED when another took the shard, or the offset is not where the holder believes it is.
 */
export async function advance(session: Session, move: Advance): Promise<Date> {
  const { stream, partition, epoch, from, to, inFlight, parked } = move
  const [row] = await session.query(advanceStatement, [stream, partition, epoch, from, to, inFlight, parked])
  if (row === undefined) {
    throw new SluiceError('FENCED', `The shard ${stream}/${partition} is no longer held under epoch ${epoch}`)
  }
  return row.at
}
