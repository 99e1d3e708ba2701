/**
 * Topics: records appended with gapless offsets per partition.
 *
 * 1. An append registers the ids that are new, locks the partitions it appends to in the order of their numbers and
 *    gives out their next offsets, in one statement. The locks are held until the caller's transaction ends, so offsets
 *    become visible in order and a reader never skips one.
 * 2. A transaction that appends twice may deadlock with another that does; append one batch per transaction.
 */
import { stableHash } from '../core/stable-hash.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import type { ReadLimits, Source, SourceRecord } from '../ports/source.ts'

/** UTF-8 bytes of one record's value. */
export const maxRecordBytes = 1_048_576
/** UTF-8 bytes of a record's id or key; a longer text would not fit an index. */
export const maxIdBytes = 1_000

export interface NewRecord {
  /** Unique in the topic; at most 1,000 bytes. */
  readonly id: string
  /** Records with equal keys share a partition; without one the id decides. */
  readonly key: string | null
  /** JSON text. */
  readonly value: string
}

export interface Appended {
  /** Records that are new. */
  readonly published: number
  /** Records whose ids were there before, or came twice in the batch. */
  readonly known: number
}

const ensureStatement = statement<{ partitions: number }>(
  'topics.ensure',
  `
  with topic as (
    insert into sluice.topics as t (name, partitions) values ($1, $2)
    on conflict (name) do update set partitions = greatest(t.partitions, excluded.partitions)
    returning name, partitions
  ), made as (
    insert into sluice.topic_partitions (topic, partition)
    select name, n from topic, generate_series(0, partitions - 1) as n
    on conflict do nothing
  )
  select partitions from topic`,
)

/** Makes the topic, or adds partitions to it; it never loses any. Gives the number it has. */
export async function ensureTopic(session: Session, topic: string, partitions: number): Promise<number> {
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > 256) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `The topic "${topic}" has ${partitions} partitions; 1 to 256 are allowed`,
    )
  }
  const [row] = await session.query(ensureStatement, [topic, partitions])
  return row!.partitions
}

/** Which partition a record belongs to, by its key or id. */
export const partitionOf = (text: string, partitions: number): number => stableHash(text) % partitions

const partitionsStatement = statement<{ partitions: number }>(
  'topics.partitions',
  'select partitions from sluice.topics where name = $1',
)

const appendStatement = statement<{ published: number }>(
  'topics.append',
  `
  with given as (
    select distinct on (id) * from unnest($2::text[], $3::text[], $4::text[], $5::int[], $6::int[])
      with ordinality as given (id, key, value, partition, bytes, position)
    order by id, position
  ), fresh as (
    insert into sluice.topic_ids (topic, id, published_at)
    select $1, id, sluice.sluice_now() from given order by id
    on conflict do nothing
    returning id, published_at
  ), accepted as (
    select given.*, published_at, row_number() over (partition by partition order by position) as nth
    from given join fresh using (id)
  ), wanted as (
    select partition, count(*) as records from accepted group by partition
  ), locked as (
    select p.partition, wanted.records
    from sluice.topic_partitions p join wanted on wanted.partition = p.partition
    where p.topic = $1
    order by p.partition
    for no key update of p
  ), moved as (
    update sluice.topic_partitions p set next_offset = p.next_offset + locked.records
    from locked where p.topic = $1 and p.partition = locked.partition
    returning p.partition, p.next_offset - locked.records - 1 as before,
      pg_notify('sluice_topic', $1 || ':' || p.partition) as notified
  ), inserted as (
    insert into sluice.topic_records (topic, partition, "offset", id, key, value, bytes, published_at)
    select $1, partition, moved.before + nth, id, key, value, bytes, published_at
    from accepted join moved using (partition)
    returning 1
  )
  select (select count(*) from inserted)::int as published`,
)

/**
 * Appends a batch of about 1,000 records in the caller's transaction; wakes readers when it commits. A record whose id is
 * known adds nothing.
 * @throws SluiceError NOT_FOUND for a topic that is not there, RECORD_TOO_LARGE, INVALID_INPUT for an id or key that is
 *   empty, too long or holds a zero byte; nothing is appended then.
 */
export async function append(session: Session, topic: string, records: readonly NewRecord[]): Promise<Appended> {
  const [found] = await session.query(partitionsStatement, [topic])
  if (found === undefined) throw new SluiceError('NOT_FOUND', `There is no topic "${topic}"`)
  if (records.length === 0) return { published: 0, known: 0 }
  const bytes = checkRecords(records)
  const [row] = await session.query(appendStatement, [
    topic,
    records.map((record) => record.id),
    records.map((record) => record.key),
    records.map((record) => record.value),
    records.map((record) => partitionOf(record.key ?? record.id, found.partitions)),
    bytes,
  ])
  return { published: row!.published, known: records.length - row!.published }
}

/** Gives the UTF-8 bytes of each value. @throws SluiceError RECORD_TOO_LARGE, INVALID_INPUT */
export const checkRecords = (records: readonly NewRecord[]): number[] => records.map(checkRecord)

function checkRecord({ id, key, value }: NewRecord, index: number): number {
  checkText(`the id of record ${index}`, id)
  if (key !== null) checkText(`the key of record ${index}`, key)
  const bytes = Buffer.byteLength(value)
  if (bytes > maxRecordBytes) {
    throw new SluiceError(
      'RECORD_TOO_LARGE',
      `Record ${index} ("${id}") has ${bytes} bytes; ${maxRecordBytes} are allowed`,
    )
  }
  if (value.includes('\0')) throw new SluiceError('INVALID_INPUT', `Record ${index} ("${id}") holds a zero byte`)
  return bytes
}

function checkText(what: string, text: string): void {
  if (text === '' || text.includes('\0') || Buffer.byteLength(text) > maxIdBytes) {
    throw new SluiceError(
      'INVALID_INPUT',
      `${JSON.stringify(text.slice(0, 100))} is not ${what}; 1 to ${maxIdBytes} bytes without a zero byte are allowed`,
    )
  }
}

const readStatement = statement<SourceRecord>(
  'topics.read',
  `
  select "offset", id, key, value from (
    select *, sum(bytes) over (order by "offset" rows unbounded preceding) - bytes as before
    from (
      select "offset", id, key, value, bytes from sluice.topic_records
      where topic = $1 and partition = $2 and "offset" >= $3
      order by "offset" limit $4
    ) as next
  ) as summed
  where before = 0 or before + bytes <= $5
  order by "offset"`,
)

/** The records of a partition from an offset on, in order. */
export function read(
  session: Session,
  topic: string,
  partition: number,
  from: number,
  limits: ReadLimits,
): Promise<SourceRecord[]> {
  return session.query(readStatement, [topic, partition, from, limits.records, limits.bytes])
}

/** A topic as the source of a stream; whoever hears the notifications of `append` wakes the shard. */
export function topicSource(session: Session, topic: string): Source {
  return {
    open: (partition) => ({
      async read(from, limits) {
        const records = await read(session, topic, partition, from, limits)
        return { records, next: from + records.length }
      },
      close: async () => {},
    }),
  }
}

const trimStatement = statement<{ removed: number }>(
  'topics.trim',
  `
  with bounds as (
    select p.topic, p.partition, p.first_offset,
      least(
        p.first_offset + $3::bigint,
        p.next_offset,
        (select min(s.committed_offset) from sluice.shards s where s.topic = p.topic and s.partition = p.partition),
        (select min(c.next_offset) from sluice.plan_topic_cursors c
         where c.topic = p.topic and c.partition = p.partition)
      ) as below
    from sluice.topic_partitions p
    where p.topic = $1
    order by p.partition
    for no key update of p
  ), kept as (
    -- The first record that is younger than the horizon stays, and all behind it.
    select b.topic, b.partition, coalesce(
      (select min(r."offset") from sluice.topic_records r
       where r.topic = b.topic and r.partition = b.partition and r."offset" >= b.first_offset and r."offset" < b.below
         and r.published_at >= $2), b.below) as below
    from bounds b
  ), moved as (
    update sluice.topic_partitions p set first_offset = kept.below
    from kept where p.topic = kept.topic and p.partition = kept.partition and kept.below > p.first_offset
  ), removed as (
    delete from sluice.topic_records r using kept
    where r.topic = kept.topic and r.partition = kept.partition and r."offset" < kept.below
    returning 1
  )
  select count(*)::int as removed from removed`,
)

/**
 * Removes records that were published before `before` and that every stream and plan of the topic has passed, up to `limit` per
 * partition; gives their number. Call it again while it gives any. Ids are remembered: see `forgetIds`.
 */
export async function trim(session: Session, topic: string, before: Date, limit = 10_000): Promise<number> {
  const [row] = await session.query(trimStatement, [topic, before, limit])
  return row!.removed
}

const forgetStatement = statement(
  'topics.forget-ids',
  `
  delete from sluice.topic_ids where (topic, id) in (
    select topic, id from sluice.topic_ids where topic = $1 and published_at < $2 limit $3
  )`,
)

/** Forgets up to `limit` ids that were published before `before`: publishing them again is receiving them again. */
export function forgetIds(session: Session, topic: string, before: Date, limit = 10_000): Promise<number> {
  return session.execute(forgetStatement, [topic, before, limit])
}
