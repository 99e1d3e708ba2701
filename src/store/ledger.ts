/**
 * The ledger of a stream, added up from immutable rows.
 *
 * 1. Whoever writes rows of a shard holds the lock of the shard's row and stamps them with a time that is not below
 *    `folded_through`. So a fold, under that lock, sees every row below its time, and none comes later.
 * 2. Totals are the folds and the rows since, less what rewinds took back: quick however long the history is.
 */
import { type BatchCounts, type RecordCount, totals as sumUp, type Totals } from '../core/ledger.ts'
import { type Database, type Session, statement } from '../ports/database.ts'

interface SumsRow {
  readonly stream: string
  /** Of folds and of batches since, less what rewinds took back. */
  readonly counts: BatchCounts
  readonly queued: number
  /** Of records since the folds. */
  readonly moves: readonly RecordCount[]
  readonly reasons: Readonly<Record<string, number>>
}

/** One statement, and so of one instant, however many streams there are. */
const sumsStatement = statement<SumsRow>(
  'ledger.sums',
  `
  with asked as (
    select distinct stream from unnest($1::text[]) as given (stream)
  ), shards as (
    select s.stream, s.partition, s.folded_through,
      greatest(coalesce(p.next_offset, s.source_end, s.committed_offset) - s.committed_offset, 0) as queued
    from sluice.shards s left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
    where s.stream = any ($1)
  ), batches as (
    select b.stream, b.received, b.written, b.duplicate, b.filtered, b.rejected, b.dead, b.waiting, b.reasons
    from shards s
    join sluice.ledger_batches b
      on b.stream = s.stream and b.partition = s.partition and b.committed_at >= s.folded_through
  ), ends as (
    select r.stream, r.outcome, r.was, case when r.outcome = 'rejected' then coalesce(r.reason, '') end as reason, count(*) as count
    from shards s
    join sluice.ledger_records r on r.stream = s.stream and r.partition = s.partition and r.at >= s.folded_through
    where r.was is not null or r.outcome = 'rejected'
    group by 1, 2, 3, 4
  ), counts as (
    select stream, sum(received) as received, sum(written) as written, sum(duplicate) as duplicate,
      sum(filtered) as filtered, sum(rejected) as rejected, sum(dead) as dead, sum(waiting) as waiting
    from (
      select stream, received, written, duplicate, filtered, rejected, dead, waiting
      from sluice.ledger_folds where stream = any ($1)
      union all
      select stream, received, written, duplicate, filtered, rejected, dead, waiting from batches
      union all
      select stream, -received, -written, -duplicate, -filtered, -rejected, -dead, -waiting
      from sluice.stream_rewinds where stream = any ($1)
    ) as each group by stream
  ), moves as (
    select stream, jsonb_agg(jsonb_build_object('outcome', outcome, 'was', was, 'count', count)) as moves
    from ends where was is not null group by stream
  ), reasons as (
    select stream, jsonb_object_agg(reason, count) as reasons
    from (
      select stream, reason, sum(count) as count
      from (
        select stream, reason, count from ends where outcome = 'rejected'
        union all
        select b.stream, given.reason, given.count::bigint
        from batches b, jsonb_each_text(b.reasons) as given (reason, count) where b.reasons is not null
        union all
        select f.stream, folded.reason, folded.count::bigint
        from sluice.ledger_folds f, jsonb_each_text(f.reasons) as folded (reason, count) where f.stream = any ($1)
        union all
        select t.stream, taken.reason, -taken.count::bigint
        from sluice.stream_rewinds t, jsonb_each_text(t.reasons) as taken (reason, count) where t.stream = any ($1)
      ) as each
      group by stream, reason having sum(count) <> 0
    ) as counted
    group by stream
  )
  select a.stream,
    jsonb_build_object('received', coalesce(c.received, 0), 'written', coalesce(c.written, 0),
      'duplicate', coalesce(c.duplicate, 0), 'filtered', coalesce(c.filtered, 0), 'rejected', coalesce(c.rejected, 0),
      'dead', coalesce(c.dead, 0), 'waiting', coalesce(c.waiting, 0)) as counts,
    coalesce((select sum(queued) from shards s where s.stream = a.stream), 0)::bigint as queued,
    coalesce(m.moves, '[]') as moves, coalesce(r.reasons, '{}') as reasons
  from asked a
  left join counts c on c.stream = a.stream
  left join moves m on m.stream = a.stream
  left join reasons r on r.stream = a.stream`,
)

export interface StreamTotals extends Totals {
  /** Of `pending`: published, and not yet passed by the offset. The rest of `pending` waits (see `waiting`). */
  readonly queued: number
  /** Of `pending`: passed by the offset, not ended. */
  readonly waiting: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}

/**
 * Where the records of streams ended: `received = pending + written + duplicate + filtered + rejected + dead`, all of one
 * instant. Gives every stream that was asked for.
 */
export async function streamTotals(session: Session, streams: readonly string[]): Promise<Map<string, StreamTotals>> {
  if (streams.length === 0) return new Map()
  const rows = await session.query(sumsStatement, [streams])
  return new Map(rows.map((row) => [row.stream, totalsOf(row)]))
}

/** Of one stream. */
export async function totals(session: Session, stream: string): Promise<StreamTotals> {
  return (await streamTotals(session, [stream])).get(stream)!
}

function totalsOf({ counts, queued, moves, reasons }: SumsRow): StreamTotals {
  const sums = sumUp([counts], moves)
  return {
    ...sums,
    received: sums.received + queued,
    pending: sums.pending + queued,
    queued,
    waiting: sums.pending,
    rejectedByReason: Object.fromEntries(Object.entries(reasons).sort(([a], [b]) => (a < b ? -1 : 1))),
  }
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
