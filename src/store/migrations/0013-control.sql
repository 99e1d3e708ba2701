-- Tasks that wait for something, such as an answer. The predicate names `wait` alone: with `state` in it no change of state
-- could stay in its page (HOT).
create index tasks_waiting on sluice.tasks (run_id, node, map_index) where wait is not null;

create index runs_retried on sluice.runs (retry_of, id) where retry_of is not null;

-- The run of a task among the 100,000 of a mapped one.
create index runs_of_parent_task on sluice.runs (parent_run_id, parent_node, parent_map_index) where parent_run_id is not null;
drop index sluice.runs_of_parent;

create index inbox_clears on sluice.inbox (id) where kind = 'clear';
