/**
 * Records on their way into Kafka.
 *
 * 1. They are put here in the transaction of what they follow from: an attempt that publishes, a commit in which records
 *    end dead. An id is taken once per topic, so publishing again adds nothing.
 * 2. One node at a time sends those of a topic, under a lease and an epoch. Before it sends, it notes where the partitions
 *    end (`ends`); once Kafka has acknowledged, it removes what it sent together with that note. A note that is there
 *    when a node takes over says from where to look for what was sent before.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import type { ShardId } from './shards.ts'
import { type Appended, checkRecords, type NewRecord } from './topics.ts'

const putStatement = statement<{ put: number }>(
  'kafka-outbox.put',
  `
  with given as (
    select distinct on (id) * from unnest($2::text[], $3::text[], $4::text[])
      with ordinality as given (id, key, value, position)
    order by id, position
  ), fresh as (
    insert into sluice.topic_ids (topic, id, published_at)
    select 'kafka:' || $1, id, sluice.sluice_now() from given order by id
    on conflict do nothing
    returning id
  ), put as (
    insert into sluice.kafka_outbox (topic, record_id, key, value)
    select $1, id, key, value from given join fresh using (id) order by position
    returning 1
  )
  select (select count(*) from put)::int as put, pg_notify('sluice_kafka_outbox', $1)`,
)

/** As `append` of a topic that lies here. @throws SluiceError NOT_FOUND, RECORD_TOO_LARGE, INVALID_INPUT; nothing is put then */
export async function putOut(session: Session, topic: string, records: readonly NewRecord[]): Promise<Appended> {
  if ((await topicPartitions(session, topic)) === undefined)
    throw new SluiceError('NOT_FOUND', `There is no topic "${topic}"`)
  if (records.length === 0) return { published: 0, known: 0 }
  checkRecords(records)
  const [row] = await session.query(putStatement, [
    topic,
    records.map(({ id }) => id),
    records.map(({ key }) => key),
    records.map(({ value }) => value),
  ])
  return { published: row!.put, known: records.length - row!.put }
}

const lettersStatement = statement(
  'kafka-outbox.letters',
  `
  with put as (
    insert into sluice.kafka_outbox (topic, record_id, letter)
    select substr(s.topic, 7) || '.dead-letters', given.id, jsonb_build_object(
      'stream', s.stream, 'topic', substr(s.topic, 7), 'partition', s.partition, 'offset', given."offset",
      'reason', given.reason, 'detail', given.detail, 'attempts', given.attempts)
    from sluice.shards s, unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::int[])
      as given ("offset", id, reason, detail, attempts)
    where s.stream = $1 and s.partition = $2 and s.topic like 'kafka:%'
    order by given."offset"
    returning topic
  )
  select pg_notify('sluice_kafka_outbox', topic) from put limit 1`,
)

interface EndedRecord {
  readonly offset: number
  readonly recordId: string
  readonly outcome: string
  readonly reason: string | null
  readonly detail: string | null
}

/** Of records that end in a commit as dead or malformed: if their topic lies in Kafka, its dead-letter topic gets them. */
export async function putLetters(
  session: Session,
  { stream, partition }: ShardId,
  ends: {
    /** As the ledger has them. */
    readonly records: readonly EndedRecord[]
    /** With the attempts that failed. */
    readonly waiting: readonly { readonly offset: number; readonly attempts: number }[]
  },
): Promise<void> {
  const attempts = new Map(ends.waiting.map((record) => [record.offset, record.attempts]))
  const letters = ends.records.filter(
    ({ outcome, reason }) => outcome === 'dead' || (outcome === 'rejected' && reason === 'malformed'),
  )
  if (letters.length === 0) return
  await session.execute(lettersStatement, [
    ...[stream, partition],
    letters.map(({ offset }) => offset),
    letters.map(({ recordId }) => recordId),
    letters.map(({ reason }) => reason),
    letters.map(({ detail }) => detail),
    letters.map(({ offset }) => attempts.get(offset) ?? 0),
  ])
}

const waitingTopicsStatement = statement<{ topic: string }>(
  'kafka-outbox.topics',
  `select distinct topic from sluice.kafka_outbox
   union select topic from sluice.kafka_senders where ends is not null order by topic`,
)

/** Those for which there is something to send, or a send that is not known to be over. */
export async function outboxTopics(session: Session): Promise<string[]> {
  return (await session.query(waitingTopicsStatement, [])).map(({ topic }) => topic)
}

/** Where partitions ended, by their number. */
export type Ends = readonly number[]

export interface HeldSender {
  readonly topic: string
  readonly epoch: number
  /** Of a send that may be over or not. */
  readonly ends: Ends | null
}

const takeStatement = statement<HeldSender>(
  'kafka-outbox.take',
  `
  insert into sluice.kafka_senders as s (topic, holder, epoch, lease_until)
  values ($1, $2, 1, sluice.sluice_now() + $3 * interval '1 ms')
  on conflict (topic) do update
  set holder = $2, epoch = s.epoch + 1, lease_until = excluded.lease_until
  where s.holder is null or s.holder = $2 or s.lease_until <= sluice.sluice_now()
  returning topic, epoch, ends`,
)

/** Undefined when another node sends those of the topic. */
export async function takeSender(
  session: Session,
  topic: string,
  node: string,
  leaseMs: number,
): Promise<HeldSender | undefined> {
  return (await session.query(takeStatement, [topic, node, leaseMs]))[0]
}

const noteStatement = statement(
  'kafka-outbox.note',
  `update sluice.kafka_senders set ends = $3, lease_until = sluice.sluice_now() + $4 * interval '1 ms'
   where topic = $1 and epoch = $2`,
)

/** Notes the ends before a send, and prolongs the lease; false when another node has taken over. */
export async function noteSend(
  session: Session,
  { topic, epoch }: HeldSender,
  ends: Ends,
  leaseMs: number,
): Promise<boolean> {
  return (await session.execute(noteStatement, [topic, epoch, JSON.stringify(ends), leaseMs])) > 0
}

const sentStatement = statement<{ topic: string }>(
  'kafka-outbox.sent',
  `
  with done as (
    update sluice.kafka_senders set ends = null, lease_until = sluice.sluice_now() + $4 * interval '1 ms'
    where topic = $1 and epoch = $2
    returning topic
  ), removed as (
    delete from sluice.kafka_outbox o using done where o.topic = done.topic and o.id = any ($3::bigint[])
  )
  select topic from done`,
)

/** Removes what is known to be sent, and the note; false when another node has taken over. */
export async function noteSent(
  session: Session,
  { topic, epoch }: HeldSender,
  ids: readonly number[],
  leaseMs: number,
): Promise<boolean> {
  return (await session.query(sentStatement, [topic, epoch, ids, leaseMs])).length > 0
}

const releaseStatement = statement(
  'kafka-outbox.release',
  'update sluice.kafka_senders set holder = null, lease_until = null where topic = $1 and epoch = $2',
)

export async function releaseSender(session: Session, { topic, epoch }: HeldSender): Promise<void> {
  await session.execute(releaseStatement, [topic, epoch])
}

export interface Letter extends ShardId {
  readonly topic: string
  readonly offset: number
  readonly reason: string | null
  readonly detail: string | null
  readonly attempts: number
}

export interface OutboxRow {
  readonly id: number
  readonly recordId: string
  readonly key: string | null
  readonly value: string | null
  readonly letter: Letter | null
  /** Of a letter: the text of its record as far as the database has it. */
  readonly kept: string | null
}

const nextStatement = statement<OutboxRow>(
  'kafka-outbox.next',
  `
  select o.id, o.record_id as "recordId", o.key, o.value, o.letter,
    case when o.letter is not null then (
      select w.value from sluice.stream_waiting w
      where w.stream = o.letter ->> 'stream' and w.partition = (o.letter ->> 'partition')::int
        and w."offset" = (o.letter ->> 'offset')::bigint
    ) end as kept
  from (
    select *, sum(coalesce(octet_length(value), 2000)) over (order by id rows unbounded preceding)
      - coalesce(octet_length(value), 2000) as before
    from (select * from sluice.kafka_outbox where topic = $1 order by id limit $2) as first
  ) as o
  where before < $3
  order by o.id`,
)

/** What comes next for a topic, in order: up to 1,000 records and about 4 MiB. */
export function nextOut(session: Session, topic: string): Promise<OutboxRow[]> {
  return session.query(nextStatement, [topic, 1_000, 4_194_304])
}

const partitionsStatement = statement<{ partitions: number }>(
  'kafka-outbox.partitions',
  'select partitions from sluice.topics where name = $1',
)

/** How many partitions a topic is defined with. */
export async function topicPartitions(session: Session, topic: string): Promise<number | undefined> {
  return (await session.query(partitionsStatement, [topic]))[0]?.partitions
}
