/** Topics: offsets without gaps, ids taken once, one partition for a key. */
import { always, defaultHistoryMs, type Invariant } from './breach.ts'

export const topicInvariants: readonly Invariant[] = [
  /** 1. Every record that was acknowledged exists: its id is known, and it is there unless records were trimmed. */
  always(
    1,
    'topics.acknowledged',
    `select format('record %L of topic %s was acknowledged; its id is %s and it is not there', told.id, told.topic,
       case when i.id is null then 'unknown' else 'known' end) as what
     from unnest($1::text[], $2::text[]) as told (topic, id)
     left join sluice.topic_ids i on i.topic = told.topic and i.id = told.id
     left join (select topic, id, "offset" from sluice.topic_records) r on r.topic = told.topic and r.id = told.id
     where i.id is null or (r."offset" is null
       and not exists (select from sluice.topic_partitions p where p.topic = told.topic and p.first_offset > 0))`,
    ({ acknowledged }) => [
      acknowledged?.records?.map(({ topic }) => topic) ?? [],
      acknowledged?.records?.map(({ id }) => id) ?? [],
    ],
  ),

  /** 1. The offsets of a partition are those from its first to its next, each once. */
  always(
    1,
    'topics.offsets',
    `with stored as (
       select topic, partition, count(*) as records, min("offset") as first, max("offset") as last from sluice.topic_records group by topic, partition
     )
     select format('%s/%s has %s records from %s to %s; its offsets go from %s to before %s', topic, partition,
       coalesce(s.records, 0), s.first, s.last, p.first_offset, p.next_offset) as what
     from sluice.topic_partitions p full join stored s using (topic, partition)
     where p.next_offset is null or coalesce(s.records, 0) <> p.next_offset - p.first_offset
       or s.first <> p.first_offset or s.last <> p.next_offset - 1`,
  ),

  /** 1. A topic has the partitions that it says. */
  always(
    1,
    'topics.partitions',
    `select format('topic %s has %s partitions; their rows are %s from %s to %s', t.name, t.partitions, count(p.partition), min(p.partition), max(p.partition)) as what
     from sluice.topics t left join sluice.topic_partitions p on p.topic = t.name
     group by t.name, t.partitions
     having count(p.partition) <> t.partitions or min(p.partition) <> 0 or max(p.partition) <> t.partitions - 1`,
  ),

  /** 2. An id is taken once: each record has its id, and each id its record unless that was trimmed. */
  always(
    2,
    'topics.ids',
    `select format('%s records of topic %s have the id %L', count(*), topic, id) as what
     from sluice.topic_records where published_at > sluice.sluice_now() - $1 * interval '1 ms'
     group by topic, id having count(*) > 1
     union all
     select format('record %L of topic %s (%s/%s) has no row that its id is taken', r.id, r.topic, r.partition, r."offset")
     from sluice.topic_records r
     where r.published_at > sluice.sluice_now() - $1 * interval '1 ms'
       and not exists (select from sluice.topic_ids i where i.topic = r.topic and i.id = r.id)
     union all
     select format('the id %L of topic %s is taken, and there is no record', i.id, i.topic)
     from sluice.topic_ids i
     -- Records of topics in Kafka lie there.
     where i.topic not like 'kafka:%'
       and not exists (select from sluice.topic_partitions p where p.topic = i.topic and p.first_offset > 0)
       and not exists (select from (select topic, id from sluice.topic_records) r where r.topic = i.topic and r.id = i.id)`,
    ({ historyMs = defaultHistoryMs }) => [historyMs],
  ),

  /** 11. Records of one key share a partition. A topic that got more partitions moves a key on, once. */
  always(
    11,
    'topics.key-partition',
    `with spans as (
       select topic, key, partition, min(published_at) as since, max(published_at) as until
       from sluice.topic_records where key is not null group by topic, key, partition
     )
     select format('key %L of topic %s is in the partitions %s and %s at a time', key, topic, partition, before_partition) as what
     from (
       select *, lag(partition) over w as before_partition, max(until) over (partition by topic, key order by since, partition rows between unbounded preceding and 1 preceding) as before
       from spans window w as (partition by topic, key order by since, partition)
     ) s where since < before`,
  ),

  /** 11. What a record says of its size is its size. */
  always(
    11,
    'topics.sizes',
    `select format('record %s/%s/%s says %s bytes and has %s', topic, partition, "offset", bytes, octet_length(value)) as what
     from sluice.topic_records where bytes <> octet_length(value)`,
  ),
]
