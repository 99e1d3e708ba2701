create schema if not exists sluice;

-- The one clock of all statements; tests set sluice.now for a transaction or a database.
create function sluice.sluice_now() returns timestamptz
language sql volatile parallel safe
return coalesce(nullif(current_setting('sluice.now', true), '')::timestamptz, clock_timestamp());

-- Day partitions of an append-only table, made ahead of need; a default partition catches what lies outside. A day
-- that has rows there already stays there: the other days are made all the same, and its rows leave with their day.
create function sluice.ensure_day_partitions(parent regclass, first_day date, days int) returns int
language plpgsql as $$
declare
  made int := 0;
  day date;
  child text;
begin
  for day in select first_day + n from generate_series(0, days - 1) as n loop
    child := format('%s_%s', (select relname from pg_class where oid = parent), to_char(day, 'YYYYMMDD'));
    if to_regclass(format('sluice.%I', child)) is null then
      begin
        execute format(
          'create table if not exists sluice.%I partition of %s for values from (%L) to (%L)',
          child, parent, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        made := made + 1;
      exception when check_violation then
        raise notice '% stays in the default partition of %', day, parent;
      end;
    end if;
  end loop;
  return made;
end $$;

-- Drops the day partitions before `keep_from`, and older rows of the default partition; gives the partitions' names.
create function sluice.drop_day_partitions(parent regclass, keep_from date) returns setof text
language plpgsql as $$
declare
  child text;
begin
  for child in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = parent and c.relname ~ '_\d{8}$' and to_date(right(c.relname, 8), 'YYYYMMDD') < keep_from
    order by c.relname
  loop
    execute format('drop table sluice.%I', child);
    return next child;
  end loop;
  execute format('delete from %s_default where %I < %L', parent,
    (select a.attname from pg_partitioned_table p join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
     where p.partrelid = parent),
    keep_from::timestamp at time zone 'UTC');
end $$;

-- Processes that hold leases: engines own runs, shard processes own shards.
create table sluice.nodes (
  id uuid primary key,
  kind text not null check (kind in ('engine', 'shard', 'serving', 'worker')),
  host text not null,
  pid int not null,
  started_at timestamptz not null default sluice.sluice_now(),
  heartbeat_at timestamptz not null default sluice.sluice_now(),
  lease_until timestamptz not null
);

-- What `build` made: the manifest of one set of definition files under its content hash.
create table sluice.versions (
  hash text primary key,
  manifest json not null,
  created_at timestamptz not null default sluice.sluice_now()
);

-- The version that takes new work, and the faults of files that could not be loaded.
create table sluice.deployment (
  one boolean primary key default true check (one),
  version text not null references sluice.versions,
  faults json not null default '[]',
  deployed_at timestamptz not null default sluice.sluice_now()
);

create table sluice.workflows (
  name text primary key,
  paused boolean not null default false
);

create table sluice.runs (
  id uuid primary key,
  workflow text not null,
  version text not null references sluice.versions,
  plan text not null default 'manual',
  logical_time timestamptz,
  params json not null,
  state text not null default 'queued' check (state in ('queued', 'running', 'success', 'failed', 'cancelled')),
  node_id uuid,
  epoch int not null default 0,
  -- The number of the last transition; the guard that lets two groups be under way at once.
  seq bigint not null default 0,
  error text,
  idempotency_key text,
  request_hash text,
  created_at timestamptz not null default sluice.sluice_now(),
  started_at timestamptz,
  finished_at timestamptz,
  unique (workflow, plan, logical_time)
);
create unique index runs_idempotency on sluice.runs (idempotency_key) where idempotency_key is not null;
create index runs_of_workflow on sluice.runs (workflow, id);
create index runs_of_state on sluice.runs (state, id);
create index runs_unfinished on sluice.runs (node_id, id) where state in ('queued', 'running');
create index runs_finished on sluice.runs (finished_at) where finished_at is not null;

-- A row appears at a task's first start, or when it ends without one. A task's UUID is computed from this key.
create table sluice.tasks (
  run_id uuid not null,
  node int not null,
  map_index int not null default -1,
  state text not null,
  attempt int not null default 0,
  losses int not null default 0,
  token bigint,
  result text,
  error text,
  retry_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  primary key (run_id, node, map_index)
) with (fillfactor = 80);

-- How many tasks a mapped node has, once its list is known.
create table sluice.map_ranges (
  run_id uuid not null,
  node int not null,
  width int not null check (width >= 0),
  primary key (run_id, node)
);

-- Append-only: every change of state of every task (node >= 0) and run (node = -1).
create table sluice.transitions (
  run_id uuid not null,
  seq bigint not null,
  at timestamptz not null,
  node int not null,
  map_index int not null,
  attempt int not null,
  from_state text not null,
  to_state text not null,
  detail text
) partition by range (at);
create table sluice.transitions_default partition of sluice.transitions default;
create index transitions_of_run on sluice.transitions (run_id, seq);

-- What others want of a run's owner. A row stays until the run has ended, so that a crash forgets no wish.
create table sluice.inbox (
  id bigint generated always as identity primary key,
  run_id uuid not null,
  kind text not null check (kind in ('cancel')),
  key text not null unique,
  created_at timestamptz not null default sluice.sluice_now()
);
create index inbox_of_run on sluice.inbox (run_id);

-- Results of durable steps inside a task.
create table sluice.checkpoints (
  run_id uuid not null,
  node int not null,
  map_index int not null,
  name text not null,
  result text not null,
  primary key (run_id, node, map_index, name)
);

-- How far the author's function says it is; the latest word of each task.
create table sluice.task_progress (
  run_id uuid not null,
  node int not null,
  map_index int not null,
  done float8 not null,
  total float8,
  primary key (run_id, node, map_index)
);

-- Where each plan stands, and one row for each of its ticks.
create table sluice.plan_cursors (
  workflow text not null,
  plan text not null,
  since timestamptz not null,
  primary key (workflow, plan)
);
create table sluice.ticks (
  workflow text not null,
  plan text not null,
  logical_time timestamptz not null,
  outcome text not null check (outcome in ('fired', 'late', 'skipped', 'caught_up')),
  reason text,
  run_id uuid,
  at timestamptz not null default sluice.sluice_now(),
  primary key (workflow, plan, logical_time)
);
create index ticks_at on sluice.ticks (at);
create table sluice.file_arrivals (
  workflow text not null,
  plan text not null,
  path text not null,
  size bigint not null,
  modified_ms bigint not null,
  run_id uuid not null,
  fired_at timestamptz not null default sluice.sluice_now(),
  primary key (workflow, plan, path)
);

-- The hot tier of logs: chunks of lines (one JSON object a line) keyed by (source, attempt, sequence).
-- The source is a task's UUID or a process's node id.
create table sluice.log_chunks (
  source uuid not null,
  attempt int not null,
  seq int not null,
  at timestamptz not null default sluice.sluice_now(),
  lines text not null
) partition by range (at);
create table sluice.log_chunks_default partition of sluice.log_chunks default;
create index log_chunks_of_source on sluice.log_chunks (source, attempt, seq);

-- Refuses a whole group statement when a guard of any of its rows did not hold.
create function sluice.require_all(
  runs bigint, runs_wanted bigint, started bigint, started_wanted bigint,
  ended bigint, ended_wanted bigint, settled bigint, settled_wanted bigint) returns int
language plpgsql as $$
begin
  if runs <> runs_wanted or started <> started_wanted or ended <> ended_wanted or settled <> settled_wanted then
    raise exception 'refused by the fence: runs % of %, starts % of %, ends % of %, others % of %',
      runs, runs_wanted, started, started_wanted, ended, ended_wanted, settled, settled_wanted;
  end if;
  return 0;
end $$;
