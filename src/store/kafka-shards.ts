/** Shards whose source lies in Kafka: where they begin, how far their source goes, and which offsets it lost. */
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import type { ShardId } from './shards.ts'

/** What shards have as their topic when it lies in Kafka. */
export const kafkaPlace = (topic: string): string => `kafka:${topic}`

const elsewhereStatement = statement<{ topic: string; partitions: number; open: number }>(
  'kafka-shards.elsewhere',
  `
  with moved as (
    select * from sluice.shards where stream = $1 and topic <> $2 and (topic like 'kafka:%' or $2 like 'kafka:%')
    order by partition for no key update
  )
  select m.topic, count(*)::int as partitions,
    (coalesce(sum(greatest(coalesce(p.next_offset, m.source_end, m.committed_offset) - m.committed_offset, 0)), 0)
      + (select count(*) from sluice.stream_waiting w where w.stream = $1))::bigint as open
  from moved m left join sluice.topic_partitions p on p.topic = m.topic and p.partition = m.partition
  group by m.topic`,
)

const moveStatement = statement(
  'kafka-shards.move',
  `
  update sluice.shards s
  set topic = $2, source_end = null, source_since = null, epoch = epoch + 1, holder = null, lease_until = null,
    committed_offset = coalesce(
      (select p.first_offset from sluice.topic_partitions p where p.topic = $2 and p.partition = s.partition), 0)
  where stream = $1 and topic <> $2 and (topic like 'kafka:%' or $2 like 'kafka:%')`,
)

/**
 * A stream whose topic lies in Kafka now, or no longer does, begins anew there, once it has ended all that it had where it was.
 * @throws SluiceError DEFINITION_INVALID when it has not
 */
export function moveShards(database: Database, stream: string, place: string): Promise<void> {
  return database.transaction(async (session) => {
    const elsewhere = await session.query(elsewhereStatement, [stream, place])
    const open = elsewhere.find((one) => one.open > 0)
    if (open !== undefined) {
      throw new SluiceError(
        'DEFINITION_INVALID',
        `The stream ${stream} has ${open.open} records of ${describe(open.topic)} that are not ended or are dead letters: let it end them there before it reads ${describe(place)}`,
      )
    }
    if (elsewhere.length > 0) await session.execute(moveStatement, [stream, place])
  })
}

const describe = (place: string): string =>
  place.startsWith('kafka:') ? `the topic ${place.slice(6)} in Kafka` : `the topic ${place} in the database`

const heldStatement = statement<ShardId & { topic: string; committedOffset: number }>(
  'kafka-shards.held',
  `select stream, partition, substr(topic, 7) as topic, committed_offset as "committedOffset"
   from sluice.shards where holder = $1 and topic like 'kafka:%' order by stream, partition`,
)

/** Those that a process holds, with the offset they have committed. */
export function heldKafkaShards(
  session: Session,
  node: string,
): Promise<(ShardId & { topic: string; committedOffset: number })[]> {
  return session.query(heldStatement, [node])
}

const unheldStatement = statement<{ stream: string }>(
  'kafka-shards.unheld',
  `select distinct stream from sluice.shards
   where stream = any ($1::text[]) and holder is null and topic like 'kafka:%' order by stream`,
)

/** Those of the streams that have shards without a holder, such as the paused ones: nobody reads there how far their sources go. */
export async function unheldKafkaStreams(session: Session, streams: readonly string[]): Promise<string[]> {
  return (await session.query(unheldStatement, [streams])).map(({ stream }) => stream)
}

const endsStatement = statement(
  'kafka-shards.note-ends',
  `
  with news as (
    select s.stream, s.partition, given.source_end from sluice.shards s
    join unnest($2::text[], $3::int[], $4::bigint[]) as given (stream, partition, source_end)
      on s.stream = given.stream and s.partition = given.partition
    where s.holder is not distinct from $1 and s.source_end is distinct from given.source_end
    order by s.stream, s.partition for no key update of s
  )
  update sluice.shards s set source_end = news.source_end
  from news where s.stream = news.stream and s.partition = news.partition`,
)

/** How far sources go, as the holder of their shards heard; null: of shards that nobody holds. */
export async function noteSourceEnds(
  session: Session,
  node: string | null,
  ends: readonly (ShardId & { readonly end: number })[],
): Promise<void> {
  if (ends.length === 0) return
  const columns = [ends.map(({ stream }) => stream), ends.map(({ partition }) => partition), ends.map(({ end }) => end)]
  await session.execute(endsStatement, [node, ...columns])
}

const behindStatement = statement<ShardId & { committedOffset: number; behind: boolean }>(
  'kafka-shards.behind',
  `select stream, partition, committed_offset as "committedOffset", coalesce(source_end > committed_offset, false) as behind
   from sluice.shards
   where stream = any ($2::text[]) and topic like 'kafka:%' and (holder = $1 or holder is null)
     and (source_end > committed_offset or source_since is not null)
   order by stream, partition`,
)

/** Those of the streams' shards, held by a process or by nobody, whose age is to be looked at: they are behind, or were the last time. */
export function agingKafkaShards(
  session: Session,
  node: string,
  streams: readonly string[],
): Promise<(ShardId & { committedOffset: number; behind: boolean })[]> {
  return session.query(behindStatement, [node, streams])
}

const sinceStatement = statement(
  'kafka-shards.note-since',
  `
  with news as (
    select s.stream, s.partition, to_timestamp(given.ms / 1000.0) as since from sluice.shards s
    join unnest($1::text[], $2::int[], $3::float8[]) as given (stream, partition, ms)
      on s.stream = given.stream and s.partition = given.partition
    order by s.stream, s.partition for no key update of s
  )
  update sluice.shards s set source_since = news.since
  from news where s.stream = news.stream and s.partition = news.partition`,
)

/** When the first record was published that each has not passed, in milliseconds since the epoch; null: there is none. */
export async function noteSourceSince(
  session: Session,
  ages: readonly (ShardId & { readonly since: number | null })[],
): Promise<void> {
  if (ages.length === 0) return
  const columns = [
    ages.map(({ stream }) => stream),
    ages.map(({ partition }) => partition),
    ages.map(({ since }) => since),
  ]
  await session.execute(sinceStatement, columns)
}

const gapStatement = statement(
  'kafka-shards.gap',
  'insert into sluice.offset_gaps (stream, partition, from_offset, to_offset) values ($1, $2, $3, $4)',
)

const setBackStatement = statement<{ partition: number }>(
  'kafka-shards.set-back',
  `
  update sluice.shards
  set committed_offset = $3, source_end = null, source_since = null, epoch = epoch + 1, holder = null, lease_until = null
  where stream = $1 and partition = $2 and committed_offset > $3
    and not exists (select from sluice.stream_waiting w where w.stream = $1 and w.partition = $2)
  returning partition`,
)

export interface NotedGap extends ShardId {
  readonly from: number
  readonly to: number
}

/**
 * Notes that the offsets between were not there. A shard that is above all that there is, since its topic was made anew, is
 * set back, and whoever holds it commits no more.
 * @throws SluiceError CONFLICT when records of the former topic wait, or are dead letters, under the same offsets
 */
export function noteGap(database: Database, { stream, partition, from, to }: NotedGap): Promise<void> {
  return database.transaction(async (session) => {
    await session.execute(gapStatement, [stream, partition, from, to])
    if (to >= from) return
    const set = await session.query(setBackStatement, [stream, partition, to])
    if (set.length > 0) return
    throw new SluiceError(
      'CONFLICT',
      `${stream}/${partition} stands at ${from}, and its topic, made anew, begins at ${to}; records of before wait or are dead letters: end them first`,
    )
  })
}

const gapsStatement = statement<{ stream: string; gaps: number; lost: number }>(
  'kafka-shards.gaps',
  `select stream, count(*)::int as gaps, sum(greatest(to_offset - from_offset, 0))::bigint as lost
   from sluice.offset_gaps group by stream order by stream`,
)

/** By stream: how often offsets were gone when they were to be read, and how many (which is at most so many records). */
export function offsetGaps(session: Session): Promise<{ stream: string; gaps: number; lost: number }[]> {
  return session.query(gapsStatement, [])
}
