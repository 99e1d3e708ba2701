-- A backfill: one run for each tick of a plan between two times that has a reason to run (again).
create table sluice.backfills (
  id uuid primary key,
  workflow text not null,
  plan text not null,
  -- Its runs are all of this version.
  version text not null,
  -- Ticks `from_time <= tick < to_time`.
  from_time timestamptz not null,
  to_time timestamptz not null,
  reasons text[] not null,
  newest_first boolean not null,
  max_active int not null check (max_active > 0),
  params json not null,
  requested_by text not null,
  note text,
  paused boolean not null default false,
  -- submitting: ticks are still looked at; running: all runs are there; done: all have ended. What was cancelled, or
  -- failed to look at all ticks, is open as well until the last of its runs has ended.
  state text not null default 'submitting' check (state in ('submitting', 'running', 'done', 'cancelled', 'failed')),
  error text,
  -- How many ticks the plan has in that time, how many were looked at, and the last of those.
  ticks int not null,
  examined int not null default 0,
  position timestamptz,
  created_at timestamptz not null default sluice.sluice_now(),
  ended_at timestamptz
);
create index backfills_open on sluice.backfills (id) where ended_at is null;
create index backfills_of_workflow on sluice.backfills (workflow, id);

alter table sluice.runs
  add column backfill_id uuid,
  -- Why its tick was chosen.
  add column backfill_reason text,
  -- Nobody may take it yet: it waits for a place among the active runs of its lane.
  add column held boolean not null default false;

-- What may be taken is found without passing what is held.
create index runs_claimable on sluice.runs (priority desc, id) where state in ('queued', 'running') and not held;
create index runs_held on sluice.runs (backfill_id, id) where held;
create index runs_active_of_backfill on sluice.runs (backfill_id, id)
  where backfill_id is not null and state in ('queued', 'running') and not held;
create index runs_of_backfill on sluice.runs (backfill_id, state, backfill_reason) where backfill_id is not null;
create index runs_of_tick on sluice.runs (workflow, logical_time) where logical_time is not null;
