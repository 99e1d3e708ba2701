/** Attempts: numbered without a gap, within their policy, and what they write is theirs. */
import { always, type Invariant } from './breach.ts'

export const attemptInvariants: readonly Invariant[] = [
  /**
   * 2. The attempts of a task are numbered from 1 without a gap, also over a clear, and an end bears the number of what it
   * ends. A wait of the engine is an attempt from its beginning on.
   */
  always(
    2,
    'attempts.numbers',
    `select format('task %s/%s/%s: %s -> %s at number %s is attempt %s after attempt %s', run_id, node, map_index, from_state, to_state, seq, attempt, before) as what
     from (
       select *, lag(attempt) over (partition by run_id, node, map_index order by seq) as before,
         min(seq) over (partition by run_id) > 1 as headless
       from sluice.transitions where node >= 0
     ) t
     where attempt <> coalesce(before, 0) + case when to_state = 'running' or (to_state = 'deferred' and from_state <> 'running') then 1 else 0 end
       and not (before is null and headless)`,
  ),

  /** 6. A workflow with a number of workers never has more attempts of one run at once. */
  always(
    6,
    'attempts.workers',
    `with limits as (
       select v.hash as version, w.value ->> 'name' as workflow, (w.value ->> 'workers')::int as workers
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w where w.value ->> 'workers' is not null
     ), live as (
       select t.run_id, l.workers, t.seq,
         sum(case when t.to_state = 'running' then 1 when t.from_state = 'running' then -1 else 0 end)
           over (partition by t.run_id order by t.seq) as attempts
       from sluice.transitions t join sluice.runs r on r.id = t.run_id
       join limits l on l.version = r.version and l.workflow = r.workflow
       where t.node >= 0
     )
     select format('run %s had up to %s attempts at once; %s are allowed', run_id, max(attempts), workers) as what
     from live where attempts > workers group by run_id, workers`,
  ),

  /** 7. A task's losses and waits are those of its log, since it was last cleared; so are the attempts of before. */
  always(
    7,
    'attempts.losses',
    `with told as (
       select *, max(seq) filter (where to_state = 'none') over (partition by run_id, node, map_index) as cleared
       from sluice.transitions where node >= 0
     ), counted as (
       select run_id, node, map_index,
         count(*) filter (where seq > coalesce(cleared, 0) and to_state in ('up_for_retry', 'failed')
           and detail like 'RUNNER\\_LOST: %') as losses,
         count(*) filter (where seq > coalesce(cleared, 0) and from_state = 'running' and to_state = 'deferred') as waits,
         coalesce(max(attempt) filter (where to_state = 'none'), 0) as base
       from told group by run_id, node, map_index
     ), heads as (
       select run_id, min(seq) > 1 as headless from sluice.transitions group by run_id
     )
     select format('task %s/%s/%s counts %s losses, %s waits, %s attempts before its clear; its log has %s, %s, %s',
       t.run_id, t.node, t.map_index, t.losses, t.waits, t.base, c.losses, c.waits, c.base) as what
     from sluice.tasks t join counted c using (run_id, node, map_index) join heads h using (run_id)
     where (t.losses <> c.losses or t.waits <> c.waits or t.base <> c.base) and not h.headless`,
  ),

  /**
   * 7. Failures stay within the author's policy and losses within ours; neither ends a task before its policy does. Where errors
   * have policies of their own, the widest and the narrowest hold: the log does not tell the class of an error.
   */
  always(
    7,
    'attempts.policy',
    `with policies as (
       select v.hash as version, w.value ->> 'name' as workflow, n.ordinality - 1 as node,
         greatest((n.value -> 'retry' ->> 'attempts')::int, own.most) as most, least((n.value -> 'retry' ->> 'attempts')::int, own.least) as least
       from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w,
         json_array_elements(w.value -> 'nodes') with ordinality n,
         lateral (select max((e.value ->> 'attempts')::int) as most, min((e.value ->> 'attempts')::int) as least
           from json_each(coalesce(n.value -> 'retry' -> 'errors', '{}')) e) own
     ), told as (
       select *, max(seq) filter (where to_state = 'none') over (partition by run_id, node, map_index) as cleared
       from sluice.transitions where node >= 0
     ), ends as (
       select t.run_id, t.node, t.map_index,
         count(*) filter (where lost) as losses, count(*) filter (where lost and to_state = 'up_for_retry') as retried_losses,
         count(*) filter (where not lost) as failures, count(*) filter (where not lost and to_state = 'up_for_retry') as retried,
         max(split_part(detail, ':', 1)) filter (where to_state = 'failed' and detail not like 'TIMEOUT: the time limit of the task%'
           and from_state = 'running') as gave_up
       from told t, lateral (select coalesce(t.detail like 'RUNNER\\_LOST: %', false) as lost) l
       where t.seq > coalesce(t.cleared, 0) and t.from_state in ('running', 'deferred') and t.to_state in ('up_for_retry', 'failed')
       group by 1, 2, 3
     )
     select format('task %s/%s/%s failed %s times (%s tried again) and lost its runner %s times (%s tried again), %s; %s to %s attempts are allowed',
       e.run_id, e.node, e.map_index, e.failures, e.retried, e.losses, e.retried_losses,
       coalesce('and gave up with ' || e.gave_up, 'and goes on'), p.least, p.most) as what
     from ends e join sluice.runs r on r.id = e.run_id
     join policies p on p.version = r.version and p.workflow = r.workflow and p.node = e.node
     where e.failures > p.most or e.retried > p.most - 1 or e.losses > 10 or e.retried_losses > 9
       or (e.gave_up in ('ACTION_FAILED', 'TIMEOUT') and e.failures < p.least)
       or (e.gave_up = 'RUNNER_LOST' and e.losses < 10)`,
  ),

  /** 3. While nothing fails, no attempt loses its runner and each run has one owner. */
  always(
    3,
    'attempts.undisturbed',
    `select format('nothing failed, and task %s/%s/%s ended attempt %s so: %s', run_id, node, map_index, attempt, detail) as what
     from sluice.transitions where $1 and node >= 0 and detail like 'RUNNER\\_LOST: %'
     union all
     select format('nothing failed, and run %s has epoch %s', id, epoch) from sluice.runs where $1 and epoch > 1`,
    ({ undisturbed = false }) => [undisturbed],
  ),

  /** 3. What an attempt keeps beside its end is kept for an attempt that was started. */
  always(
    3,
    'attempts.kept',
    `with kept as (
       select 'durable step ' || name as what, run_id, node, map_index, 1 as attempt from sluice.checkpoints
       union all
       select 'progress', run_id, node, map_index, 1 from sluice.task_progress
     )
     select format('%s of task %s/%s/%s, which has had %s attempts', k.what, k.run_id, k.node, k.map_index, coalesce(t.attempt, 0)) as what
     from kept k left join sluice.tasks t using (run_id, node, map_index)
     where coalesce(t.attempt, 0) < k.attempt and exists (select from sluice.runs r where r.id = k.run_id)`,
  ),

  /** 3. Lines are logged for attempts that were started; a chunk that was written twice is the same. */
  always(
    3,
    'attempts.logs',
    `with chunks as (
       select source, attempt, seq, count(distinct lines) as texts,
         ('x' || lpad(right(replace(source::text, '-', ''), 9), 16, '0'))::bit(64)::bigint as low
       from sluice.log_chunks group by source, attempt, seq
     ), named as (
       select source, attempt, seq, texts, ((low & 34359738367) >> 20)::int - 1 as node, (low & 1048575)::int - 1 as map_index,
         (left(source::text, 27) || to_hex((low & 34359738368) >> 32) || '00000000')::uuid as run_id
       from chunks
     )
     select format('the log of %s, attempt %s: chunk %s has %s texts; %s attempts were started', n.source, n.attempt, n.seq, n.texts,
       coalesce(t.attempt::text, 'no task, so no')) as what
     from named n left join sluice.tasks t on t.run_id = n.run_id and t.node = n.node and t.map_index = n.map_index
     where n.texts > 1
       or (exists (select from sluice.runs r where r.id = n.run_id) and (n.attempt < 1 or n.attempt > coalesce(t.attempt, 0)))`,
  ),
]
