/**
 * The ledger: each record of a stream ended once, and where it says. Recounted record by record from the immutable rows;
 * folds are added as they are, since the days below them may be gone.
 */
import { always, atRest, type CheckOptions, type Invariant } from './breach.ts'

/** Streams whose rows are no documents. */
const others = ({ otherSinks = [], tables = [], topics = [] }: CheckOptions): readonly unknown[] => [
  [...otherSinks, ...tables.map(({ stream }) => stream), ...topics.map(({ stream }) => stream)],
]

/** The batches and the rows of records that no later rewind took back. */
const batches = `(select * from sluice.ledger_batches b where not exists (
  select from sluice.stream_rewinds r
  where r.stream = b.stream and r.partition = b.partition and r.at > b.committed_at and r.to_offset <= b.from_offset))`
const records = `(select * from sluice.ledger_records l where not exists (
  select from sluice.stream_rewinds r
  where r.stream = l.stream and r.partition = l.partition and r.at > l.at and r.to_offset <= l."offset"))`

/** Sources outside of the tables leave gaps between offsets; of HTTP every event takes one. */
const leavesGaps = `(s.topic like '%:%' and s.topic not like 'http:%')`

export const ledgerInvariants: readonly Invariant[] = [
  /** 11. Batches follow one another without an overlap, and without a gap unless the source leaves some, up to the committed offset. */
  always(
    11,
    'ledger.batches',
    `select format('%s/%s: a batch begins at %s where the one before ended at %s', stream, partition, from_offset, before) as what
     from (select *, lag(to_offset) over (partition by stream, partition order by from_offset, to_offset) as before from ${batches} b) b
     left join sluice.shards s using (stream, partition)
     where from_offset < before or (from_offset > before and not ${leavesGaps})
     union all
     select format('%s/%s: the offset is %s; its batches end at %s', s.stream, s.partition, s.committed_offset, b.last)
     from sluice.shards s join (select stream, partition, max(to_offset) as last from ${batches} b group by 1, 2) b using (stream, partition)
     where b.last > s.committed_offset or (b.last < s.committed_offset and not ${leavesGaps})
     union all
     select format('%s/%s has batches and is no shard', stream, partition)
     from (select distinct stream, partition from sluice.ledger_batches) b
     where not exists (select from sluice.shards s where s.stream = b.stream and s.partition = b.partition)`,
  ),

  /** 11. All that the offset passed was received: from where the shard began, which was an offset that is trimmed or the first. */
  always(
    11,
    'ledger.received',
    `with received as (
       select stream, partition, sum(received) as records from (
         select f.stream, f.partition, f.received from sluice.ledger_folds f
         union all
         select stream, partition, -received from sluice.stream_rewinds
         union all
         select b.stream, b.partition, b.received from sluice.ledger_batches b
         join sluice.shards s on s.stream = b.stream and s.partition = b.partition and b.committed_at >= s.folded_through
       ) r group by 1, 2
     )
     select format('%s/%s: the offset is %s of %s to %s, and %s were received', s.stream, s.partition, s.committed_offset,
       p.first_offset, p.next_offset, coalesce(r.records, 0)) as what
     from sluice.shards s
     left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
     left join received r on r.stream = s.stream and r.partition = s.partition
     where case
       when s.topic like 'http:%' then s.committed_offset <> coalesce(r.records, 0)
       when ${leavesGaps} then coalesce(r.records, 0) > s.committed_offset
       else p.topic is null or s.committed_offset > p.next_offset or s.committed_offset < p.first_offset
         or s.committed_offset - coalesce(r.records, 0) not between 0 and p.first_offset
     end`,
  ),

  /** 11. A batch counts each of its records under one end. */
  always(
    11,
    'ledger.batch-terms',
    `select format('%s/%s: the batch %s to %s counts %s received, %s written, %s duplicate, %s filtered, %s rejected, %s dead, %s waiting',
       stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting) as what
     from sluice.ledger_batches left join sluice.shards s using (stream, partition)
     where received not between 1 and to_offset - from_offset
       or (received <> to_offset - from_offset and not coalesce(${leavesGaps}, false))
       or received <> written + duplicate + filtered + rejected + dead + waiting
       or least(written, duplicate, filtered, rejected, dead, waiting) < 0`,
  ),

  /** 11. What a batch counts as ended otherwise than plainly are its records' rows, of the same instant. */
  always(
    11,
    'ledger.batch-details',
    `with points as (
       select stream, partition, from_offset as place, 0 as kind, from_offset as batch, null as outcome, null::timestamptz as at from ${batches} b
       union all
       select stream, partition, "offset", 1, null, outcome, at from ${records} l where was is null
     ), placed as (
       -- A record belongs to the batch that begins last before it: no join by range, which would compare each with each.
       select *, max(batch) over (partition by stream, partition order by place, kind) as from_offset from points
     ), details as (
       select stream, partition, from_offset, max(place) as last, count(distinct at) as instants, max(at) as at,
         count(*) filter (where outcome = 'duplicate') as duplicate, count(*) filter (where outcome = 'rejected') as rejected,
         count(*) filter (where outcome = 'dead') as dead, count(*) filter (where outcome = 'waiting') as waiting,
         count(*) filter (where outcome in ('written', 'filtered')) as wrong
       from placed where kind = 1 group by 1, 2, 3
     )
     select format('%s/%s: the batch from %s counts %s duplicate, %s rejected, %s dead, %s waiting; its rows are %s, %s, %s, %s (and %s wrong; up to %s; at %s)',
       stream, partition, from_offset, b.duplicate, b.rejected, b.dead, b.waiting,
       coalesce(d.duplicate, 0), coalesce(d.rejected, 0), coalesce(d.dead, 0), coalesce(d.waiting, 0), coalesce(d.wrong, 0), d.last, d.at) as what
     from ${batches} b left join details d using (stream, partition, from_offset)
     -- A batch that says by itself what it rejected, and why, has no rows.
     where (case when b.reasons is null then b.duplicate else 0 end, case when b.reasons is null then b.rejected else 0 end,
         b.dead, b.waiting, 0) is distinct from
       (coalesce(d.duplicate, 0), coalesce(d.rejected, 0), coalesce(d.dead, 0), coalesce(d.waiting, 0), coalesce(d.wrong, 0))
       or d.last >= b.to_offset or d.instants > 1 or d.at <> b.committed_at
       or b.rejected <> (select coalesce(sum(count::bigint), 0) from jsonb_each_text(b.reasons) as told (reason, count)) and b.reasons is not null`,
  ),

  /** 11. A record goes from one end to another only along the legal moves, and each row begins where another ended. */
  always(
    11,
    'ledger.chains',
    `with rows as (
       select stream, partition, "offset", outcome as state, 1 as step, was is null as head, record_id, at from ${records} l
       union all
       select stream, partition, "offset", was, -1, false, record_id, at from ${records} l where was is not null
     ), stands as (
       select stream, partition, "offset", state, sum(step) as left_over from rows group by 1, 2, 3, 4
     ), records as (
       select stream, partition, "offset", count(*) filter (where head) as heads, count(distinct record_id) as ids from rows group by 1, 2, 3
     ), kept as (
       select stream, partition, min(from_offset) as first from ${batches} b group by 1, 2
     ), judged as (
       select stream, partition, "offset", r.heads, r.ids, min(s.left_over) as lowest, sum(s.left_over) as ends, max(s.left_over) as highest
       from records r join stands s using (stream, partition, "offset") group by 1, 2, 3, 4, 5
     )
     select format('%s/%s/%s has %s beginnings, %s ids and %s ends in the ledger', stream, partition, "offset", heads, ids, ends) as what
     from judged left join kept using (stream, partition)
     where ids <> 1 or heads > 1 or ((lowest < 0 or highest > 1 or ends <> 1 or heads = 0) and "offset" >= coalesce(first, 0))
     union all
     select format('%s/%s/%s moves from %s to %s', stream, partition, "offset", was, outcome)
     from sluice.ledger_records where was is not null and (was, outcome) not in (
       ('waiting', 'written'), ('waiting', 'duplicate'), ('waiting', 'filtered'), ('waiting', 'rejected'), ('waiting', 'dead'),
       ('dead', 'waiting'), ('rejected', 'waiting'))
     union all
     select format('%s/%s/%s is in the ledger and was not received', r.stream, r.partition, r."offset")
     from sluice.ledger_records r left join sluice.shards s on s.stream = r.stream and s.partition = r.partition
     where s.stream is null or r."offset" >= s.committed_offset or r."offset" < 0`,
  ),

  /** 11. A record waits, or is dead, in the ledger exactly when its row in the table of the waiting says so. */
  always(
    11,
    'ledger.waiting',
    `with ends as (
       select stream, partition, "offset", min(record_id) as record_id,
         count(*) filter (where outcome = 'waiting') - count(*) filter (where was = 'waiting') as waiting,
         count(*) filter (where outcome = 'dead') - count(*) filter (where was = 'dead') as dead
       from ${records} l group by 1, 2, 3
     )
     select format('%s/%s/%s (%s): by the ledger %s, in the table of the waiting %s (%s)', stream, partition, "offset",
       coalesce(e.record_id, w.record_id), case when e.waiting > 0 then 'it waits' when e.dead > 0 then 'it is dead' else 'it has ended or is unknown' end,
       coalesce(w.state, 'it is not there'), w.record_id) as what
     from ends e full join sluice.stream_waiting w using (stream, partition, "offset")
     where (coalesce(e.waiting, 0) > 0) <> coalesce(w.state in ('waiting', 'retry'), false)
       or (coalesce(e.dead, 0) > 0) <> coalesce(w.state = 'dead', false)
       or (w.record_id <> e.record_id)`,
  ),

  /** 11. A row of the waiting fits its state. */
  always(
    11,
    'ledger.waiting-row',
    `select format('%s/%s/%s is %s: %s attempts, due %s, reason %s', stream, partition, "offset", state, attempts, due_at, coalesce(reason, 'none')) as what
     from sluice.stream_waiting
     where (due_at is not null) <> (state = 'retry') or attempts < 0
       or (state = 'dead' and reason is null)`,
  ),

  /** 11. What is marked as behind another of its key has one before it that waits. */
  always(
    11,
    'ledger.waiting-behind',
    `select format('%s/%s/%s waits behind its key %s, of which none before it waits', stream, partition, "offset", key) as what
     from (
       select *, lag("offset") over (partition by stream, partition, key order by "offset") as before
       from sluice.stream_waiting where state <> 'dead'
     ) waiting
     where behind and (key is null or before is null)`,
  ),

  /** 11. The edits of a record are numbered from 1, each begins with the value that the one before gave, and the last is the record's. */
  always(
    11,
    'ledger.edits',
    `with edits as (
       select *, row_number() over w as nth, lag(after) over w as given, lead(edit) over w is null as last
       from sluice.record_edits window w as (partition by stream, partition, "offset" order by edit)
     )
     select format('%s/%s/%s: edit %s is number %s, or begins with another value than the one before gave', stream, partition, "offset", edit, nth) as what
     from edits where edit <> nth or before <> given
     union all
     select format('%s/%s/%s was edited %s times; edit %s is the last', w.stream, w.partition, w."offset", w.edits, e.edit)
     from sluice.stream_waiting w left join edits e on e.stream = w.stream and e.partition = w.partition and e."offset" = w."offset" and e.last
     where w.edits <> coalesce(e.edit, 0) or w.value <> coalesce(e.after, w.value)
     union all
     select format('%s/%s/%s keeps %s errors, of %s attempts and %s replays', stream, partition, "offset", jsonb_array_length(errors), attempts, replays)
     from sluice.stream_waiting where jsonb_array_length(errors) > 20 or replays < 0 or earlier_attempts < 0`,
  ),

  /** 7. The errors of a record are those of its attempts, one by one, anew after each replay; the last is the last attempt's. */
  always(
    7,
    'ledger.errors',
    `with errors as (
       select w.stream, w.partition, w."offset", w.state, w.attempts, w.replays, w.reason as given, e.nth,
         jsonb_array_length(w.errors) as kept, e.error ->> 'reason' as reason, (e.error ->> 'attempt')::int as attempt,
         lag((e.error ->> 'attempt')::int) over (partition by w.stream, w.partition, w."offset" order by e.nth) as before
       from sluice.stream_waiting w, jsonb_array_elements(w.errors) with ordinality as e (error, nth)
     )
     select format('%s/%s/%s (%s, %s attempts, %s replays): error %s, "%s", is of attempt %s after attempt %s', stream, partition, "offset",
       state, attempts, replays, nth, reason, attempt, coalesce(before::text, 'none')) as what
     from errors
     -- Reasons of other names may tell of a try that does not count, as when a host rests.
     where (reason = 'failed' and attempt <> coalesce(before, 0) + 1 and not (attempt = 1 and replays > 0) and not (nth = 1 and kept = 20))
       or (reason = 'failed' and given = 'failed' and nth = kept and state <> 'waiting' and attempt <> attempts)`,
  ),

  /** 11. What counts as the duplicate of another record is of one that was not dead then. */
  always(
    11,
    'ledger.duplicates',
    `with deaths as (
       select stream, record_id, at, case when outcome = 'dead' then 1 else -1 end as step
       from ${records} l where outcome = 'dead' or was = 'dead'
     )
     select format('%s/%s/%s (%s) is a duplicate of %s, which was dead', d.stream, d.partition, d."offset", d.record_id, d.detail) as what
     from ${records} d join deaths f on f.stream = d.stream and f.record_id = d.detail and f.at <= d.at
     where d.outcome = 'duplicate'
     group by d.stream, d.partition, d."offset", d.record_id, d.detail, d.at having sum(f.step) > 0`,
  ),

  /** 11. A record that was written is there under its offset, and nothing else is. */
  always(
    11,
    'ledger.written',
    `with moved as (
       select stream, partition, "offset", min(record_id) as record_id,
         count(*) filter (where outcome = 'written') as written
       from ${records} l where stream <> all ($1::text[]) group by 1, 2, 3
     ), rows as (
       select stream, partition, "offset", record_id from sluice.documents where stream is not null and stream <> all ($1::text[])
     ), points as (
       select stream, partition, from_offset as place, 0 as kind, from_offset as batch, written from ${batches} b where stream <> all ($1::text[])
       union all
       -- The rows of records of which the ledger tells nothing further.
       select stream, partition, "offset", 1, null, null from rows left join moved m using (stream, partition, "offset") where m.written is null
     ), placed as (
       select *, max(batch) over (partition by stream, partition order by place, kind) as from_offset from points
     ), plain as (
       select stream, partition, from_offset, max(written) as written, count(*) filter (where kind = 1) as rows from placed group by 1, 2, 3
     )
     select format('%s/%s: the batch from %s counts %s written, and %s of its records are there', stream, partition, from_offset, written, rows) as what
     from plain where written is distinct from rows and from_offset is not null
     union all
     select format('%s/%s/%s (%s) was written by the ledger %s times; %s', m.stream, m.partition, m."offset", m.record_id, m.written,
       coalesce('the row there is of ' || r.record_id, 'it is not there'))
     from moved m left join rows r using (stream, partition, "offset")
     where m.written <> case when r."offset" is null then 0 else 1 end or r.record_id <> m.record_id
     union all
     select format('%s/%s/%s: %s rows', stream, partition, "offset", count(*)) from rows group by stream, partition, "offset" having count(*) > 1
     union all
     select format('%s/%s/%s is there and was not received', r.stream, r.partition, r."offset")
     from rows r left join sluice.shards s on s.stream = r.stream and s.partition = r.partition
     where s.stream is null or r."offset" >= s.committed_offset`,
    others,
  ),

  /** 11. The sums balance, folds and all: what waits and what is dead is there to be counted, so is what was written. */
  always(
    11,
    'ledger.sums',
    `with rows as (
       select stream, partition, written, duplicate, filtered, rejected, dead, waiting from sluice.ledger_folds
       union all
       select stream, partition, -written, -duplicate, -filtered, -rejected, -dead, -waiting from sluice.stream_rewinds
       union all
       select b.stream, b.partition, b.written, b.duplicate, b.filtered, b.rejected, b.dead, b.waiting
       from sluice.ledger_batches b join sluice.shards s on s.stream = b.stream and s.partition = b.partition and b.committed_at >= s.folded_through
       union all
       select r.stream, r.partition,
         (r.outcome = 'written')::int, (r.outcome = 'duplicate')::int, (r.outcome = 'filtered')::int,
         (r.outcome = 'rejected')::int - (r.was = 'rejected')::int, (r.outcome = 'dead')::int - (r.was = 'dead')::int,
         (r.outcome = 'waiting')::int - (r.was = 'waiting')::int
       from sluice.ledger_records r join sluice.shards s on s.stream = r.stream and s.partition = r.partition and r.at >= s.folded_through
       where r.was is not null
     ), sums as (
       select stream, partition, sum(written) as written, sum(duplicate) as duplicate, sum(filtered) as filtered, sum(rejected) as rejected,
         sum(dead) as dead, sum(waiting) as waiting from rows group by 1, 2
     ), waits as (
       select stream, partition, count(*) filter (where state = 'dead') as dead, count(*) filter (where state <> 'dead') as waiting
       from sluice.stream_waiting group by 1, 2
     ), kept as (
       select stream, partition, count(*) as written from sluice.documents where stream is not null group by 1, 2
     )
     select format('%s/%s: written %s of %s, duplicate %s, filtered %s, rejected %s, dead %s of %s, waiting %s of %s', s.stream, s.partition,
       coalesce(k.written, 0), s.written, s.duplicate, s.filtered, s.rejected, coalesce(w.dead, 0), s.dead, coalesce(w.waiting, 0), s.waiting) as what
     from sums s left join waits w using (stream, partition) left join kept k using (stream, partition)
     where least(s.written, s.duplicate, s.filtered, s.rejected, s.dead, s.waiting) < 0
       or s.dead <> coalesce(w.dead, 0) or s.waiting <> coalesce(w.waiting, 0)
       or (s.written <> coalesce(k.written, 0) and s.stream <> all ($1::text[]))`,
    others,
  ),

  /** 11. Of the records of one key in a shard, one is tried at a time; what came back from the dead comes in between. */
  always(
    11,
    'ledger.key-order',
    `with tried as (
       select w.stream, w.partition, w.key, w."offset" from sluice.stream_waiting w
       where w.state = 'retry' and w.key is not null and not exists (
         select from sluice.ledger_records r
         where r.stream = w.stream and r.partition = w.partition and r."offset" = w."offset" and r.was = 'dead')
     )
     select format('%s/%s: the records at %s of key %L are tried again at a time', stream, partition, string_agg("offset"::text, ', ' order by "offset"), key) as what
     from tried group by stream, partition, key having count(*) > 1`,
  ),

  /** 11. Of a distinct stream, how the first of a key ended is where that record is: dead, or at the document it led to. */
  always(
    11,
    'ledger.keys',
    `select format('key %L of %s ended dead with record %s, which is no dead letter', k.key, k.stream, k.record_id) as what
     from sluice.stream_keys k
     where k.outcome = 'dead' and not exists (
       select from sluice.stream_waiting w where w.stream = k.stream and w.record_id = k.record_id and w.state = 'dead')
     union all
     select format('key %L of %s led to the document %L, which is not there', k.key, k.stream, k.document_key)
     from sluice.stream_keys k
     where k.document_key is not null and k.outcome = 'written' and k.stream <> all ($1::text[])
       and not exists (select from (select distinct key from sluice.documents) d where d.key = k.document_key)`,
    others,
  ),

  /** 3. A shard that is held has an epoch and a lease; one that is not has nothing in memory. */
  always(
    3,
    'shards.lease',
    `select format('%s/%s: holder %s, epoch %s, lease until %s, %s in flight, %s parked', stream, partition, coalesce(holder::text, 'none'), epoch, lease_until, in_flight, parked) as what
     from sluice.shards
     where (holder is null) <> (lease_until is null) or (holder is not null and epoch < 1) or in_flight < 0 or parked < 0
       or (holder is null and (in_flight > 0 or parked > 0))`,
  ),

  /** 9. At rest nothing is pending: the offset is at the end, nothing waits, nothing is in anybody's memory. */
  atRest(
    9,
    'ledger.pending',
    `select format('%s/%s: %s records are not passed by the offset, %s in flight, %s parked', s.stream, s.partition, p.next_offset - s.committed_offset, s.in_flight, s.parked) as what
     from sluice.shards s left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
     where p.next_offset <> s.committed_offset or s.in_flight > 0 or s.parked > 0
     union all
     select format('%s/%s/%s (%s) still waits: %s, %s attempts, due %s', stream, partition, "offset", record_id, state, attempts, due_at)
     from sluice.stream_waiting where state <> 'dead'`,
  ),
]
