/**
 * Nodes of this host whose process is gone need not be waited for: what they held is free at once. What they started is
 * in their process group, and ends with them: a runner in a busy loop does not notice that its engine is gone.
 */
import { hostname } from 'node:os'
import type { Database } from '../ports/database.ts'
import { type NodeKind, nodesOfHost, removeNodes } from '../store/nodes.ts'

export async function removeDeadNeighbours(db: Database, kind: NodeKind): Promise<void> {
  const nodes = await nodesOfHost(db, hostname())
  const dead = nodes.filter((node) => node.kind === kind && !isAlive(node.pid))
  for (const { pid } of dead) endGroup(pid)
  await removeNodes(
    db,
    dead.map((node) => node.id),
  )
}

/** Ends what is left of a dead process's group. Its number is given to nobody while the group has members. */
export function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing is left of it.
  }
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
