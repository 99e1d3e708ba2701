/** The heartbeat of a node: what it owns is its own as long as the lease is renewed in time. */
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { type NodeKind, registerNode, removeNodes, renewNode } from '../store/nodes.ts'

export interface NodeLease {
  /** Removes the node, so that others may take what it owned at once. */
  stop(): Promise<void>
}

export interface NodeLeaseParts {
  readonly db: Database
  readonly node: { readonly id: string; readonly kind: NodeKind; readonly host: string; readonly pid: number }
  readonly leaseMs: number
  /** Somebody took this node for dead and it has just come back under the same id; it owns nothing now. */
  readonly onLost: () => void
  readonly note: (line: string) => void
}

/** Renews at a third of the lease. */
export async function holdNodeLease(parts: NodeLeaseParts): Promise<NodeLease> {
  const { db, node, leaseMs } = parts
  await registerNode(db, { ...node, leaseMs })
  let renewing: Promise<void> | undefined
  const timer = setInterval(() => {
    // One at a time: those that a hanging database held back would all come at once.
    renewing ??= renew().finally(() => {
      renewing = undefined
    })
  }, leaseMs / 3)
  async function renew(): Promise<void> {
    try {
      if (await renewNode(db, node.id, leaseMs)) return
      await registerNode(db, { ...node, leaseMs })
      parts.onLost()
    } catch (error) {
      parts.note(`the lease could not be renewed: ${messageOf(error)}`)
    }
  }
  return {
    async stop() {
      clearInterval(timer)
      await renewing
      await removeNodes(db, [node.id])
    },
  }
}
