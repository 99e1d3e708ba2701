/** Runs and their log: the rows are the projection of the log. */
import { always, atRest, defaultGraceMs, type Invariant } from './breach.ts'

export const runInvariants: readonly Invariant[] = [
  /** 1. Every run that was acknowledged exists. */
  always(
    1,
    'runs.acknowledged',
    `select format('run %s was acknowledged and is not there', id) as what
     from unnest($1::uuid[]) as told (id) where not exists (select from sluice.runs r where r.id = told.id)`,
    ({ acknowledged }) => [acknowledged?.runs ?? []],
  ),

  /** 2. A workflow, plan and logical time make one run; so does an idempotency key. */
  always(
    2,
    'runs.unique',
    `select format('%s runs of %s by %s at %s', count(*), workflow, plan, logical_time) as what
     from sluice.runs where logical_time is not null group by workflow, plan, logical_time having count(*) > 1
     union all
     select format('%s runs under the idempotency key %s', count(*), idempotency_key)
     from sluice.runs where idempotency_key is not null group by idempotency_key having count(*) > 1`,
  ),

  /** 3. The epochs in a run's log only grow, and none is above the run's own. */
  always(
    3,
    'runs.epochs-grow',
    `select format('run %s: number %s of its log has epoch %s after epoch %s; the run has %s', t.run_id, t.seq, t.attempt, t.before, r.epoch) as what
     from (
       select run_id, seq, attempt, max(attempt) over (partition by run_id order by seq) as before
       from sluice.transitions where node = -1
     ) t join sluice.runs r on r.id = t.run_id
     where t.attempt < t.before or t.attempt > r.epoch`,
  ),

  /** 3. The owner whose write ended a run is the one that has it: nobody takes a run that has ended. */
  always(
    3,
    'runs.ended-by-owner',
    `select format('run %s became %s by a write of epoch %s, and has epoch %s', r.id, t.to_state, t.attempt, r.epoch) as what
     from sluice.transitions t join sluice.runs r on r.id = t.run_id
     where t.node = -1 and t.to_state in ('success', 'failed', 'cancelled') and t.to_state = r.state and t.attempt <> r.epoch
       -- Of a run that was cleared and ran again, the last end.
       and t.seq = r.seq`,
  ),

  /** 4. A run goes only along legal edges; none leads out of an end but a clear, which says who wanted it. */
  always(
    4,
    'runs.edges',
    `select format('run %s goes from %s to %s at number %s of its log', run_id, from_state, to_state, seq) as what
     from sluice.transitions
     where node = -1 and (from_state, to_state) not in (
       ('queued', 'running'), ('queued', 'failed'), ('queued', 'cancelled'),
       ('running', 'success'), ('running', 'failed'), ('running', 'cancelled'))
       and not (to_state = 'queued' and coalesce(detail, '') like 'cleared by %' and from_state in ('success', 'failed', 'cancelled'))`,
  ),

  /** 4. The log of a run is numbered from 1 up to the run's own number. Whole days of an ended run may be gone. */
  always(
    4,
    'runs.numbers',
    `with log as (
       select run_id, count(*) as rows, count(distinct seq) as numbers, min(seq) as first, max(seq) as last, min(at) as since
       from sluice.transitions group by run_id
     )
     select format('the log of run %s has %s rows with %s numbers from %s to %s; the run (%s) has %s',
       r.id, coalesce(l.rows, 0), coalesce(l.numbers, 0), l.first, l.last, r.state, r.seq) as what
     from sluice.runs r left join log l on l.run_id = r.id
     where coalesce(l.last, 0) <> r.seq or l.rows <> l.numbers or l.last - l.first + 1 <> l.rows
       or (l.first > 1 and not (r.finished_at is not null
         and (r.created_at at time zone 'UTC')::date < (l.since at time zone 'UTC')::date))`,
  ),

  /** 4. The state of a run is where its log ends. */
  always(
    4,
    'runs.replay',
    `with last as (
       select distinct on (run_id) run_id, to_state from sluice.transitions where node = -1 order by run_id, seq desc
     )
     select format('run %s is %s; by its log it is %s', r.id, r.state, coalesce(l.to_state, 'queued')) as what
     from sluice.runs r left join last l on l.run_id = r.id
     where r.state <> coalesce(l.to_state, 'queued')`,
  ),

  /** 4. What a run's row says fits its state: times in order, an error where it failed. */
  always(
    4,
    'runs.row',
    `select format('run %s is %s: created %s, started %s, finished %s, error %L', id, state, created_at, started_at, finished_at, error) as what
     from sluice.runs
     where (finished_at is not null) <> (state in ('success', 'failed', 'cancelled'))
       or (started_at is null and state in ('running', 'success'))
       or started_at < created_at or finished_at < coalesce(started_at, created_at)
       or (state = 'failed' and error is null) or (state = 'success' and error is not null)
       or seq < 0 or epoch < 0 or (node_id is not null and epoch < 1)`,
  ),

  /** 9. While an engine lives that could take it, no run names an owner whose lease lapsed long ago. */
  always(
    9,
    'runs.owner-is-dead',
    `with engines as (
       select id from sluice.nodes
       where kind = 'engine' and lease_until > sluice.sluice_now()
         and started_at < sluice.sluice_now() - $1 * interval '1 ms'
     ), room as (
       -- An engine holds 1,000 runs at most.
       select count(*) filter (where r.id is not null) < 1000 * (select count(*) from engines) as free
       from engines e left join sluice.runs r on r.node_id = e.id and r.state in ('queued', 'running')
     )
     select format('run %s is %s under node %s, which is dead (%s)', r.id, r.state, r.node_id,
       coalesce('its lease lapsed at ' || n.lease_until, 'it has no row')) as what
     from sluice.runs r left join sluice.nodes n on n.id = r.node_id
     where r.state in ('queued', 'running') and r.node_id is not null and (select room.free from room)
       and n.lease_until < sluice.sluice_now() - $1 * interval '1 ms'`,
    ({ graceMs = defaultGraceMs }) => [graceMs],
  ),

  /** 9. At rest every run has ended. */
  atRest(
    9,
    'runs.ended',
    `select format('run %s of %s is still %s (node %s, epoch %s)', id, workflow, state, node_id, epoch) as what
     from sluice.runs where state in ('queued', 'running')`,
  ),

  /** 12. What belongs to a run is gone when the run is. */
  always(
    12,
    'runs.orphans',
    `with owned as (
       select 'task' as kind, run_id from sluice.tasks
       union all select 'list', run_id from sluice.map_ranges
       union all select 'durable step', run_id from sluice.checkpoints
       union all select 'progress', run_id from sluice.task_progress
       union all select 'wish', run_id from sluice.inbox
     )
     select format('%s rows of the kind %s belong to run %s, which is not there', count(*), kind, run_id) as what
     from owned o where not exists (select from sluice.runs r where r.id = o.run_id) group by kind, run_id`,
  ),
]
