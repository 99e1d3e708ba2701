/**
 * Sets shards back, so that records are received again.
 *
 * 1. Under the lock of the shard, and with a new epoch: whoever holds it commits nothing any more, and the next holder begins there.
 * 2. A rewind goes to the beginning of a batch that the ledger has, for what a batch counted is known as a whole. All
 *    that was counted from there on is taken back (a row of `stream_rewinds`), so that the sums count every record once.
 * 3. What waits or is dead from there on is no longer so: it is received again.
 * 4. The ledger is folded up to the time of the rewind, so that what comes later has a later time.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { foldShard } from './ledger.ts'
import { type Asked, noteOperation } from './stream-controls.ts'

/** How far back: the batch with that offset, the first batch that was committed at that time or later, or all that is kept. */
export type RewindTarget = { readonly offset: number } | { readonly time: Date } | 'beginning'

export interface Rewound {
  readonly partition: number
  /** Up to where it had committed. */
  readonly from: number
  /** Where it goes on; `from` when there is nothing to receive again. */
  readonly to: number
  /** Records that are taken back. */
  readonly records: number
}

const lockStatement = statement<{ partition: number; committed: number; kept: number | null; at: Date }>(
  'rewind.lock',
  `
  select s.partition, s.committed_offset as committed, case when s.topic not like '%:%' then coalesce(p.first_offset, 0) end as kept,
    date_trunc('milliseconds', greatest(sluice.sluice_now(), s.folded_through, s.committed_at)) + interval '1 ms' as at
  from sluice.shards s
  left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
  where s.stream = $1 and ($2::int is null or s.partition = $2)
  order by s.partition
  for no key update of s`,
)

/** A batch that was rewound already is none: it begins at or above the target of a later rewind. */
const targetStatement = statement<{ target: number | null }>(
  'rewind.target',
  `
  with live as (
    select b.from_offset, b.committed_at from sluice.ledger_batches b
    where b.stream = $1 and b.partition = $2 and not exists (
      select from sluice.stream_rewinds r
      where r.stream = b.stream and r.partition = b.partition and r.at > b.committed_at and r.to_offset <= b.from_offset)
  )
  select case
    when $3::bigint is not null then (select max(from_offset) from live where from_offset <= $3)
    when $4::timestamptz is not null then (select min(from_offset) from live where committed_at >= $4)
    else (select min(from_offset) from live where from_offset >= $5)
  end as target`,
)

const takeBackStatement = statement<{ received: number }>(
  'rewind.take-back',
  `
  with batches as (
    select coalesce(sum(b.received), 0) as received, coalesce(sum(b.written), 0) as written,
      coalesce(sum(b.duplicate), 0) as duplicate, coalesce(sum(b.filtered), 0) as filtered,
      coalesce(sum(b.rejected), 0) as rejected, coalesce(sum(b.dead), 0) as dead, coalesce(sum(b.waiting), 0) as waiting
    from sluice.ledger_batches b
    where b.stream = $2 and b.partition = $3 and b.from_offset >= $5 and not exists (
      select from sluice.stream_rewinds r
      where r.stream = b.stream and r.partition = b.partition and r.at > b.committed_at and r.to_offset <= b.from_offset)
  ), rows as (
    select l.outcome, l.was, l.reason from sluice.ledger_records l
    where l.stream = $2 and l.partition = $3 and l."offset" >= $5 and not exists (
      select from sluice.stream_rewinds r
      where r.stream = l.stream and r.partition = l.partition and r.at > l.at and r.to_offset <= l."offset")
  ), moves as (
    select
      count(*) filter (where outcome = 'written') as written,
      count(*) filter (where outcome = 'duplicate') as duplicate,
      count(*) filter (where outcome = 'filtered') as filtered,
      count(*) filter (where outcome = 'rejected') - count(*) filter (where was = 'rejected') as rejected,
      count(*) filter (where outcome = 'dead') - count(*) filter (where was = 'dead') as dead,
      count(*) filter (where outcome = 'waiting') - count(*) filter (where was = 'waiting') as waiting
    from rows where was is not null
  ), reasons as (
    select coalesce(jsonb_object_agg(reason, count), '{}') as reasons
    from (select coalesce(reason, '') as reason, count(*) as count from rows where outcome = 'rejected' group by 1) as counted
  )
  insert into sluice.stream_rewinds
    (operation, stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, reasons, at)
  select $1, $2, $3, $4, $5, b.received, b.written + m.written, b.duplicate + m.duplicate, b.filtered + m.filtered,
    b.rejected + m.rejected, b.dead + m.dead, b.waiting + m.waiting, reasons, $6
  from batches b, moves m, reasons
  returning received`,
)

const forgetStatement = statement(
  'rewind.forget-waiting',
  'delete from sluice.stream_waiting where stream = $1 and partition = $2 and "offset" >= $3',
)

const setBackStatement = statement(
  'rewind.set-back',
  `
  update sluice.shards
  set committed_offset = $3, committed_at = $4, epoch = epoch + 1, holder = null, lease_until = null, in_flight = 0, parked = 0
  where stream = $1 and partition = $2`,
)

const tellStatement = statement('rewind.tell', `select pg_notify('sluice_shards', $1)`)

export interface RewindPlace {
  readonly target: RewindTarget
  /** Null: all. */
  readonly partition: number | null
  /** Of a topic that does not lie in this database: by partition, the first offset that is kept; default 0. */
  readonly keptFrom?: readonly number[] | undefined
}

/**
 * Part of a transaction, which commits at once: it holds the shards.
 * @throws SluiceError NOT_FOUND (no such partition), CONFLICT (the records or the ledger of then are not kept any more)
 */
export async function rewindShards(
  session: Session,
  stream: string,
  { target, partition, keptFrom }: RewindPlace,
  asked: Asked,
): Promise<Rewound[]> {
  const shards = await session.query(lockStatement, [stream, partition])
  if (shards.length === 0) {
    throw new SluiceError('NOT_FOUND', `${stream} has no ${partition === null ? 'shards' : `partition ${partition}`}`)
  }
  const plan: (Rewound & { at: Date })[] = []
  for (const shard of shards) {
    plan.push({
      partition: shard.partition,
      from: shard.committed,
      to: await targetOf(session, stream, { ...shard, kept: shard.kept ?? keptFrom?.[shard.partition] ?? 0 }, target),
      records: 0,
      at: shard.at,
    })
  }
  await noteOperation(session, stream, 'rewind', asked, {
    target,
    shards: plan.map(({ at: _, records: __, ...one }) => one),
  })
  const done: Rewound[] = []
  for (const { at, ...shard } of plan) {
    done.push(shard.to < shard.from ? await setBack(session, stream, shard, at, asked) : shard)
  }
  await session.execute(tellStatement, [stream])
  return done
}

async function targetOf(
  session: Session,
  stream: string,
  shard: { readonly partition: number; readonly committed: number; readonly kept: number },
  target: RewindTarget,
): Promise<number> {
  const { partition, committed, kept } = shard
  const offset = target !== 'beginning' && 'offset' in target ? target.offset : null
  const time = target !== 'beginning' && 'time' in target ? target.time : null
  if (offset !== null && offset >= committed) return committed
  const [found] = await session.query(targetStatement, [stream, partition, offset, time, kept])
  const to = found!.target ?? (offset === null ? committed : undefined)
  if (to === undefined || to < kept) {
    throw new SluiceError(
      'CONFLICT',
      `${stream}/${partition} cannot go back to ${offset ?? time?.toISOString()}: ${
        to === undefined ? 'the ledger of then is not kept any more' : `the topic keeps its records from ${kept} on`
      }`,
    )
  }
  return to
}

async function setBack(session: Session, stream: string, shard: Rewound, at: Date, asked: Asked): Promise<Rewound> {
  const { partition, from, to } = shard
  await foldShard(session, { stream, partition }, at)
  const [taken] = await session.query(takeBackStatement, [asked.id, stream, partition, from, to, at])
  await session.execute(forgetStatement, [stream, partition, to])
  await session.execute(setBackStatement, [stream, partition, to, at])
  return { partition, from, to, records: taken!.received }
}
