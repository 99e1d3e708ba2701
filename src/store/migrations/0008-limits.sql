-- What is scarce: slots of pools, of keys (customer:42), of workflows' workers and active runs, and tokens of rates.
create table sluice.limits (
  kind text not null check (kind in ('workers', 'key', 'pool', 'rate', 'runs')),
  name text not null,
  -- By the definitions: slots, or tokens per `per_ms`; null: nothing is said.
  declared int check (declared >= 0),
  per_ms bigint check (per_ms > 0),
  burst int check (burst >= 0),
  -- Whether the present deployment says so; what an earlier one said stands for the runs of its version.
  deployed boolean not null default false,
  -- By a person; it goes before what is declared. 0: closed.
  override int check (override >= 0),
  override_per_ms bigint check (override_per_ms > 0),
  override_burst int check (override_burst >= 0),
  set_by text,
  set_at timestamptz,
  -- Of a rate: the tokens in its bucket, at a time.
  level float8,
  level_at timestamptz,
  primary key (kind, name)
) with (fillfactor = 50);

-- How much a node was granted, and what it wishes: the first places of its line, as JSON.
create table sluice.limit_grants (
  kind text not null,
  name text not null,
  -- Of a key: for what.
  value text not null,
  node_id uuid not null,
  amount int not null check (amount >= 0),
  used bigint not null default 0,
  line json not null default '[]',
  primary key (kind, name, value, node_id)
) with (fillfactor = 50);
create index limit_grants_of_node on sluice.limit_grants (node_id);

-- What an engine shows of its limits, for people: who holds and who waits, the first hundred of each.
create table sluice.limit_lines (
  node_id uuid not null references sluice.nodes on delete cascade,
  kind text not null,
  name text not null,
  value text not null,
  in_use int not null,
  waiting int not null,
  holders json not null,
  line jsonb not null,
  shown_at timestamptz not null default sluice.sluice_now(),
  primary key (node_id, kind, name, value)
) with (fillfactor = 50);

-- What an engine shows of its runners: attempts under way, and how many there can be.
create table sluice.runner_slots (
  node_id uuid not null references sluice.nodes on delete cascade,
  lane text not null,
  busy int not null,
  slots int not null,
  -- Tasks that could start if a runner were free.
  ready int not null,
  shown_at timestamptz not null default sluice.sluice_now(),
  primary key (node_id, lane)
) with (fillfactor = 50);

-- When a run got its place among the active runs of its workflow, where these are limited.
alter table sluice.runs add column admitted_at timestamptz;
create index runs_of_workflow_unfinished on sluice.runs (workflow, id) where state in ('queued', 'running');
