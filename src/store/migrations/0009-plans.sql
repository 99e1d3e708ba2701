-- Every tick of every plan leaves a row, those of events too: two events may come in one millisecond.
alter table sluice.ticks
  -- What happened, where time alone does not say it: a file, a delivery, records of a topic, versions of datasets.
  add column event text not null default '',
  -- The order in which ticks were recorded, for lists.
  add column seq bigint generated always as identity,
  drop constraint ticks_pkey,
  add primary key (workflow, plan, logical_time, event);
create unique index ticks_in_order on sluice.ticks (seq);
create index ticks_of_workflow on sluice.ticks (workflow, seq);

-- Which records of a topic a plan has taken: the offset that comes next, moved with the insert of the runs. Records that
-- a plan has not taken are not trimmed.
create table sluice.plan_topic_cursors (
  workflow text not null,
  plan text not null,
  topic text not null,
  partition int not null,
  next_offset bigint not null,
  primary key (workflow, plan, topic, partition)
) with (fillfactor = 50);
create index plan_topic_cursors_of_topic on sluice.plan_topic_cursors (topic, partition);

-- Which versions of a dataset a plan has taken, moved with the insert of the runs.
create table sluice.plan_dataset_cursors (
  workflow text not null,
  plan text not null,
  dataset text not null,
  version bigint not null,
  primary key (workflow, plan, dataset)
) with (fillfactor = 50);

-- The deliveries that started a run, each under its id and under its signature: neither starts another one.
create table sluice.hook_deliveries (
  workflow text not null,
  plan text not null,
  key text not null,
  run_id uuid not null,
  at timestamptz not null default sluice.sluice_now(),
  primary key (workflow, plan, key)
);
create index hook_deliveries_at on sluice.hook_deliveries using brin (at);
