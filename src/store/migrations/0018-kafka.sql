-- Apache Kafka. A shard whose topic lies there has `kafka:<name>` as its topic.

-- One above the last offset of a shard's source, as its holder heard it last; null where the database knows it itself.
alter table sluice.shards add column source_end bigint;

-- Offsets that the source did not have any more (or, made anew, not yet) when they were to be read.
create table sluice.offset_gaps (
  stream text not null,
  partition int not null,
  from_offset bigint not null,
  to_offset bigint not null,
  at timestamptz not null default sluice.sluice_now()
);
create index offset_gaps_of_stream on sluice.offset_gaps (stream, at);

-- What is to be written to topics of Kafka: committed together with what it follows from, sent afterwards.
create table sluice.kafka_outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  record_id text not null,
  key text,
  value text,
  -- Of a dead letter, which has no value here: where its record lies, and why it ended.
  letter jsonb,
  at timestamptz not null default sluice.sluice_now(),
  check ((value is null) <> (letter is null))
);
create index kafka_outbox_of_topic on sluice.kafka_outbox (topic, id);

-- Who sends what is for a topic. `ends`: the ends of its partitions before a send that is not known to be over.
create table sluice.kafka_senders (
  topic text primary key,
  holder uuid,
  epoch bigint not null default 0,
  lease_until timestamptz,
  ends jsonb
);

-- How far topics are copied here for the plans that start runs for their records.
create table sluice.kafka_copies (
  topic text not null,
  partition int not null,
  next_offset bigint not null,
  primary key (topic, partition)
);
