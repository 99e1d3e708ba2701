-- Topics: durable logs. The row of a partition is locked by whoever appends to it, so offsets have no gaps and become
-- visible in order.
create table sluice.topics (
  name text primary key,
  partitions int not null check (partitions between 1 and 256),
  created_at timestamptz not null default sluice.sluice_now()
);
create table sluice.topic_partitions (
  topic text not null references sluice.topics,
  partition int not null,
  first_offset bigint not null default 0,
  next_offset bigint not null default 0,
  primary key (topic, partition),
  check (first_offset between 0 and next_offset)
) with (fillfactor = 50);
create table sluice.topic_records (
  topic text not null,
  partition int not null,
  "offset" bigint not null,
  id text not null,
  key text,
  value text not null,
  bytes int not null,
  published_at timestamptz not null,
  primary key (topic, partition, "offset")
);
-- What was ever published, so that publishing again adds nothing.
create table sluice.topic_ids (
  topic text not null,
  id text not null,
  published_at timestamptz not null,
  primary key (topic, id)
);
create index topic_ids_age on sluice.topic_ids using brin (published_at);

-- A shard is one partition of a stream's topic; its holder alone commits, under the epoch it acquired it with.
-- Everything that writes the ledger of a shard holds the lock of its row.
create table sluice.shards (
  stream text not null,
  partition int not null,
  topic text not null,
  holder uuid,
  epoch bigint not null default 0,
  lease_until timestamptz,
  committed_offset bigint not null,
  committed_at timestamptz,
  -- Ledger rows below this time are summed up in ledger_folds.
  folded_through timestamptz not null default '-infinity',
  -- What the holder has in memory, as of its last commit or renewal.
  in_flight int not null default 0,
  parked int not null default 0,
  primary key (stream, partition)
) with (fillfactor = 50);
create index shards_of_topic on sluice.shards (topic);

-- Records the offset has passed that have not ended: they wait (slow, queued, or parked behind their key), are up for
-- retry, or are dead letters, which end here until they are replayed.
create table sluice.stream_waiting (
  stream text not null,
  partition int not null,
  "offset" bigint not null,
  record_id text not null,
  key text,
  value text not null,
  state text not null check (state in ('waiting', 'retry', 'dead')),
  attempts int not null,
  due_at timestamptz,
  reason text,
  detail text,
  since timestamptz not null,
  primary key (stream, partition, "offset")
) with (fillfactor = 80);
create index stream_waiting_live on sluice.stream_waiting (stream, partition, state) where state <> 'dead';
create index stream_waiting_dead on sluice.stream_waiting (stream, partition, "offset") where state = 'dead';
create index stream_waiting_dead_key on sluice.stream_waiting (stream, key) where state = 'dead' and key is not null;

-- Of a distinct stream: how the first record of each key ended, and the document it led to.
create table sluice.stream_keys (
  stream text not null,
  key text not null,
  record_id text not null,
  outcome text not null check (outcome in ('written', 'duplicate', 'filtered', 'rejected', 'dead')),
  document_key text,
  at timestamptz not null,
  primary key (stream, key)
);

-- The ledger: immutable rows. One per committed batch; one per record whose end is not plain (was is null: the detail of
-- what its batch counts), and one for each later change of its end (was is what it was).
create table sluice.ledger_batches (
  stream text not null,
  partition int not null,
  from_offset bigint not null,
  to_offset bigint not null,
  received int not null,
  written int not null,
  duplicate int not null,
  filtered int not null,
  rejected int not null,
  dead int not null,
  waiting int not null,
  committed_at timestamptz not null,
  check (received = to_offset - from_offset),
  check (received = written + duplicate + filtered + rejected + dead + waiting)
) partition by range (committed_at);
create table sluice.ledger_batches_default partition of sluice.ledger_batches default;
create index ledger_batches_of_stream on sluice.ledger_batches (stream, committed_at);

create table sluice.ledger_records (
  stream text not null,
  partition int not null,
  "offset" bigint not null,
  record_id text not null,
  outcome text not null check (outcome in ('written', 'duplicate', 'filtered', 'rejected', 'dead', 'waiting')),
  was text check (was in ('waiting', 'dead', 'rejected')),
  reason text,
  detail text,
  at timestamptz not null
) partition by range (at);
create table sluice.ledger_records_default partition of sluice.ledger_records default;
create index ledger_records_of_record on sluice.ledger_records (stream, partition, "offset");
create index ledger_records_of_stream on sluice.ledger_records (stream, partition, at) include (outcome, was, reason);

-- What the ledger rows of a shard below a time add up to, so that their partitions can be dropped.
create table sluice.ledger_folds (
  stream text not null,
  partition int not null,
  through timestamptz not null,
  received bigint not null,
  written bigint not null,
  duplicate bigint not null,
  filtered bigint not null,
  rejected bigint not null,
  dead bigint not null,
  waiting bigint not null,
  reasons jsonb not null,
  primary key (stream, partition, through)
);

select sluice.ensure_day_partitions('sluice.ledger_batches', (sluice.sluice_now() at time zone 'UTC')::date, 7);
select sluice.ensure_day_partitions('sluice.ledger_records', (sluice.sluice_now() at time zone 'UTC')::date, 7);

-- Documents: JSON under unique keys; byte fields beside them, so that changing the JSON never rewrites the bytes.
create table sluice.documents (
  collection text not null,
  key text not null,
  seq bigint generated always as identity,
  body jsonb not null,
  -- The record it came from; null when an author put it.
  record_id text,
  stream text,
  partition int,
  "offset" bigint,
  inserted_at timestamptz not null default sluice.sluice_now(),
  updated_at timestamptz not null default sluice.sluice_now(),
  primary key (collection, key)
) with (fillfactor = 90);
create unique index documents_in_order on sluice.documents (collection, seq);
create index documents_body on sluice.documents using gin (body jsonb_path_ops);

create table sluice.document_bytes (
  collection text not null,
  key text not null,
  field text not null,
  -- Either the bytes or, when they are many, the sha256 of an object.
  bytes bytea,
  object text,
  size bigint not null,
  primary key (collection, key, field),
  check ((bytes is null) <> (object is null))
);
alter table sluice.document_bytes alter column bytes set storage external;
