-- What operators asked of streams. A stream without a row runs.
create table sluice.stream_controls (
  stream text primary key,
  -- paused: nobody holds its shards. draining: its shards end what they have taken in, and read no more.
  mode text not null check (mode in ('running', 'paused', 'draining')),
  changed_at timestamptz not null default sluice.sluice_now()
);

-- Who asked for what, and why.
create table sluice.stream_operations (
  id uuid primary key,
  stream text not null,
  act text not null check (act in ('pause', 'resume', 'drain', 'rewind', 'scale')),
  by text not null,
  note text,
  detail jsonb not null,
  at timestamptz not null default sluice.sluice_now()
);
create index stream_operations_of_stream on sluice.stream_operations (stream, at desc);

-- A shard that was set back: what the ledger counted from `to_offset` on is taken back, since it is received again.
create table sluice.stream_rewinds (
  operation uuid not null references sluice.stream_operations,
  stream text not null,
  partition int not null,
  from_offset bigint not null,
  to_offset bigint not null check (to_offset < from_offset),
  received bigint not null,
  written bigint not null,
  duplicate bigint not null,
  filtered bigint not null,
  rejected bigint not null,
  dead bigint not null,
  waiting bigint not null,
  reasons jsonb not null,
  at timestamptz not null,
  primary key (stream, partition, operation)
);
