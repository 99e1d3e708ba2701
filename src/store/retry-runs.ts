/** A new run for an ended one, which begins with results of it. */
import type { Reused } from '../core/reuse.ts'
import { type Session, statement } from '../ports/database.ts'

export interface RetryRun {
  readonly id: string
  /** The run that it retries; the caller holds it. */
  readonly of: string
  readonly workflow: string
  readonly version: string
  /** JSON text. */
  readonly params: string
  readonly priority: number
  readonly reused: readonly Reused[]
  /** Said of each task that is taken over, and of the first of them. */
  readonly detail: string
  readonly firstDetail: string
}

const insert = statement(
  'retry_runs.insert',
  `with made as (
     insert into sluice.runs (id, workflow, version, plan, params, priority, retry_of)
     values ($1, $2, $3, 'retry', $4::text::json, $5, $6)
   )
   select pg_notify('sluice_runs', '')`,
)

/** What the attempts of the old run had stored is the new run's too: its results may name it. */
const takeOver = statement<{ count: number }>(
  'retry_runs.take_over',
  `with pairs as (
     select * from unnest($3::int[], $4::int[]) as p(old, new)
   ), copied as (
     insert into sluice.tasks (run_id, node, map_index, state, attempt, result, finished_at)
     select $1, p.new, t.map_index, 'success', 0, t.result, sluice.sluice_now()
     from pairs p join sluice.tasks t on t.run_id = $2 and t.node = p.old and t.state = 'success'
     returning node, map_index
   ), widths as (
     insert into sluice.map_ranges (run_id, node, width)
     select $1, p.new, m.width from pairs p join sluice.map_ranges m on m.run_id = $2 and m.node = p.old
   ), objects as (
     insert into sluice.object_refs (referrer_kind, referrer_id, sha256)
     select 'run', ($1::uuid)::text, sha256 from sluice.object_refs
     where referrer_kind = 'run' and referrer_id = ($2::uuid)::text and exists (select from pairs)
     order by sha256
   ), logged as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     select $1, c.nth, sluice.sluice_now(), c.node, c.map_index, 0, 'none', 'success', case when c.nth = 1 then $6 else $5 end
     from (select *, row_number() over (order by node, map_index) as nth from copied) c
   ), changed as (
     update sluice.runs set seq = (select count(*) from copied) where id = $1
   )
   select count(*)::int as count from copied`,
)

/** Makes the run, in a transaction; gives how many tasks it took over. */
export async function insertRetry(session: Session, run: RetryRun): Promise<number> {
  const { id, of, workflow, version, params, priority, reused, detail, firstDetail } = run
  await session.execute(insert, [id, workflow, version, params, priority, of])
  const [from, to] = [reused.map((pair) => pair.from), reused.map((pair) => pair.to)]
  return (await session.query(takeOver, [id, of, from, to, detail, firstDetail]))[0]!.count
}
