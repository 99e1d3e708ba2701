/** How old is what a stream has not ended yet. */
import { type Session, statement } from '../ports/database.ts'

const oldestStatement = statement<{ stream: string; queued: Date | null; waiting: Date | null }>(
  'stream-age.oldest',
  `
  select s.stream, min(w.since) as waiting,
    -- The offset of a timer is a time, which follows the present by less than half a minute.
    min(coalesce(r.published_at, case when s.items > 0 then t.due end,
      case when s.source_end > s.committed_offset then s.source_since end)) as queued
  from sluice.shards s
  left join lateral (
    select published_at from sluice.topic_records r
    where r.topic = s.topic and r.partition = s.partition and r."offset" >= s.committed_offset
    order by r."offset" limit 1
  ) r on true
  left join lateral (
    select min(since) as since from sluice.stream_waiting w
    where w.stream = s.stream and w.partition = s.partition and w.state <> 'dead'
  ) w on true
  left join lateral (
    select to_timestamp((s.committed_offset / 1024) / 1000.0) as due where s.topic like 'timer:%'
  ) t on t.due < sluice.sluice_now() - interval '30 s'
  where $1::text is null or s.stream = $1
  group by s.stream`,
)

export interface OldestOpen {
  /**
   * When the oldest record was published that the offset has not passed; null when there is none. Of a topic in Kafka as of the
   * last look, 5 s ago at most, and null before the first.
   */
  readonly queued: Date | null
  /** Since when the oldest record waits that the offset has passed. */
  readonly waiting: Date | null
}

/** By stream; of one, or of all. */
export async function oldestOpen(session: Session, stream: string | null): Promise<Map<string, OldestOpen>> {
  const rows = await session.query(oldestStatement, [stream])
  return new Map(rows.map(({ stream: name, ...oldest }) => [name, oldest]))
}
