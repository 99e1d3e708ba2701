/** Processes with a heartbeat. A node whose lease has lapsed owns nothing any more. */
import { type Session, statement } from '../ports/database.ts'

export type NodeKind = 'engine' | 'shard' | 'serving' | 'worker'

const register = statement(
  'nodes.register',
  `insert into sluice.nodes (id, kind, host, pid, lease_until)
   values ($1, $2, $3, $4, sluice.sluice_now() + $5 * interval '1 millisecond')`,
)

export async function registerNode(
  session: Session,
  node: {
    readonly id: string
    readonly kind: NodeKind
    readonly host: string
    readonly pid: number
    readonly leaseMs: number
  },
): Promise<void> {
  await session.execute(register, [node.id, node.kind, node.host, node.pid, node.leaseMs])
}

const renew = statement(
  'nodes.renew',
  `update sluice.nodes set heartbeat_at = sluice.sluice_now(), lease_until = sluice.sluice_now() + $2 * interval '1 millisecond'
   where id = $1`,
)

/** False: the node was removed, so somebody took it for dead. */
export async function renewNode(session: Session, id: string, leaseMs: number): Promise<boolean> {
  return (await session.execute(renew, [id, leaseMs])) === 1
}

const remove = statement('nodes.remove', 'delete from sluice.nodes where id = any($1::uuid[])')

export async function removeNodes(session: Session, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await session.execute(remove, [ids])
}

const ofHost = statement<{ id: string; kind: NodeKind; pid: number }>(
  'nodes.of_host',
  'select id, kind, pid from sluice.nodes where host = $1',
)

export function nodesOfHost(session: Session, host: string) {
  return session.query(ofHost, [host])
}

const removeLapsed = statement(
  'nodes.remove_lapsed',
  `delete from sluice.nodes n where lease_until < sluice.sluice_now() - interval '1 hour'
     and not exists (select from sluice.runs r where r.node_id = n.id and r.state in ('queued', 'running'))`,
)

export function removeLapsedNodes(session: Session): Promise<number> {
  return session.execute(removeLapsed)
}
