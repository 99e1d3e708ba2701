/** What waits without a runner, and for how long: timers, approvals, sensors, runs of other workflows; limits of time. */
import { always, defaultGraceMs, type Invariant } from './breach.ts'

/** Two clocks of one machine, what a timer may be early by, and the way from a decision to its row. */
const earlyMs = 500

const nodes = `nodes as (
       select v.hash as version, w.value ->> 'name' as workflow, (w.value ->> 'timeoutMs')::float8 as run_limit, n.ordinality - 1 as node,
         coalesce(n.value ->> 'kind', 'action') as kind, (n.value ->> 'withinMs')::float8 as within, n.value -> 'teardownOf' is not null as teardown,
         (n.value -> 'approval' ->> 'deadlineMs')::float8 as deadline, (n.value -> 'args' ->> 'forMs')::float8 as lasts
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w,
         json_array_elements(w.value -> 'nodes') with ordinality n
     )`

const begins = `(t.to_state = 'running' or (t.to_state = 'deferred' and t.from_state <> 'running'))`

/** A run that was cleared runs for the person who cleared it. */
const notCleared = `not exists (select from sluice.transitions l where l.run_id = c.id and l.node = -1 and l.to_state = 'queued')`

export const waitInvariants: readonly Invariant[] = [
  /** 8. The runs that a finished run started have ended, or somebody wants them cancelled. */
  always(
    8,
    'waits.children-of-ended',
    `select format('run %s is %s, and run %s that its task %s/%s started is %s', p.id, p.state, c.id, c.parent_node, c.parent_map_index, c.state) as what
     from sluice.runs c join sluice.runs p on p.id = c.parent_run_id
     where p.state in ('success', 'failed', 'cancelled') and c.state in ('queued', 'running') and ${notCleared}
       and not exists (select from sluice.inbox i where i.run_id = c.id and i.kind = 'cancel')`,
  ),

  /** 3. Each attempt of a task that runs a workflow has started one run, which has the task's version; no other has one. */
  always(
    3,
    'waits.one-child',
    `with ${nodes}, started as (
       select t.run_id, t.node, t.map_index, t.attempt from sluice.transitions t join sluice.runs r on r.id = t.run_id
       join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = t.node
       where n.kind = 'workflow' and t.to_state = 'deferred'
     ), children as (
       select parent_run_id as run_id, parent_node as node, parent_map_index as map_index, parent_attempt as attempt, count(*) as runs
       from sluice.runs where parent_run_id is not null group by 1, 2, 3, 4
     )
     select format('attempt %s of task %s/%s/%s has started so many runs: %s', attempt, run_id, node, map_index,
       coalesce(c.runs, 0) || case when s.run_id is null then ', and did not begin' else '' end) as what
     from started s full join children c using (run_id, node, map_index, attempt)
     where (c.runs is distinct from 1 or s.run_id is null)
       and exists (select from sluice.runs r where r.id = coalesce(s.run_id, c.run_id))
       and exists (select from sluice.transitions l where l.run_id = coalesce(s.run_id, c.run_id) and l.seq = 1)`,
  ),

  /** 1. The end of a run is told to the task that waits for it, and the task ends as its last run did. */
  always(
    1,
    'waits.child-is-told',
    `select format('run %s is %s, and task %s/%s/%s, which waits for it, is not told', c.id, c.state, t.run_id, t.node, t.map_index) as what
     from sluice.runs c join sluice.tasks t on t.run_id = c.parent_run_id and t.node = c.parent_node and t.map_index = c.parent_map_index
     where c.state in ('success', 'failed', 'cancelled') and t.state = 'deferred' and t.attempt = c.parent_attempt
       and not exists (select from sluice.inbox i where i.run_id = t.run_id and i.kind = 'resume' and i.node = t.node
         and i.map_index = t.map_index and i.attempt = t.attempt)
     union all
     select format('task %s/%s/%s is success, and run %s, which it waited for, is %s', t.run_id, t.node, t.map_index, c.id, c.state)
     from sluice.tasks t join sluice.runs c on c.parent_run_id = t.run_id and c.parent_node = t.node and c.parent_map_index = t.map_index
       and c.parent_attempt = t.attempt
     where t.state = 'success' and (c.state <> 'success' or coalesce(c.result, 'null') <> t.result)
       -- What was cleared in it since may have ended otherwise; large results are objects.
       and ${notCleared} and c.state in ('success', 'failed', 'cancelled')`,
  ),

  /** 8. What a task started and waits for no longer is cancelled. */
  always(
    8,
    'waits.left-child',
    `select format('task %s/%s/%s is %s at attempt %s, and run %s of attempt %s goes on', t.run_id, t.node, t.map_index, t.state, t.attempt, c.id, c.parent_attempt) as what
     from sluice.runs c join sluice.tasks t on t.run_id = c.parent_run_id and t.node = c.parent_node and t.map_index = c.parent_map_index
     where c.state in ('queued', 'running') and (t.attempt <> c.parent_attempt or t.state <> 'deferred') and ${notCleared}
       and not exists (select from sluice.inbox i where i.run_id = c.id and i.kind = 'cancel')`,
  ),

  /** 10. Timers and deadlines are never early. */
  always(
    10,
    'waits.early',
    `with ${nodes}, begun as (
       select distinct on (t.run_id, t.node) t.run_id, t.node, t.at from sluice.transitions t
       where t.from_state = 'none' and t.to_state = 'deferred' order by t.run_id, t.node, t.seq desc
     )
     select format('task %s/%s (%s) began to wait at %s and was %s at %s: %s', t.run_id, t.node, n.kind, b.at, t.to_state, t.at,
       coalesce(t.detail, 'for ' || n.lasts || ' ms')) as what
     from sluice.transitions t join sluice.runs r on r.id = t.run_id
     join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = t.node
     join begun b on b.run_id = t.run_id and b.node = t.node and b.at <= t.at
     where t.from_state = 'deferred' and (
       (n.kind = 'wait' and t.to_state = 'success' and t.at < b.at + (n.lasts - $1) * interval '1 ms')
       or (n.kind = 'approval' and t.detail like '%nobody answered before the deadline%'
         and (n.deadline is null or t.at < b.at + (n.deadline - $1) * interval '1 ms')))`,
    () => [earlyMs],
  ),

  /** 10. The time limits of tasks and runs are never early. 6. Nothing starts when they are over, but teardowns. */
  always(
    10,
    'waits.limits-early',
    `with ${nodes}
     select format('task %s/%s/%s failed for its time limit of %s ms, after %s', t.run_id, t.node, t.map_index, n.within, t.finished_at - t.first_started_at) as what
     from sluice.tasks t join sluice.runs r on r.id = t.run_id
     join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = t.node
     where t.error like 'TIMEOUT: the time limit of the task%'
       and (n.within is null or t.finished_at < t.first_started_at + (n.within - $1) * interval '1 ms')
     union all
     select distinct format('run %s failed for its time limit of %s ms, after %s', r.id, n.run_limit, r.finished_at - r.started_at)
     from sluice.runs r join nodes n on n.version = r.version and n.workflow = r.workflow
     where r.error like 'TIMEOUT: the run took%'
       and (n.run_limit is null or r.finished_at < r.started_at + (n.run_limit - $1) * interval '1 ms')`,
    () => [earlyMs],
  ),
  always(
    6,
    'waits.limits-passed',
    `with ${nodes}, told as (
       select t.*, max(seq) filter (where to_state = 'none') over (partition by run_id, node, map_index) as cleared from sluice.transitions t
     ), begun as (
       select run_id, node, map_index, min(at) as first, max(at) as last from told t
       where node >= 0 and seq > coalesce(cleared, 0) and ${begins} group by 1, 2, 3
     )
     select format('task %s/%s/%s has a time limit of %s ms, began at %s, and again at %s', b.run_id, b.node, b.map_index, n.within, b.first, b.last) as what
     from begun b join sluice.runs r on r.id = b.run_id
     join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = b.node
     where b.last > b.first + (n.within + $1) * interval '1 ms'
     union all
     select format('run %s has a time limit of %s ms and began at %s; its task %s/%s began at %s', r.id, n.run_limit, r.started_at, b.node, b.map_index, b.last)
     from begun b join sluice.runs r on r.id = b.run_id
     join nodes n on n.version = r.version and n.workflow = r.workflow and n.node = b.node
     where not n.teardown and b.last > r.started_at + (n.run_limit + $1) * interval '1 ms'`,
    ({ graceMs = defaultGraceMs }) => [graceMs],
  ),
]
