/**
 * The heartbeat of a node: what it owns is its own as long as the lease is renewed in time.
 *
 * 1. A renewal that fails is tried again soon; one that is not answered is given up with its connection.
 * 2. When the lease is in doubt, since none was granted for most of its time, `onDoubt` is called, once: whatever the
 *    node does for what it owns has to end before others may take that.
 * 3. `onHeld` says with each renewal until when that work may go on at most: it ends also when this process is stopped.
 * 4. A node that holds its lease again after a doubt, or that was removed meanwhile, owns nothing: `onBack` says so.
 */
import { leaseTimes } from '../core/lease.ts'
import { messageOf } from '../errors.ts'
import type { Session } from '../ports/database.ts'
import { type NodeKind, registerNode, removeNodes, renewNode } from '../store/nodes.ts'
import { monotonicMs } from '../time.ts'

export interface NodeLease {
  /** Removes the node, so that others may take what it owned at once. */
  stop(): Promise<void>
}

export interface NodeLeaseParts {
  /** With a connection for the heartbeat alone and short limits, so that nothing holds it up. */
  readonly db: Session
  readonly node: { readonly id: string; readonly kind: NodeKind; readonly host: string; readonly pid: number }
  readonly leaseMs: number
  /** @param until milliseconds of the machine's monotonic clock (`monotonicMs`). */
  readonly onHeld: (until: number) => void
  readonly onDoubt: () => void
  readonly onBack: () => void
  readonly note: (line: string) => void
}

export async function holdNodeLease({ db, node, leaseMs, ...parts }: NodeLeaseParts): Promise<NodeLease> {
  const { renewAfterMs, tryAgainMs, doubtAfterMs, graceMs } = leaseTimes(leaseMs)
  let doubt: NodeJS.Timeout | undefined
  let doubtful = false
  let failures = 0
  let next: NodeJS.Timeout | undefined
  let renewing: Promise<void> = Promise.resolve()
  let stopped = false

  const granted = (askedAt: number) => {
    clearTimeout(doubt)
    doubtful = false
    failures = 0
    if (stopped) return
    doubt = setTimeout(inDoubt, askedAt + doubtAfterMs - monotonicMs())
    parts.onHeld(askedAt + doubtAfterMs + graceMs)
  }
  const inDoubt = () => {
    doubtful = true
    parts.onDoubt()
  }
  const renew = async (): Promise<number> => {
    const askedAt = monotonicMs()
    try {
      const known = await renewNode(db, node.id, leaseMs)
      if (!known) await registerNode(db, { ...node, leaseMs })
      const back = doubtful || !known
      granted(askedAt)
      if (back) parts.onBack()
      return renewAfterMs
    } catch (error) {
      // An outage of hours fills no log with what its first line said.
      if (failures++ === 0) parts.note(`the lease could not be renewed: ${messageOf(error)}`)
      return tryAgainMs
    }
  }
  const renewIn = (waitMs: number) => {
    if (stopped) return
    next = setTimeout(() => {
      renewing = renew().then(renewIn)
    }, waitMs)
  }

  const askedAt = monotonicMs()
  await registerNode(db, { ...node, leaseMs })
  granted(askedAt)
  renewIn(renewAfterMs)
  return {
    async stop() {
      stopped = true
      clearTimeout(next)
      clearTimeout(doubt)
      await renewing
      clearTimeout(doubt)
      await removeNodes(db, [node.id])
    },
  }
}
