/**
 * How far receivers of lineage events have been told.
 *
 * A run's transitions are numbered in the order of their commits, without gaps, so a number per run says what a receiver
 * has; no time or sequence over all runs could. Runs with news are those that have not ended, and those that ended
 * after the receiver's horizon. The horizon follows the present at a distance (`overlapMs`), for clocks that are set back and
 * commits that take long, and never passes a run of which something is still to be told.
 */
import { type Session, statement } from '../ports/database.ts'
import type { TransitionRow } from './reading/transitions.ts'

/** How far behind the present the horizon stays at least. */
const overlapMs = 120_000

const hold = statement(
  'lineage_feed.hold',
  `insert into sluice.lineage_receivers as r (receiver, horizon, holder, held_until)
   values ($1, sluice.sluice_now(), $2, sluice.sluice_now() + $3 * interval '1 ms')
   on conflict (receiver) do update set holder = excluded.holder, held_until = excluded.held_until
     where r.holder is null or r.holder = excluded.holder or r.held_until < sluice.sluice_now()`,
)

/** One node tells a receiver at a time. False: another one does. A receiver that is new is told what happens from now on. */
export async function holdReceiver(session: Session, receiver: string, node: string, forMs: number): Promise<boolean> {
  return (await session.execute(hold, [receiver, node, forMs])) === 1
}

const letGo = statement(
  'lineage_feed.let_go',
  'update sluice.lineage_receivers set holder = null where receiver = $1 and holder = $2',
)

export async function letReceiverGo(session: Session, receiver: string, node: string): Promise<void> {
  await session.execute(letGo, [receiver, node])
}

export interface RunNews {
  readonly id: string
  readonly workflow: string
  readonly version: string
  readonly logicalTime: Date | null
  /** The number of the last transition that the receiver has been told of. */
  readonly seq: number
  /** The number of its last one. */
  readonly last: number
}

const news = statement<RunNews>(
  'lineage_feed.runs',
  `select r.id, r.workflow, r.version, r.logical_time as "logicalTime", coalesce(s.seq, 0) as seq, r.seq as last
   from (
     select id from sluice.runs where state in ('queued', 'running')
     union all
     select r.id from sluice.runs r join sluice.lineage_receivers l on l.receiver = $1 where r.finished_at >= l.horizon
   ) as found
   join sluice.runs r on r.id = found.id
   left join sluice.lineage_sent s on s.receiver = $1 and s.run_id = r.id
   where r.seq > coalesce(s.seq, 0)
   order by r.id limit $2`,
)

/** Runs of which a receiver has not been told all, oldest first. */
export function runsWithNews(session: Session, receiver: string, limit: number): Promise<RunNews[]> {
  return session.query(news, [receiver, limit])
}

const transitions = statement<TransitionRow & { runId: string }>(
  'lineage_feed.transitions',
  `select g.run_id as "runId", t.seq, t.at, t.node, t.map_index as "mapIndex", t.attempt,
     t.from_state as "from", t.to_state as "to", t.detail
   from unnest($1::uuid[], $2::int8[]) as g(run_id, seq), lateral (
     select * from sluice.transitions t where t.run_id = g.run_id and t.seq > g.seq order by t.seq limit $3
   ) as t
   order by g.run_id, t.seq`,
)

/** The next transitions of each of these runs, `limit` a run at most, in order. */
export function nextTransitions(session: Session, runs: readonly RunNews[], limit: number) {
  return session.query(transitions, [runs.map(({ id }) => id), runs.map(({ seq }) => seq), limit])
}

const sent = statement(
  'lineage_feed.sent',
  `with told as (
     insert into sluice.lineage_sent as s (receiver, run_id, seq)
     select $1, run_id, seq from unnest($2::uuid[], $3::int8[]) as t(run_id, seq) order by run_id
     on conflict (receiver, run_id) do update set seq = greatest(s.seq, excluded.seq)
   )
   update sluice.lineage_receivers
   set sent = sent + $4, refused = refused + $5, 
     -- Why something was refused stays; that it could not be reached is over once it can.
     error = case when $7 then error else coalesce($6, case when failing_since is null then error end) end,
     failing_since = case when $7 then failing_since end
   where receiver = $1`,
)

export interface Told {
  readonly runId: string
  readonly seq: number
}

/**
 * Notes up to which transition a receiver has been told of runs. `refused`: events that it will never take, and why; `failing`:
 * there was more to tell, and it could not be reached.
 */
export async function noteTold(
  session: Session,
  receiver: string,
  told: readonly Told[],
  counts: { readonly sent: number; readonly refused: number; readonly error: string | null },
  failing: boolean,
): Promise<void> {
  const runs = told.map(({ runId }) => runId)
  const seqs = told.map(({ seq }) => seq)
  await session.execute(sent, [receiver, runs, seqs, counts.sent, counts.refused, counts.error, failing])
}

const failing = statement(
  'lineage_feed.failing',
  `update sluice.lineage_receivers set error = $2, failing_since = coalesce(failing_since, sluice.sluice_now())
   where receiver = $1`,
)

export async function noteFailing(session: Session, receiver: string, error: string): Promise<void> {
  await session.execute(failing, [receiver, error])
}

const advance = statement(
  'lineage_feed.advance',
  `with late as (
     select min(r.finished_at) as finished_at
     from sluice.runs r
     join sluice.lineage_receivers l on l.receiver = $1
     left join sluice.lineage_sent s on s.receiver = $1 and s.run_id = r.id
     where r.finished_at >= l.horizon and r.seq > coalesce(s.seq, 0)
   ), moved as (
     update sluice.lineage_receivers l
     set horizon = greatest(l.horizon,
       least(sluice.sluice_now() - $2 * interval '1 ms', coalesce(late.finished_at, 'infinity'::timestamptz)))
     from late where l.receiver = $1
     returning l.horizon
   )
   delete from sluice.lineage_sent s
   using moved
   where s.receiver = $1 and not exists (
     select from sluice.runs r
     where r.id = s.run_id and (r.finished_at is null or r.finished_at >= moved.horizon))`,
)

/** Forgets runs that ended long enough ago and of which all has been told. */
export async function advanceHorizon(session: Session, receiver: string): Promise<void> {
  await session.execute(advance, [receiver, overlapMs])
}

export interface LineageRow {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly kind: 'read' | 'write'
  readonly what: string
  readonly name: string
  readonly version: number | null
  readonly hash: string | null
  /** Of a version that was written. */
  readonly rows: number | null
}

const ofAttempts = statement<LineageRow>(
  'lineage_feed.of_attempts',
  `select l.run_id as "runId", l.node, l.map_index as "mapIndex", l.attempt, l.kind, l.what, l.dataset as name,
     l.version, l.hash, v.row_count as rows
   from unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) as a(run_id, node, map_index, attempt)
   join sluice.lineage l on l.run_id = a.run_id and l.node = a.node and l.map_index = a.map_index and l.attempt = a.attempt
   left join sluice.dataset_versions v
     on l.what = 'dataset' and l.kind = 'write' and v.dataset = l.dataset and v.version = l.version
   order by l.run_id, l.node, l.map_index, l.kind, l.what, l.dataset, l.version, l.hash`,
)

export interface AttemptPlace {
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
}

/** What attempts read and wrote, in a fixed order. */
export function lineageOfAttempts(session: Session, attempts: readonly AttemptPlace[]): Promise<LineageRow[]> {
  return session.query(ofAttempts, [
    attempts.map(({ runId }) => runId),
    attempts.map(({ node }) => node),
    attempts.map(({ mapIndex }) => mapIndex),
    attempts.map(({ attempt }) => attempt),
  ])
}
