/** Tasks: each row is where its log ends, and fits what the workflow says of its node. */
import { always, atRest, type Invariant } from './breach.ts'

export const taskInvariants: readonly Invariant[] = [
  /** 3. A task has a token exactly while it runs, and no two have the same. */
  always(
    3,
    'tasks.token',
    `select format('task %s/%s/%s is %s, attempt %s, token %s', run_id, node, map_index, state, attempt, coalesce(token::text, 'none')) as what
     from sluice.tasks where (token is not null) <> (state = 'running')
     union all
     select format('%s tasks have the token %s', count(*), token) from sluice.tasks
     where token is not null group by token having count(*) > 1`,
  ),

  /** 4. A task goes only along legal edges; none leads out of an end but a clear, which says who wanted it. */
  always(
    4,
    'tasks.edges',
    `select format('task %s/%s/%s goes from %s to %s at number %s', run_id, node, map_index, from_state, to_state, seq) as what
     from sluice.transitions
     where node >= 0 and (from_state, to_state) not in (
       ('none', 'scheduled'), ('none', 'queued'), ('none', 'running'), ('none', 'skipped'), ('none', 'upstream_failed'),
       ('none', 'cancelled'), ('none', 'removed'), ('none', 'deferred'), ('none', 'success'), ('none', 'failed'),
       ('scheduled', 'queued'), ('scheduled', 'running'), ('scheduled', 'skipped'), ('scheduled', 'upstream_failed'),
       ('scheduled', 'failed'), ('scheduled', 'cancelled'), ('scheduled', 'removed'),
       ('queued', 'running'), ('queued', 'scheduled'), ('queued', 'failed'), ('queued', 'cancelled'),
       ('running', 'success'), ('running', 'skipped'), ('running', 'deferred'), ('running', 'up_for_retry'),
       ('running', 'failed'), ('running', 'cancelled'),
       ('deferred', 'scheduled'), ('deferred', 'running'), ('deferred', 'success'), ('deferred', 'skipped'),
       ('deferred', 'up_for_retry'), ('deferred', 'failed'), ('deferred', 'cancelled'),
       ('up_for_retry', 'scheduled'), ('up_for_retry', 'queued'), ('up_for_retry', 'running'), ('up_for_retry', 'failed'),
       ('up_for_retry', 'deferred'), ('up_for_retry', 'cancelled'))
       and not (to_state = 'none' and coalesce(detail, '') like 'cleared by %'
         and from_state in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed'))`,
  ),

  /** 4. Each row of the log begins where the one before it of the same task or run ended. */
  always(
    4,
    'tasks.chain',
    `select format('%s/%s/%s: number %s goes from %s, but it was %s', run_id, node, map_index, seq, from_state, coalesce(before, 'new')) as what
     from (
       select *, lag(to_state) over (partition by run_id, node, map_index order by seq) as before,
         min(seq) over (partition by run_id) > 1 as headless
       from sluice.transitions
     ) t
     where from_state is distinct from coalesce(before, case when node < 0 then 'queued' else 'none' end)
       and not (before is null and headless)`,
  ),

  /** 4. The state and the attempt of a task are where its log ends; every task of the log has its row. */
  always(
    4,
    'tasks.replay',
    `with heads as (
       select run_id, min(seq) > 1 as headless from sluice.transitions group by run_id
     ), last as (
       select distinct on (t.run_id, t.node, t.map_index) t.run_id, t.node, t.map_index, t.to_state, t.attempt
       from sluice.transitions t join sluice.runs r on r.id = t.run_id
       where t.node >= 0 order by t.run_id, t.node, t.map_index, t.seq desc
     ), current as (
       select t.* from sluice.tasks t join sluice.runs r on r.id = t.run_id
     )
     select format('task %s/%s/%s is %s (attempt %s); by its log it is %s (attempt %s)', run_id, node, map_index,
       coalesce(c.state, 'not there'), c.attempt, coalesce(l.to_state, 'not there'), l.attempt) as what
     from current c full join last l using (run_id, node, map_index) left join heads h using (run_id)
     where (c.state is distinct from l.to_state or c.attempt is distinct from l.attempt)
       and not (l.to_state is null and coalesce(h.headless, false))
       -- The row of what had not begun goes when it is cleared.
       and not (c.state is null and l.to_state = 'none' and l.attempt = 0)`,
  ),

  /** 4. What a task's row says fits its state. */
  always(
    4,
    'tasks.row',
    `select format('task %s/%s/%s is %s: attempt %s, result %s, retry at %s, started %s, finished %s', run_id, node, map_index,
       state, attempt, case when result is null then 'none' else 'there' end, retry_at, started_at, finished_at) as what
     from sluice.tasks
     where (finished_at is not null) <> (state in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed'))
       or (retry_at is not null and state not in ('up_for_retry', 'deferred')) or (retry_at is null and state = 'up_for_retry')
       or (result is not null) <> (state = 'success') or (wait is not null) and state not in ('deferred', 'success', 'failed', 'skipped', 'cancelled')
       or (wait is null and state = 'deferred')
       or (started_at is not null) <> (attempt > base) or (first_started_at is not null) <> (attempt > base)
       or first_started_at > started_at + interval '1 s'
       or (attempt = base and state in ('running', 'up_for_retry', 'deferred')) or (attempt > base and state = 'none')
       or base < 0 or losses < 0 or waits < 0 or losses + waits > attempt - base or finished_at < started_at`,
  ),

  /** 4. What the engine decides has no attempt in a runner, and what a runner does has no end without one. */
  always(
    4,
    'tasks.kinds',
    `with nodes as (
       select v.hash as version, w.value ->> 'name' as workflow, n.ordinality - 1 as node,
         coalesce(n.value ->> 'kind', 'action') as kind
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w,
         json_array_elements(w.value -> 'nodes') with ordinality n
     )
     select format('task %s/%s/%s, of the kind %s, goes from %s to %s', t.run_id, t.node, t.map_index, n.kind, t.from_state, t.to_state) as what
     from sluice.transitions t join sluice.runs r on r.id = t.run_id
     join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = t.node
     where t.node >= 0 and (
       (t.to_state = 'running' and n.kind <> 'action')
       or (t.from_state = 'none' and t.to_state = 'deferred' and n.kind not in ('wait', 'approval', 'workflow'))
       or (t.from_state = 'none' and t.to_state = 'success' and n.kind not in ('branch', 'wait'))
       or (t.from_state = 'none' and t.to_state = 'failed' and n.kind not in ('branch', 'wait', 'approval'))
       or (t.from_state = 'deferred' and t.to_state in ('success', 'skipped') and n.kind = 'action')
       or (t.to_state = 'removed' and t.map_index < 0))`,
  ),

  /** 4. Tasks are those of the workflow: the node exists, and a mapped one has as many tasks as its list has items. */
  always(
    4,
    'tasks.node',
    `with nodes as (
       select v.hash as version, w.value ->> 'name' as workflow, n.ordinality - 1 as node, n.value -> 'over' is not null as mapped
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w,
         json_array_elements(w.value -> 'nodes') with ordinality n
     )
     select format('task %s/%s/%s (%s, attempt %s): the node is %s, its list has %s items', t.run_id, t.node, t.map_index, t.state,
       t.attempt, case when n.node is null then 'unknown' when n.mapped then 'mapped' else 'not mapped' end, coalesce(m.width::text, 'unknown')) as what
     from sluice.tasks t join sluice.runs r on r.id = t.run_id
     left join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = t.node
     left join sluice.map_ranges m on m.run_id = t.run_id and m.node = t.node
     where n.node is null
       or (not n.mapped and (t.map_index <> -1 or m.width is not null))
       or (n.mapped and t.map_index = -1 and t.attempt > 0)
       or (n.mapped and t.map_index >= 0 and (m.width is null or t.map_index >= m.width) and t.state not in ('none', 'removed'))
       or t.map_index < -1`,
  ),

  /** 8. An ended run has no task that may go on. */
  always(
    8,
    'tasks.ended-with-run',
    `select format('task %s/%s/%s is %s (token %s, retry at %s), and its run is %s', t.run_id, t.node, t.map_index, t.state,
       t.token, t.retry_at, r.state) as what
     from sluice.tasks t join sluice.runs r on r.id = t.run_id
     where r.state in ('success', 'failed', 'cancelled')
       and (t.state not in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed')
         or t.token is not null or t.retry_at is not null)`,
  ),

  /** 9. At rest no task runs or waits. */
  atRest(
    9,
    'tasks.ended',
    `select format('task %s/%s/%s is still %s (attempt %s)', run_id, node, map_index, state, attempt) as what
     from sluice.tasks where state not in ('success', 'failed', 'skipped', 'upstream_failed', 'cancelled', 'removed')`,
  ),
]
