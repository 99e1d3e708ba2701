/**
 * Commits what a group of runs decided, in one statement: all of it or nothing.
 *
 * 1. Only the owner writes: each run is locked (in order of its id) if its node, epoch and sequence are those the owner
 *    knows. The sequence makes two groups under way at once safe: a refused group refuses its successor.
 * 2. A task starts only from no row or from `up_for_retry`; an attempt ends only with its token.
 * 3. Every change has its row in the transition log, numbered by the run's sequence.
 * Measured: one prepared statement with arrays, 40-65k tasks/s; BEGIN, statements, COMMIT half of it in small groups.
 */
import type { Transition } from '../core/run-progress.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

export interface RunChange {
  readonly runId: string
  readonly epoch: number
  /** The sequence before this change. */
  readonly seq: number
  /** Set when the run's own state changes; these are the last transitions then. */
  readonly state?: { readonly from: string; readonly to: string; readonly error?: string | undefined }
  readonly transitions: readonly Transition[]
  readonly expanded: readonly { readonly node: number; readonly width: number }[]
}

const commit = statement<{ refused: number }>(
  'transitions.commit_group',
  `with guarded as materialized (
     select r.id, g.added, g.state, g.error
     from unnest($2::uuid[], $3::int[], $4::int8[], $5::int[], $6::text[], $7::text[])
       as g(id, epoch, seq, added, state, error)
     join sluice.runs r on r.id = g.id and r.node_id = $1 and r.epoch = g.epoch and r.seq = g.seq
     where r.state in ('queued', 'running')
     order by r.id
     for update of r
   ), started as (
     insert into sluice.tasks as t (run_id, node, map_index, state, attempt, token, started_at)
     select ($2::uuid[])[s.run], s.node, s.map_index, 'running', s.attempt, s.token, sluice.sluice_now()
     from unnest($8::int[], $9::int[], $10::int[], $11::int[], $12::int8[]) as s(run, node, map_index, attempt, token)
     on conflict (run_id, node, map_index) do update
       set state = 'running', attempt = excluded.attempt, token = excluded.token, started_at = excluded.started_at,
           retry_at = null, error = null
       where t.state = 'up_for_retry' and t.attempt = excluded.attempt - 1
     returning 1
   ), ended as (
     update sluice.tasks t
     set state = e.state, result = e.result, error = e.error, losses = e.losses, token = null,
         retry_at = to_timestamp(e.retry_at), finished_at = case when e.state <> 'up_for_retry' then sluice.sluice_now() end
     from unnest($13::int[], $14::int[], $15::int[], $16::int8[], $17::text[], $18::text[], $19::text[], $20::int[], $21::float8[])
       as e(run, node, map_index, token, state, result, error, losses, retry_at)
     where t.run_id = ($2::uuid[])[e.run] and t.node = e.node and t.map_index = e.map_index and t.state = 'running' and t.token = e.token
     returning 1
   ), settled as (
     insert into sluice.tasks as t (run_id, node, map_index, state, attempt, error, finished_at)
     select ($2::uuid[])[s.run], s.node, s.map_index, s.state, s.attempt, s.error, sluice.sluice_now()
     from unnest($22::int[], $23::int[], $24::int[], $25::text[], $26::int[], $27::text[])
       as s(run, node, map_index, state, attempt, error)
     on conflict (run_id, node, map_index) do update
       set state = excluded.state, error = coalesce(excluded.error, t.error), finished_at = excluded.finished_at, retry_at = null
       where t.state = 'up_for_retry'
     returning 1
   ), widened as (
     insert into sluice.map_ranges (run_id, node, width)
     select ($2::uuid[])[w.run], w.node, w.width from unnest($28::int[], $29::int[], $30::int[]) as w(run, node, width)
     on conflict do nothing
   ), logged as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     select ($2::uuid[])[l.run], l.seq, sluice.sluice_now(), l.node, l.map_index, l.attempt, l.from_state, l.to_state, l.detail
     from unnest($31::int[], $32::int8[], $33::int[], $34::int[], $35::int[], $36::text[], $37::text[], $38::text[])
       as l(run, seq, node, map_index, attempt, from_state, to_state, detail)
   ), advanced as (
     update sluice.runs r
     set seq = r.seq + g.added,
         state = coalesce(g.state, r.state),
         error = coalesce(g.error, r.error),
         started_at = coalesce(r.started_at, case when g.state in ('running', 'success', 'failed') then sluice.sluice_now() end),
         finished_at = case when g.state in ('success', 'failed', 'cancelled') then sluice.sluice_now() end
     from guarded g where r.id = g.id
     returning 1
   )
   select sluice.require_all(
     (select count(*) from guarded), $39::int8,
     (select count(*) from started), cardinality($8::int[])::int8,
     (select count(*) from ended), cardinality($13::int[])::int8,
     (select count(*) from settled), cardinality($22::int[])::int8) as refused,
     (select count(pg_notify('sluice_run_ended', g.id::text)) from guarded g where g.state in ('success', 'failed', 'cancelled'))`,
)

/** Arrays are encoded by hand: handed over as text they cost a third of what the driver's own encoding does. */
class Column {
  private readonly parts: string[] = []
  add(value: number | string): void {
    this.parts.push(String(value))
  }
  addText(value: string | undefined): void {
    this.parts.push(value === undefined ? 'NULL' : quoted(value))
  }
  toString(): string {
    return `{${this.parts.join(',')}}`
  }
}

/** PostgreSQL's text cannot hold NUL. */
const quoted = (value: string) => `"${value.replaceAll('\0', '').replace(/[\\"]/g, '\\$&')}"`

const columns = (count: number): Column[] => Array.from({ length: count }, () => new Column())

/** @throws SluiceError FENCED when anything of the group is refused; nothing of it is written then. */
export async function commitGroup(session: Session, nodeId: string, changes: readonly RunChange[]): Promise<void> {
  const runs = columns(6)
  const starts = columns(5)
  const ends = columns(9)
  const settles = columns(6)
  const widths = columns(3)
  const log = columns(8)
  for (const [index, change] of changes.entries()) {
    const run = index + 1
    let seq = change.seq
    for (const t of change.transitions) {
      seq += 1
      add(log, run, seq, t.node, t.mapIndex, t.attempt, t.from, t.to, t.error)
    }
    for (const t of netOf(change.transitions)) {
      if (t.to === 'running') add(starts, run, t.node, t.mapIndex, t.attempt, t.token)
      else if (t.from === 'running') addEnd(ends, run, t)
      else addSettled(settles, run, t)
    }
    for (const { node, width } of change.expanded) add(widths, run, node, width)
    let from = change.state?.from
    for (const to of change.state ? stepsOf(change.state) : []) {
      seq += 1
      add(log, run, seq, -1, -1, change.epoch, from, to, change.state?.error)
      from = to
    }
    const [id, epoch, at, added, state, error] = runs as [Column, Column, Column, Column, Column, Column]
    id.add(change.runId)
    epoch.add(change.epoch)
    at.add(change.seq)
    added.add(seq - change.seq)
    state.addText(change.state?.to)
    error.addText(change.state?.error)
  }
  const values = [nodeId, ...runs, ...starts, ...ends, ...settles, ...widths, ...log].map(String)
  try {
    await session.query(commit, [...values, changes.length])
  } catch (error) {
    if (error instanceof Error && error.message.includes('refused by the fence')) {
      throw new SluiceError('FENCED', error.message, { cause: error })
    }
    throw error
  }
}

/**
 * Whether a group was refused since a run of it is not held, or does not stand, as its owner knows it; not for what was
 * decided of it. Such a run has only to be read again.
 */
export function wasTakenAway(error: unknown): boolean {
  if (!(error instanceof SluiceError) || error.code !== 'FENCED') return false
  const counts = /runs (\d+) of (\d+)/.exec(error.message)
  return counts !== null && counts[1] !== counts[2]
}

/** How many transitions a change adds, its run's own included. */
export function lengthOf(change: RunChange): number {
  return change.transitions.length + (change.state ? stepsOf(change.state).length : 0)
}

/** A run without a task to run (it maps over nothing) begins and ends at once. */
function stepsOf({ from, to }: { readonly from: string; readonly to: string }): readonly string[] {
  return from === 'queued' && to === 'success' ? ['running', 'success'] : [to]
}

/** A statement changes a row once: an attempt that failed and was cancelled before its retry ends as cancelled at once. */
function netOf(transitions: readonly Transition[]): readonly Transition[] {
  const settled = transitions.filter((t) => t.from === 'up_for_retry' && t.to !== 'running')
  if (settled.length === 0) return transitions
  const taskOf = (t: Transition) => `${t.node} ${t.mapIndex}`
  const after = new Map(settled.map((t) => [taskOf(t), t]))
  const joined = new Set<Transition>()
  const net = transitions.map((t) => {
    const next = t.to === 'up_for_retry' ? after.get(taskOf(t)) : undefined
    if (!next) return t
    joined.add(next)
    const { retryAt, ...rest } = t
    return { ...rest, to: next.to }
  })
  return net.filter((t) => !joined.has(t))
}

/** The last column of the log and of settled rows is text; states need no quotes. */
function add(to: Column[], ...values: (number | string | undefined)[]): void {
  for (const [index, value] of values.entries()) {
    const column = to[index]!
    if (typeof value === 'number') column.add(value)
    else column.addText(value)
  }
}

function addEnd(to: Column[], run: number, t: Transition): void {
  add(to, run, t.node, t.mapIndex, t.token, t.to, t.result, t.error, t.losses)
  const retryAt = to[8]!
  retryAt.add(t.retryAt === undefined ? 'NULL' : t.retryAt / 1000)
}

function addSettled(to: Column[], run: number, t: Transition): void {
  add(to, run, t.node, t.mapIndex, t.to, t.attempt, t.error)
}
