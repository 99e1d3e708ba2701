/** Runs: made by anybody, owned by one engine node at a time under an epoch that only grows. */
import { type Database, type Session, statement } from '../ports/database.ts'
import { cancelChildrenOf } from './child-runs.ts'
import { tellParents } from './inbox.ts'

export interface NewRun {
  readonly id: string
  readonly workflow: string
  readonly version: string
  /** `manual`, or the name of the plan. */
  readonly plan: string
  readonly logicalTime: Date | null
  /** JSON text. */
  readonly params: string
  readonly idempotencyKey: string | null
  /** What the key stands for: a hash of the request. */
  readonly requestHash: string | null
  /** Default `default`. */
  readonly lane?: string
  /** Default 0. */
  readonly priority?: number
}

const insertRuns = statement<{ id: string }>(
  'runs.insert',
  `with made as (
     insert into sluice.runs (id, workflow, version, plan, logical_time, params, idempotency_key, request_hash, lane, priority)
     select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[]::json[], $7::text[], $8::text[],
       $9::text[], $10::int[])
     on conflict do nothing
     returning id
   ), told as (select pg_notify('sluice_runs', '') from made limit 1)
   select made.id from made, (select count(*) from told) as t`,
)

/** Inserts runs and wakes the engines; gives the ids of those that are new (a tick or an idempotency key is taken once). */
export async function insertNewRuns(session: Session, runs: readonly NewRun[]): Promise<Set<string>> {
  const rows = await session.query(insertRuns, [
    runs.map((run) => run.id),
    runs.map((run) => run.workflow),
    runs.map((run) => run.version),
    runs.map((run) => run.plan),
    runs.map((run) => run.logicalTime),
    runs.map((run) => run.params),
    runs.map((run) => run.idempotencyKey),
    runs.map((run) => run.requestHash),
    runs.map((run) => run.lane ?? 'default'),
    runs.map((run) => run.priority ?? 0),
  ])
  return new Set(rows.map((row) => row.id))
}

const findByKey = statement<{ id: string; request_hash: string | null }>(
  'runs.find_by_idempotency_key',
  'select id, request_hash from sluice.runs where idempotency_key = $1',
)

export async function findRunByKey(
  session: Session,
  key: string,
): Promise<{ id: string; requestHash: string | null } | undefined> {
  const [row] = await session.query(findByKey, [key])
  return row && { id: row.id, requestHash: row.request_hash }
}

export interface OwnedRun {
  readonly id: string
  readonly workflow: string
  readonly version: string
  readonly params: string
  readonly state: 'queued' | 'running'
  readonly epoch: number
  readonly seq: number
  /** Somebody wants it cancelled. */
  readonly cancel: boolean
  /** A task of another run waits for its end. */
  readonly hasParent: boolean
  readonly lane: string
  readonly priority: number
  /** When it began, in milliseconds since the epoch; null before. */
  readonly startedAt: number | null
  /** Of the tick that started it, in milliseconds since the epoch; null where none did. */
  readonly logicalTime: number | null
}

/**
 * Takes over runs that nobody owns, or whose owner's lease has lapsed: the most urgent, then the oldest. Those of paused
 * workflows that have not begun are left; those that tasks of other runs wait for are not. Where the active runs of a
 * workflow are limited, only those that were admitted, and those that are to be cancelled.
 */
const claim = statement<OwnedRun>(
  'runs.claim',
  `update sluice.runs as r set node_id = $1, epoch = r.epoch + 1
   from (
     select id from sluice.runs as c
     where state in ('queued', 'running') and not held and (parent_run_id is not null or not $3)
       and (node_id is null or not exists (
         select from sluice.nodes n where n.id = c.node_id and n.lease_until > sluice.sluice_now()))
       and (state = 'running' or parent_run_id is not null or not exists (
         select from sluice.workflows w where w.name = c.workflow and w.paused)
         or exists (select from sluice.inbox i where i.run_id = c.id and i.kind = 'cancel'))
       and (state = 'running' or admitted_at is not null or lane <> 'default'
         or not exists (select from sluice.limits l
           where l.kind = 'runs' and l.name = c.workflow and coalesce(l.override, l.declared) is not null)
         or exists (select from sluice.inbox i where i.run_id = c.id and i.kind = 'cancel'))
     order by priority desc, id limit $2 for update skip locked
   ) as free
   where r.id = free.id
   returning r.id, r.workflow, r.version, r.params::text as params, r.state, r.epoch, r.seq::float8 as seq,
     exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel') as cancel,
     r.parent_run_id is not null as "hasParent", r.lane, r.priority,
     (extract(epoch from r.started_at) * 1000)::float8 as "startedAt",
     (extract(epoch from r.logical_time) * 1000)::float8 as "logicalTime"`,
)

/** @param childrenOnly only runs that tasks of other runs wait for. */
export function claimRuns(session: Session, nodeId: string, limit: number, childrenOnly = false): Promise<OwnedRun[]> {
  return session.query(claim, [nodeId, limit, childrenOnly])
}

/** Reads a run of ours again, with a new epoch, so that nothing which is still under way for it can be accepted. */
const reclaim = statement<OwnedRun>(
  'runs.reclaim',
  `update sluice.runs r set epoch = r.epoch + 1
   where r.id = $1 and r.node_id = $2 and r.state in ('queued', 'running')
   returning r.id, r.workflow, r.version, r.params::text as params, r.state, r.epoch, r.seq::float8 as seq,
     exists (select from sluice.inbox i where i.run_id = r.id and i.kind = 'cancel') as cancel,
     r.parent_run_id is not null as "hasParent", r.lane, r.priority,
     (extract(epoch from r.started_at) * 1000)::float8 as "startedAt",
     (extract(epoch from r.logical_time) * 1000)::float8 as "logicalTime"`,
)

export async function reclaimRun(session: Session, id: string, nodeId: string): Promise<OwnedRun | undefined> {
  return (await session.query(reclaim, [id, nodeId]))[0]
}

const release = statement(
  'runs.release',
  `with released as (
     update sluice.runs set node_id = null
     where node_id = $1 and state in ('queued', 'running') and id <> all ($2::uuid[])
     returning id
   )
   select pg_notify('sluice_runs', '') from released limit 1`,
)

/** Hands the runs of a node back but for those named, and wakes the engines to take them. */
export async function releaseRuns(session: Session, nodeId: string, but: readonly string[] = []): Promise<void> {
  await session.execute(release, [nodeId, but])
}

/** Ends a run that its owner cannot go on with, and its open tasks. The log says so like any other change of state. */
const fail = statement<{ token: number | null }>(
  'runs.fail',
  `with mine as (
     select id, seq from sluice.runs
     where id = $1 and node_id = $2 and epoch = $3 and state in ('queued', 'running')
     for update
   ), open as (
     select t.node, t.map_index, t.attempt, t.state, t.token, row_number() over (order by t.node, t.map_index) as nth
     from mine m join sluice.tasks t on t.run_id = m.id where t.state in ('running', 'up_for_retry', 'deferred')
   ), ended as (
     update sluice.tasks t
     set state = 'failed', token = null, retry_at = null, error = $4, finished_at = sluice.sluice_now()
     from open o where t.run_id = $1 and t.node = o.node and t.map_index = o.map_index
   ), failed as (
     update sluice.runs r
     set state = 'failed', error = $4, seq = m.seq + 1 + (select count(*) from open), finished_at = sluice.sluice_now()
     from mine m where r.id = m.id
     returning r.seq
   ), logged as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     select $1, m.seq + o.nth, sluice.sluice_now(), o.node, o.map_index, o.attempt, o.state, 'failed', $4
     from mine m, open o
     union all
     select $1, seq, sluice.sluice_now(), -1, -1, $3, $5, 'failed', $4 from failed
   )
   select token, (select count(pg_notify('sluice_run_ended', $1::text)) from failed) as told
   from failed left join open on token is not null`,
)

/** Gives the tokens of the attempts that were live. */
export function failRun(db: Database, run: OwnedRun, nodeId: string, error: string): Promise<number[]> {
  const text = error.replaceAll('\0', '')
  return db.transaction(async (session) => {
    const rows = await session.query(fail, [run.id, nodeId, run.epoch, text, run.state])
    if (rows.length > 0) await cancelChildrenOf(session, run.id)
    if (run.hasParent) await tellParents(session, [run.id])
    return rows.flatMap((row) => (row.token === null ? [] : [row.token]))
  })
}
