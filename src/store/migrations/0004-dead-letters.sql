-- The errors of a record's failed attempts, the last 20, the oldest first: they stay through retries and replays.
alter table sluice.stream_waiting
  add column errors jsonb not null default '[]',
  -- Attempts that failed before the last replay.
  add column earlier_attempts int not null default 0,
  -- How often it was replayed, and how often its value was edited.
  add column replays int not null default 0,
  add column edits int not null default 0;

create function sluice.with_error(errors jsonb, at timestamptz, attempt int, reason text, detail text) returns jsonb
language sql immutable parallel safe
return case when jsonb_array_length(errors) >= 20 then errors - 0 else errors end
  || jsonb_build_object('at', at, 'attempt', attempt, 'reason', reason, 'detail', detail);

-- Every change of a dead letter's value: the first `before` is the value as it was published. Append-only.
create table sluice.record_edits (
  stream text not null,
  partition int not null,
  "offset" bigint not null,
  edit int not null check (edit > 0),
  at timestamptz not null,
  -- Who, as the caller says.
  by text not null,
  note text,
  before text not null,
  after text not null,
  primary key (stream, partition, "offset", edit)
);
create index record_edits_age on sluice.record_edits using brin (at);

-- Answers to requests that bore an Idempotency-Key: asking again gives the same answer, and does nothing.
create table sluice.answered_requests (
  key text primary key,
  request_hash text not null,
  answer json not null,
  at timestamptz not null default sluice.sluice_now()
);
create index answered_requests_age on sluice.answered_requests using brin (at);
