/**
 * Nodes of this host whose process is gone need not be waited for: what they held is free at once. What they started is
 * in their process group, and ends with them: a runner in a busy loop does not notice that its engine is gone.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Database } from '../ports/database.ts'
import { type NodeKind, nodesOfHost, removeNodes } from '../store/nodes.ts'
import { releaseHeldBy } from '../store/shards.ts'

/**
 * This machine since it was started, and the container within it: elsewhere, and after a restart, the same process ids
 * are those of strangers, which must not be ended. The nodes of former ones are waited for until their leases lapse.
 */
export const thisHost: string = [
  hostname(),
  told(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
  told(() => readlinkSync('/proc/self/ns/pid')),
].join(' ')

export async function removeDeadNeighbours(db: Database, kind: NodeKind): Promise<void> {
  const nodes = await nodesOfHost(db, thisHost)
  const dead = nodes.filter((node) => node.kind === kind && !isAlive(node.pid))
  for (const { pid } of dead) endGroup(pid)
  const ids = dead.map((node) => node.id)
  // In this order: a node that is still there is found again by whoever comes next.
  if (kind === 'shard' || kind === 'serving') await releaseHeldBy(db, ids)
  await removeNodes(db, ids)
}

/** Ends what is left of a dead process's group. Its number is given to nobody while the group has members. */
export function endGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing is left of it.
  }
}

/** What Linux tells; elsewhere the empty text. */
function told(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
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
