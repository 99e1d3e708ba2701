/**
 * The ledger of a stream, added up from immutable rows.
 *
 * 1. Whoever writes rows of a shard holds the lock of the shard's row and stamps them with a time that is not below
 *    `folded_through`. So a fold, under that lock, sees every row below its time, and none comes later.
 * 2. Totals are the folds and the rows since, less what rewinds took back: quick however long the history is.
 */
import { type RecordCount, totals as sumUp, type Totals } from '../core/ledger.ts'
import { type Database, type Session, statement } from '../ports/database.ts'

const batchSumsStatement = statement<{
  received: number
  written: number
  duplicate: number
  filtered: number
  rejected: number
  dead: number
  waiting: number
  queued: number
}>(
  'ledger.sum-batches',
  `
  with sums as (
    select received, written, duplicate, filtered, rejected, dead, waiting
    from sluice.ledger_folds where stream = $1
    union all
    select b.received, b.written, b.duplicate, b.filtered, b.rejected, b.dead, b.waiting
    from sluice.shards s
    join sluice.ledger_batches b
      on b.stream = s.stream and b.partition = s.partition and b.committed_at >= s.folded_through
    where s.stream = $1
    union all
    select -received, -written, -duplicate, -filtered, -rejected, -dead, -waiting
    from sluice.stream_rewinds where stream = $1
  )
  select coalesce(sum(received), 0)::bigint as received, coalesce(sum(written), 0)::bigint as written,
    coalesce(sum(duplicate), 0)::bigint as duplicate, coalesce(sum(filtered), 0)::bigint as filtered,
    coalesce(sum(rejected), 0)::bigint as rejected, coalesce(sum(dead), 0)::bigint as dead,
    coalesce(sum(waiting), 0)::bigint as waiting,
    (select coalesce(sum(greatest(coalesce(p.next_offset, s.source_end, s.committed_offset) - s.committed_offset, 0)), 0)::bigint
     from sluice.shards s left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
     where s.stream = $1) as queued
  from sums`,
)

const recordSumsStatement = statement<RecordCount & { reason: string | null }>(
  'ledger.sum-records',
  `
  select r.outcome, r.was, case when r.outcome = 'rejected' then r.reason end as reason, count(*)::bigint as count
  from sluice.shards s
  join sluice.ledger_records r on r.stream = s.stream and r.partition = s.partition and r.at >= s.folded_through
  where s.stream = $1 and (r.was is not null or r.outcome = 'rejected')
  group by 1, 2, 3
  union all
  select 'rejected', null, counted.reason, sum(counted.count::bigint)::bigint
  from sluice.shards s
  join sluice.ledger_batches b
    on b.stream = s.stream and b.partition = s.partition and b.committed_at >= s.folded_through
  cross join jsonb_each_text(b.reasons) as counted (reason, count)
  where s.stream = $1 and b.reasons is not null
  group by 3`,
)

const foldedReasonsStatement = statement<{ reason: string; count: number }>(
  'ledger.folded-reasons',
  `
  select reason, sum(count)::bigint as count
  from (
    select reason, count::bigint as count
    from sluice.ledger_folds, jsonb_each_text(reasons) as folded (reason, count) where stream = $1
    union all
    select reason, -count::bigint
    from sluice.stream_rewinds, jsonb_each_text(reasons) as taken (reason, count) where stream = $1
  ) as counted
  group by reason having sum(count) <> 0`,
)

export interface StreamTotals extends Totals {
  /** Of `pending`: published, and not yet passed by the offset. The rest of `pending` waits (see `waiting`). */
  readonly queued: number
  /** Of `pending`: passed by the offset, not ended. */
  readonly waiting: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

/**
 * Where the records of a stream ended: `received = pending + written + duplicate + filtered + rejected + dead`, of one
 * instant.
 */
export async function totals(database: Database, stream: string): Promise<StreamTotals> {
  return database.transaction(async (session) => {
    await session.script('set transaction isolation level repeatable read, read only')
    const [batches] = await session.query(batchSumsStatement, [stream])
    const records = await session.query(recordSumsStatement, [stream])
    const reasons = await session.query(foldedReasonsStatement, [stream])
    const { queued, ...counts } = batches!
    const sums = sumUp([counts], records)
    const rejectedByReason = countReasons([...reasons, ...records.filter((row) => row.outcome === 'rejected')])
    return {
      ...sums,
      received: sums.received + queued,
      pending: sums.pending + queued,
      queued,
      waiting: sums.pending,
      rejectedByReason,
    }
  })
}

function countReasons(rows: Iterable<{ reason: string | null; count: number }>): Record<string, number> {
  const counts = new Map<string, number>()
  for (const { reason, count } of rows) counts.set(reason ?? '', (counts.get(reason ?? '') ?? 0) + count)
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}

const lockForFoldStatement = statement<{ stream: string; partition: number }>(
  'ledger.lock-for-fold',
  `
  select stream, partition from sluice.shards
  where folded_through < $1 order by stream, partition limit 1
  for no key update skip locked`,
)

const foldStatement = statement(
  'ledger.fold',
  `
  with shard as (
    select folded_through from sluice.shards where stream = $1 and partition = $2
  ), batches as (
    select sum(b.received) as received, sum(b.written) as written, sum(b.duplicate) as duplicate,
      sum(b.filtered) as filtered, sum(b.rejected) as rejected, sum(b.dead) as dead, sum(b.waiting) as waiting
    from sluice.ledger_batches b, shard
    where b.stream = $1 and b.partition = $2 and b.committed_at >= shard.folded_through and b.committed_at < $3
  ), moves as (
    select
      sum(case when r.outcome = 'written' then 1 else 0 end) as written,
      sum(case when r.outcome = 'duplicate' then 1 else 0 end) as duplicate,
      sum(case when r.outcome = 'filtered' then 1 else 0 end) as filtered,
      sum(case r.outcome when 'rejected' then 1 else 0 end) - sum(case r.was when 'rejected' then 1 else 0 end) as rejected,
      sum(case r.outcome when 'dead' then 1 else 0 end) - sum(case r.was when 'dead' then 1 else 0 end) as dead,
      sum(case r.outcome when 'waiting' then 1 else 0 end) - sum(case r.was when 'waiting' then 1 else 0 end) as waiting
    from sluice.ledger_records r, shard
    where r.stream = $1 and r.partition = $2 and r.at >= shard.folded_through and r.at < $3 and r.was is not null
  ), reasons as (
    select coalesce(jsonb_object_agg(reason, count), '{}') as reasons
    from (
      select reason, sum(count) as count
      from (
        select coalesce(r.reason, '') as reason, 1::bigint as count
        from sluice.ledger_records r, shard
        where r.stream = $1 and r.partition = $2 and r.at >= shard.folded_through and r.at < $3 and r.outcome = 'rejected'
        union all
        select counted.reason, counted.count::bigint
        from sluice.ledger_batches b, shard, jsonb_each_text(b.reasons) as counted (reason, count)
        where b.stream = $1 and b.partition = $2 and b.committed_at >= shard.folded_through and b.committed_at < $3
      ) as each
      group by 1
    ) as counted
  ), folded as (
    insert into sluice.ledger_folds
      (stream, partition, through, received, written, duplicate, filtered, rejected, dead, waiting, reasons)
    select $1, $2, $3, coalesce(b.received, 0), coalesce(b.written, 0) + coalesce(m.written, 0),
      coalesce(b.duplicate, 0) + coalesce(m.duplicate, 0), coalesce(b.filtered, 0) + coalesce(m.filtered, 0),
      coalesce(b.rejected, 0) + coalesce(m.rejected, 0), coalesce(b.dead, 0) + coalesce(m.dead, 0),
      coalesce(b.waiting, 0) + coalesce(m.waiting, 0), reasons
    from batches b, moves m, reasons
    where b.received is not null or m.written is not null
  )
  update sluice.shards set folded_through = $3 where stream = $1 and partition = $2`,
)

/**
 * Sums up the rows below `before` of every shard that is not folded so far; gives the number of shards. One short
 * transaction per shard. Call it hourly, with a time of some minutes ago: a shard's clock never goes below it again.
 */
export async function foldLedger(database: Database, before: Date): Promise<number> {
  for (let folded = 0; ; folded += 1) {
    const found = await database.transaction(async (session) => {
      const [shard] = await session.query(lockForFoldStatement, [before])
      if (shard !== undefined) await foldShard(session, shard, before)
      return shard
    })
    if (found === undefined) return folded
  }
}

/** Sums up the rows of one shard below `before`; part of a transaction that holds the shard's row. */
export async function foldShard(
  session: Session,
  { stream, partition }: { readonly stream: string; readonly partition: number },
  before: Date,
): Promise<void> {
  await session.execute(foldStatement, [stream, partition, before])
}

const dropStatement = statement<{ name: string }>(
  'ledger.drop-partitions',
  `
  with bound as (
    select least(
      ($1::timestamptz at time zone 'UTC')::date,
      (select (min(folded_through) at time zone 'UTC')::date from sluice.shards)
    ) as keep_from
  )
  select name from bound, sluice.drop_day_partitions('sluice.ledger_batches', keep_from) as name
  union all
  select name from bound, sluice.drop_day_partitions('sluice.ledger_records', keep_from) as name`,
)

const makePartitionsStatement = statement(
  'ledger.make-partitions',
  `
  select sluice.ensure_day_partitions('sluice.ledger_batches', (sluice.sluice_now() at time zone 'UTC')::date, 7),
    sluice.ensure_day_partitions('sluice.ledger_records', (sluice.sluice_now() at time zone 'UTC')::date, 7)`,
)

/** Makes the partitions of the week ahead. Call it daily. */
export async function makeLedgerPartitions(session: Session): Promise<void> {
  await session.execute(makePartitionsStatement)
}

/** Drops the days of the ledger that end before `before` and are folded in every shard; gives the tables' names. */
export async function dropLedgerPartitions(session: Session, before: Date): Promise<string[]> {
  return (await session.query(dropStatement, [before])).map((row) => row.name)
}
