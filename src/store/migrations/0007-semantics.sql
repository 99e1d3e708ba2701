-- What a run may do besides running its own tasks to their end: wait without a runner, start runs of other workflows,
-- be cleared and run again, have a result.
alter table sluice.runs
  -- The task that started it, and for which of its attempts.
  add column parent_run_id uuid,
  add column parent_node int,
  add column parent_map_index int,
  add column parent_attempt int,
  -- JSON text of what its workflow returns.
  add column result text,
  -- The run whose unchanged results it took over.
  add column retry_of uuid,
  -- Runs of different lanes do not wait for each other: `default`, or `backfill`.
  add column lane text not null default 'default',
  add column priority int not null default 0;
create index runs_of_parent on sluice.runs (parent_run_id, parent_node) where parent_run_id is not null;

alter table sluice.tasks
  -- Attempts that ended since they had to wait for something; like losses they are apart from the policy of retries.
  add column waits int not null default 0,
  -- Attempts made before it was last cleared.
  add column base int not null default 0,
  -- What it waits for while it is deferred.
  add column wait json,
  -- The first start since it was last cleared: its time limit counts from here.
  add column first_started_at timestamptz;

alter table sluice.inbox
  drop constraint inbox_kind_check,
  add constraint inbox_kind_check check (kind in ('cancel', 'resume', 'clear')),
  -- The task it is for, where it is for one.
  add column node int,
  add column map_index int,
  -- The attempt it is for: a task that has gone on since wants nothing of it.
  add column attempt int,
  add column body json;

-- Refuses a whole group statement when a guard of any of its rows did not hold.
create function sluice.require_group(got bigint[], wanted bigint[]) returns int
language plpgsql as $$
begin
  if got <> wanted then
    raise exception 'refused by the fence: %', (
      select string_agg(format('%s %s of %s', what, f, w), ', ')
      from unnest(array['runs', 'starts', 'ends', 'others', 'waits', 'deferrals'], got, wanted) as c(what, f, w)
      where w is not null);
  end if;
  return 0;
end $$;
drop function sluice.require_all(bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint);
