/** What others want of a run's owner. A row stays until the run has ended, so that a crash forgets no wish. */
import { type Session, statement } from '../ports/database.ts'

export type InboxKind = 'cancel' | 'resume' | 'clear'

export interface InboxMessage {
  readonly id: number
  readonly runId: string
  readonly kind: InboxKind
  /** The task it is for, and for which of its attempts; -1 where it is for the run. */
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  /** JSON text. */
  readonly body: string | null
}

export interface NewMessage {
  readonly runId: string
  readonly kind: InboxKind
  /** The same wish has the same key: it is put once. */
  readonly key: string
  readonly task?: { readonly node: number; readonly mapIndex: number; readonly attempt: number }
  /** JSON text. */
  readonly body?: string
}

const put = statement<{ state: string | null }>(
  'inbox.put',
  `with run as (select id, state from sluice.runs where id = $1),
   put as (
     insert into sluice.inbox (run_id, kind, key, node, map_index, attempt, body)
     select id, $2, $3, $4, $5, $6, $7::json from run where state in ('queued', 'running')
     on conflict (key) do nothing
   ), told as (select pg_notify('sluice_inbox', $1::text))
   select run.state from run, told`,
)

/** Gives the state of the run at that moment; undefined when there is no such run. A finished run gets no message. */
export async function putInbox(session: Session, message: NewMessage): Promise<string | undefined> {
  const { runId, kind, key, task, body } = message
  const place = [task?.node ?? null, task?.mapIndex ?? null, task?.attempt ?? null]
  return (await session.query(put, [runId, kind, key, ...place, body ?? null]))[0]?.state ?? undefined
}

const readFor = statement<{
  id: number
  run_id: string
  kind: InboxKind
  node: number | null
  map_index: number | null
  attempt: number | null
  body: string | null
}>(
  'inbox.read_for_node',
  // From the few messages to their runs: planned while both are few, a join walks through the runs (5 ms of 1,000 held).
  `select i.id, i.run_id, i.kind, i.node, i.map_index, i.attempt, i.body::text as body
   from sluice.inbox i
   cross join lateral (select r.node_id, r.state from sluice.runs r where r.id = i.run_id offset 0) as r
   where i.id > $2 and (
     (r.node_id = $1 and r.state in ('queued', 'running'))
     or (i.kind = 'clear' and r.state in ('success', 'failed', 'cancelled')))
   order by i.id limit 1000`,
)

/** A page of what is for the runs of a node, after a message; also what is wanted cleared of runs that have ended meanwhile. */
export async function readInbox(session: Session, nodeId: string, after: number): Promise<InboxMessage[]> {
  return (await session.query(readFor, [nodeId, after])).map((row) => ({
    id: row.id,
    runId: row.run_id,
    kind: row.kind,
    node: row.node ?? -1,
    mapIndex: row.map_index ?? -1,
    attempt: row.attempt ?? -1,
    body: row.body,
  }))
}

const take = statement('inbox.take', 'delete from sluice.inbox where id = any ($1::int8[])')

/** Removes messages, in the transaction that commits what came of them; gives how many were still there. */
export function takeFromInbox(session: Session, ids: readonly number[]): Promise<number> {
  return session.execute(take, [ids])
}

const tell = statement(
  'inbox.tell_parents',
  `with told as (
     insert into sluice.inbox (run_id, kind, key, node, map_index, attempt, body)
     select r.parent_run_id, 'resume', 'ended ' || r.id || ' ' || r.seq, r.parent_node, r.parent_map_index, r.parent_attempt,
       json_build_object('state', r.state, 'error', r.error, 'result', r.result, 'run', r.id)
     from sluice.runs r
     where r.id = any ($1::uuid[]) and r.parent_run_id is not null and r.state in ('success', 'failed', 'cancelled')
     on conflict (key) do nothing
   )
   select pg_notify('sluice_inbox', '')`,
)

/** Tells the tasks that started these runs how they ended, in the transaction that ends them. */
export async function tellParents(session: Session, runIds: readonly string[]): Promise<void> {
  await session.execute(tell, [runIds])
}

const clean = statement(
  'inbox.clean',
  `delete from sluice.inbox i using sluice.runs r
   where r.id = i.run_id and i.kind <> 'clear' and r.state not in ('queued', 'running')`,
)

export function cleanInbox(session: Session): Promise<number> {
  return session.execute(clean)
}
