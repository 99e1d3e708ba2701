/** What others want of a run's owner. A row stays until the run has ended, so that a crash forgets no wish. */
import { type Session, statement } from '../ports/database.ts'

export interface InboxMessage {
  readonly id: number
  readonly runId: string
  readonly kind: 'cancel'
}

const put = statement<{ state: string | null }>(
  'inbox.put',
  `with run as (select id, state from sluice.runs where id = $1),
   put as (
     insert into sluice.inbox (run_id, kind, key)
     select id, $2, $3 from run where state in ('queued', 'running')
     on conflict (key) do nothing
   ), told as (select pg_notify('sluice_inbox', $1::text))
   select run.state from run, told`,
)

/** Gives the state of the run at that moment; undefined when there is no such run. A finished run gets no message. */
export async function putInbox(
  session: Session,
  runId: string,
  kind: 'cancel',
  key: string,
): Promise<string | undefined> {
  return (await session.query(put, [runId, kind, key]))[0]?.state ?? undefined
}

const readFor = statement<{ id: number; run_id: string; kind: 'cancel' }>(
  'inbox.read_for_node',
  `select i.id, i.run_id, i.kind from sluice.inbox i join sluice.runs r on r.id = i.run_id
   where r.node_id = $1 and r.state in ('queued', 'running') order by i.id limit 10000`,
)

export async function readInbox(session: Session, nodeId: string): Promise<InboxMessage[]> {
  return (await session.query(readFor, [nodeId])).map((row) => ({ id: row.id, runId: row.run_id, kind: row.kind }))
}

const clean = statement(
  'inbox.clean',
  `delete from sluice.inbox i using sluice.runs r where r.id = i.run_id and r.state not in ('queued', 'running')`,
)

export function cleanInbox(session: Session): Promise<number> {
  return session.execute(clean)
}
