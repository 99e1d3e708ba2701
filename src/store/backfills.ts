/**
 * Backfills: which ticks they have looked at, the runs they made, and which of those may be taken.
 *
 * 1. Whoever changes a backfill, its submission, its admission, a pause or its end, locks its row first and decides in a
 *    later statement, which sees what the holder before it has committed.
 * 2. The runs of a chunk of ticks, their rows in the ledger of ticks, and the position are one statement: a tick is looked
 *    at once, whoever is killed when.
 * 3. A run of a backfill is `held` until it has one of the places of its backfill. A held run is never taken, so it is
 *    `queued`, belongs to nobody, and has begun nothing.
 * 4. Rows of runs are locked in the order of their ids, as their owners do.
 */
import type { ChosenVerdict } from '../core/backfill.ts'
import { type Session, statement } from '../ports/database.ts'
import type { Backfill } from './reading/backfills.ts'

export interface NewBackfill {
  readonly id: string
  readonly workflow: string
  readonly plan: string
  readonly version: string
  readonly from: Date
  readonly to: Date
  readonly reasons: readonly ChosenVerdict[]
  readonly newestFirst: boolean
  readonly maxActive: number
  /** JSON text. */
  readonly params: string
  readonly requestedBy: string
  readonly note: string | null
  readonly ticks: number
}

const insert = statement(
  'backfills.insert',
  `with made as (
     insert into sluice.backfills
       (id, workflow, plan, version, from_time, to_time, reasons, newest_first, max_active, params, requested_by, note, ticks)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::json, $11, $12, $13)
   )
   select pg_notify('sluice_backfills', '')`,
)

/** Makes it known to the engines, which submit its runs. */
export async function insertBackfill(session: Session, backfill: NewBackfill): Promise<void> {
  const { id, workflow, plan, version, from, to, reasons, newestFirst, maxActive, params } = backfill
  const place = [id, workflow, plan, version, from, to, reasons, newestFirst, maxActive, params]
  await session.execute(insert, [...place, backfill.requestedBy, backfill.note, backfill.ticks])
}

export interface SubmittingBackfill {
  readonly id: string
  readonly workflow: string
  readonly plan: string
  readonly version: string
  readonly from: Date
  readonly to: Date
  readonly reasons: readonly ChosenVerdict[]
  readonly newestFirst: boolean
  /** JSON text. */
  readonly params: string
  readonly requestedBy: string
  /** The last tick that was looked at. */
  readonly position: Date | null
}

const take = statement<SubmittingBackfill>(
  'backfills.take',
  `select id, workflow, plan, version, from_time as "from", to_time as "to", reasons, newest_first as "newestFirst",
     params::text as params, requested_by as "requestedBy", position
   from sluice.backfills where state = 'submitting' and id <> all ($1::uuid[])
   order by id limit 1 for update skip locked`,
)

/** Two backfills of one workflow look at a tick one after the other: the second one sees the run of the first. */
const takeTurn = statement('backfills.take_turn', 'select from sluice.workflows where name = $1 for no key update')

/** Locks the oldest backfill with ticks to look at, but for those named and those that another engine is at. */
export async function takeSubmitting(
  session: Session,
  but: readonly string[],
): Promise<SubmittingBackfill | undefined> {
  const [backfill] = await session.query(take, [but])
  if (backfill) await session.execute(takeTurn, [backfill.workflow])
  return backfill
}

export interface ChunkRun {
  readonly id: string
  readonly logicalTime: Date
  readonly reason: ChosenVerdict
  /** JSON text. */
  readonly params: string
}

export interface Chunk {
  readonly backfillId: string
  /** The plan of the runs, and the one that the ticks are of. */
  readonly plan: string
  readonly tickPlan: string
  readonly workflow: string
  readonly version: string
  readonly requestedBy: string
  /** Ids grow in the order in which the runs are to start. */
  readonly runs: readonly ChunkRun[]
  readonly examined: number
  readonly position: Date | null
  /** There are no more ticks. */
  readonly last: boolean
}

/** A tick that was skipped gets its run now; other rows of the ledger tell of runs that there were, and stay. */
const submit = statement<{ runs: number }>(
  'backfills.submit',
  `with rows as (
     select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $8::text[]) as r(id, logical_time, reason, params)
   ), made as (
     insert into sluice.runs (id, workflow, version, plan, logical_time, params, lane, held, backfill_id, backfill_reason)
     select id, $5, $6, $7, logical_time, params::json, 'backfill', true, $4, reason from rows
     returning id, logical_time, backfill_reason
   ), ticked as (
     insert into sluice.ticks as t (workflow, plan, logical_time, outcome, reason, run_id)
     select $5, $9, logical_time, 'caught_up', $10, id from made where backfill_reason = 'missing'
     on conflict (workflow, plan, logical_time, event) do update
       set outcome = excluded.outcome, reason = excluded.reason, run_id = excluded.run_id, at = sluice.sluice_now()
       where t.outcome = 'skipped'
   ), moved as (
     update sluice.backfills
     set examined = examined + $11, position = coalesce($12::timestamptz, position),
       state = case when $13 then 'running' else state end
     where id = $4
   )
   select count(*)::int as runs from made`,
)

/** Gives how many runs it made. The caller holds the backfill. */
export async function submitChunk(session: Session, chunk: Chunk): Promise<number> {
  const [row] = await session.query(submit, [
    chunk.runs.map((run) => run.id),
    chunk.runs.map((run) => run.logicalTime),
    chunk.runs.map((run) => run.reason),
    chunk.backfillId,
    chunk.workflow,
    chunk.version,
    chunk.plan,
    chunk.runs.map((run) => run.params),
    chunk.tickPlan,
    `backfill ${chunk.backfillId} by ${chunk.requestedBy}`,
    chunk.examined,
    chunk.position,
    chunk.last,
  ])
  return row!.runs
}

const fail = statement(
  'backfills.fail',
  `update sluice.backfills set state = 'failed', error = $2 where id = $1 and state = 'submitting'`,
)

/** Gives up looking at the ticks of a backfill. The runs that it made go on. */
export async function failBackfill(session: Session, id: string, error: string): Promise<void> {
  await session.execute(fail, [id, error.replaceAll('\0', '')])
}

const lockOpen = statement<{ id: string; cancelled: boolean }>(
  'backfills.lock_open',
  `select id, state = 'cancelled' as cancelled from sluice.backfills where ended_at is null order by id for update`,
)

/**
 * Gives free places of each backfill to its held runs, in the order of their ids. A run that somebody wants cancelled
 * needs no place, also while its backfill is paused: its owner only ends it.
 */
const admit = statement<{ id: string }>(
  'backfills.admit',
  `with active as (
     select r.id, r.backfill_id from sluice.runs r
     where r.backfill_id = any ($1::uuid[]) and r.state in ('queued', 'running') and not r.held
   ), places as (
     select b.id, greatest(0, b.max_active - (select count(*) from active a where a.backfill_id = b.id)) as free
     from sluice.backfills b where b.id = any ($1::uuid[]) and not b.paused
   ), next as (
     select n.id from places p, lateral (
       select id from sluice.runs h
       where h.backfill_id = p.id and h.held and h.state = 'queued' order by h.id limit p.free
     ) as n
     union
     select i.run_id from sluice.inbox i join sluice.runs r on r.id = i.run_id
     where i.kind = 'cancel' and r.held and r.backfill_id = any ($1::uuid[])
   ), admitted as (
     update sluice.runs r set held = false from next where r.id = next.id and r.held returning r.id
   ), told as (
     select pg_notify('sluice_runs', '') from admitted limit 1
   )
   select id, (select count(*) from told) as told from admitted
   union all
   select id, 0 from active`,
)

/** The rest of what was cancelled with more runs than one statement ends. */
const endRest = statement(
  'backfills.end_rest',
  `with rest as (
     select r.id, b.error from sluice.backfills b join sluice.runs r on r.backfill_id = b.id
     where b.id = any ($1::uuid[]) and r.held and r.state = 'queued' and r.node_id is null and r.seq = 0
     order by r.id limit $2 for update of r
   ), ended as (
     update sluice.runs r set state = 'cancelled', held = false, seq = 1, error = rest.error, finished_at = sluice.sluice_now()
     from rest where r.id = rest.id and r.state = 'queued' and r.seq = 0
     returning r.id, r.epoch, r.error
   )
   insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
   select id, 1, sluice.sluice_now(), -1, -1, epoch, 'queued', 'cancelled', error from ended`,
)

const finish = statement(
  'backfills.finish',
  `update sluice.backfills b
   set state = case when b.state = 'running' then 'done' else b.state end, ended_at = sluice.sluice_now()
   where b.id = any ($1::uuid[]) and b.state <> 'submitting' and not exists (
     select from sluice.runs r where r.backfill_id = b.id and r.state in ('queued', 'running'))`,
)

export interface Claimable {
  /** Ids of the runs that have a place. */
  readonly active: readonly string[]
  /** There is more to do at once. */
  readonly more: boolean
}

/** Runs that one statement ends. */
const mostEnded = 10_000

/**
 * Makes as many held runs claimable as there are places, and ends the backfills all of whose runs have ended. To be called
 * in a transaction.
 */
export async function makeClaimable(session: Session): Promise<Claimable> {
  const open = await session.query(lockOpen)
  if (open.length === 0) return { active: [], more: false }
  const idsOf = (cancelled: boolean) => open.filter((one) => one.cancelled === cancelled).map(({ id }) => id)
  const rest = idsOf(true)
  const ended = rest.length === 0 ? 0 : await session.execute(endRest, [rest, mostEnded])
  const active = await session.query(admit, [idsOf(false)])
  await session.execute(finish, [open.map(({ id }) => id)])
  return { active: active.map(({ id }) => id), more: ended === mostEnded }
}

const lockOne = statement<{ state: Backfill['state']; ended: boolean }>(
  'backfills.lock',
  'select state, ended_at is not null as ended from sluice.backfills where id = $1 for update',
)

/** Locks a backfill and says how it stands; undefined when there is none. */
export async function lockBackfill(session: Session, id: string) {
  return (await session.query(lockOne, [id]))[0]
}

/** A run that was let go and that nobody has taken yet waits again. */
const pause = statement(
  'backfills.pause',
  `with paused as (
     update sluice.backfills set paused = $2 where id = $1 returning paused
   ), waiting as (
     select r.id from sluice.runs r, paused
     where paused and r.backfill_id = $1 and r.state = 'queued' and not r.held and r.node_id is null and r.seq = 0
     order by r.id for update of r
   ), back as (
     update sluice.runs r set held = true from waiting w
     where r.id = w.id and r.state = 'queued' and r.node_id is null and r.seq = 0
   )
   select pg_notify('sluice_backfills', '') from paused`,
)

/** The caller holds the backfill. While it is paused none of its runs starts; those that run go on. */
export async function pauseBackfill(session: Session, id: string, paused: boolean): Promise<void> {
  await session.execute(pause, [id, paused])
}

/**
 * One statement ends it all. A run that nobody ever took ends here and now, with its row in the log; the owner of any other
 * gets its message. What was not submitted never will be.
 */
const cancel = statement<{ ended: number; told: number }>(
  'backfills.cancel',
  `with over as (
     update sluice.backfills set state = 'cancelled', error = $2 where id = $1
   ), waiting as materialized (
     select id from sluice.runs
     where backfill_id = $1 and held and state = 'queued' and node_id is null and seq = 0
     order by id limit $3 for update
   ), placed as materialized (
     select id, state = 'queued' and node_id is null and seq = 0 as untouched from sluice.runs
     where backfill_id = $1 and state in ('queued', 'running') and not (held and node_id is null and seq = 0)
     order by id for update
   ), ended as (
     update sluice.runs r set state = 'cancelled', held = false, seq = 1, error = $2, finished_at = sluice.sluice_now()
     from (select id from waiting union all select id from placed where untouched) as u
     where r.id = u.id and r.state = 'queued' and r.seq = 0
     returning r.id, r.epoch
   ), logged as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     select id, 1, sluice.sluice_now(), -1, -1, epoch, 'queued', 'cancelled', $2 from ended
   ), messages as (
     insert into sluice.inbox (run_id, kind, key)
     select id, 'cancel', 'cancel ' || id from placed where not untouched
     on conflict (key) do nothing
   )
   select (select count(*)::int from ended) as ended, (select count(*)::int from placed where not untouched) as told,
     pg_notify('sluice_inbox', ''), pg_notify('sluice_backfills', '')`,
)

/** So many runs end in the statement itself, 1 s or so; of more the engines end the rest, which nobody can take. */
const mostCancelled = 20_000

/** Gives how many runs it ended, and how many their owners will end. The caller holds the backfill. */
export async function cancelBackfill(session: Session, id: string, why: string, most = mostCancelled) {
  const [row] = await session.query(cancel, [id, why, most])
  return { ended: row!.ended, told: row!.told }
}

const forget = statement(
  'backfills.forget',
  `delete from sluice.backfills b
   where b.ended_at < $1 and not exists (select from sluice.runs r where r.backfill_id = b.id)`,
)

/** Deletes those that ended before a time and none of whose runs is kept; gives their number. */
export function forgetBackfills(session: Session, before: Date): Promise<number> {
  return session.execute(forget, [before])
}
