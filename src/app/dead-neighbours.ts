/** Nodes of this host whose process is gone need not be waited for: what they held is free at once. */
import { hostname } from 'node:os'
import type { Database } from '../ports/database.ts'
import { type NodeKind, nodesOfHost, removeNodes } from '../store/nodes.ts'

export async function removeDeadNeighbours(db: Database, kind: NodeKind): Promise<void> {
  const nodes = await nodesOfHost(db, hostname())
  const dead = nodes.filter((node) => node.kind === kind && !isAlive(node.pid))
  await removeNodes(
    db,
    dead.map((node) => node.id),
  )
}

/** A process that took over the number of a dead one counts as alive: then its lease has to lapse. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
