/** What is shown of streams: their shards, and what happened in the last hour. */
import { type Session, statement } from '../ports/database.ts'

export interface ShardFigures {
  readonly stream: string
  readonly partition: number
  readonly topic: string
  /** The node that holds it; null when nobody does or its lease lapsed. */
  readonly holder: string | null
  readonly epoch: number
  readonly committedOffset: number
  /** Of a stream that drains: nothing more is read, and all that was read is committed: nobody holds it, or the holder said so. */
  readonly drained: boolean
  /** Published, and not yet passed by the offset. */
  readonly lag: number
  /** In the holder's memory, as of its last commit or renewal: in their steps, and parked behind their key. */
  readonly inFlight: number
  readonly parked: number
  /** In the durable table. */
  readonly waiting: number
  readonly retrying: number
  readonly dead: number
  readonly committedAt: Date | null
  /** Of a timer: its items, and ticks that became no record. `items` is null of other sources. */
  readonly items: number | null
  readonly missed: number
  readonly folded: number
  /** Of the timer's whole list, as the holder heard it last: items left out since they are wrong, and why there is no newer list. */
  readonly refused: number | null
  readonly failure: string | null
}

const shardsStatement = statement<ShardFigures>(
  'stream-figures.shards',
  `
  select s.stream, s.partition, s.topic, case when s.lease_until > sluice.sluice_now() then s.holder end as holder, s.epoch,
    s.committed_offset as "committedOffset", greatest(coalesce(p.next_offset, s.source_end, s.committed_offset) - s.committed_offset, 0) as lag,
    coalesce(s.holder is null or s.drained = c.change, false) as drained, s.in_flight as "inFlight", s.parked, s.committed_at as "committedAt",
    s.items, s.ticks_missed as missed, s.ticks_folded as folded, s.items_refused as refused, s.items_failure as failure,
    count(*) filter (where w.state = 'waiting')::int as waiting,
    count(*) filter (where w.state = 'retry')::int as retrying,
    count(*) filter (where w.state = 'dead')::int as dead
  from sluice.shards s
  left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
  left join sluice.stream_waiting w on w.stream = s.stream and w.partition = s.partition
  left join sluice.stream_controls c on c.stream = s.stream
  where $1::text is null or s.stream = $1
  group by s.stream, s.partition, p.next_offset, c.change
  order by s.stream, s.partition`,
)

/** The shards of one stream, or of all. */
export function shardFigures(session: Session, stream: string | null): Promise<ShardFigures[]> {
  return session.query(shardsStatement, [stream])
}

export interface MinuteFigures {
  /** The beginning of the minute. */
  readonly minute: Date
  readonly received: number
  readonly written: number
  readonly duplicate: number
  readonly filtered: number
  readonly rejected: number
  readonly dead: number
}

const minutesStatement = statement<MinuteFigures>(
  'stream-figures.minutes',
  `
  with ends as (
    select date_trunc('minute', committed_at) as minute, received, written, duplicate, filtered, rejected, dead
    from sluice.ledger_batches
    where stream = $1 and committed_at >= date_trunc('minute', sluice.sluice_now()) - interval '59 minutes'
    union all
    select date_trunc('minute', r.at), 0, (r.outcome = 'written')::int, (r.outcome = 'duplicate')::int,
      (r.outcome = 'filtered')::int, (r.outcome = 'rejected')::int, (r.outcome = 'dead')::int
    from sluice.shards s
    join sluice.ledger_records r on r.stream = s.stream and r.partition = s.partition
    where s.stream = $1 and r.was is not null
      and r.at >= date_trunc('minute', sluice.sluice_now()) - interval '59 minutes'
  )
  select minute, sum(received)::int as received, sum(written)::int as written, sum(duplicate)::int as duplicate,
    sum(filtered)::int as filtered, sum(rejected)::int as rejected, sum(dead)::int as dead
  from ends group by minute order by minute`,
)

/** What ended in each minute of the last hour; minutes in which nothing happened are left out. */
export function minuteFigures(session: Session, stream: string): Promise<MinuteFigures[]> {
  return session.query(minutesStatement, [stream])
}
