/**
 * Clears tasks of runs that somebody owns, as messages of the inbox ask for it. The rows are changed under the guard of the
 * owner's epoch and then read again, so that no memory of the run has to be told what changed.
 *
 * 1. A message is done once: what it changes and its removal are one commit.
 * 2. While a write of the run is under way the message waits for its end: what it starts is dispatched first.
 * 3. A message for a run that has ended meanwhile is any engine's.
 */
import { isTerminal } from '../core/run-state.ts'
import { messageOf } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import { type ClearRequest, clearRun, lockRun } from '../store/clear.ts'
import { type InboxMessage, takeFromInbox } from '../store/inbox.ts'
import { mayPass } from './may-pass.ts'
import type { OwnedRun } from './owned-run.ts'
import type { WorkflowGraphs } from './workflow-graphs.ts'

export interface ClearRunsParts {
  readonly db: Database
  readonly nodeId: string
  readonly graphs: Pick<WorkflowGraphs, 'of'>
  readonly note: (line: string) => void
  /** Sets the run aside, does the change, and reads the run again. */
  readonly renew: (run: OwnedRun, change: () => Promise<boolean>) => Promise<void>
}

export class ClearRuns {
  private readonly waiting = new Map<OwnedRun, InboxMessage>()
  /** Messages that are being done. */
  private readonly busy = new Set<number>()
  private readonly parts: ClearRunsParts

  constructor(parts: ClearRunsParts) {
    this.parts = parts
  }

  /** @param run as its owner holds it; undefined when this node does not. */
  hear(run: OwnedRun | undefined, message: InboxMessage): void {
    if (this.busy.has(message.id)) return
    if (run?.writing) {
      // Of several the first: the others are heard again.
      if (!this.waiting.has(run)) this.waiting.set(run, message)
    } else this.do(run, message)
  }

  /** A write of the run is committed, and what it started is dispatched. */
  written(run: OwnedRun): void {
    const message = this.waiting.get(run)
    this.waiting.delete(run)
    if (message && !this.busy.has(message.id)) this.do(run, message)
  }

  /** The run is not held any more; the message is heard by whoever holds it next. */
  forget(run: OwnedRun): void {
    this.waiting.delete(run)
  }

  private do(run: OwnedRun | undefined, message: InboxMessage): void {
    this.busy.add(message.id)
    const change = () => this.change(run, message).finally(() => this.busy.delete(message.id))
    void (run === undefined ? change() : this.parts.renew(run, change))
  }

  /** Gives whether the message is done with. */
  private async change(run: OwnedRun | undefined, message: InboxMessage): Promise<boolean> {
    const request = JSON.parse(message.body ?? '{}') as ClearRequest
    try {
      const found = await lockRun(this.parts.db, message.runId)
      const { graph } = found ? await this.parts.graphs.of(found.version, found.workflow) : {}
      await this.parts.db.transaction(async (session) => {
        if (await this.mayClear(session, run, message)) await clearRun(session, message.runId, graph!, request)
      })
      return true
    } catch (error) {
      const refused = !mayPass(error)
      const then = refused ? '' : '; it will be tried again'
      this.parts.note(`run ${message.runId} is not cleared for ${request.by}: ${messageOf(error)}${then}`)
      if (refused) await takeFromInbox(this.parts.db, [message.id]).catch(() => 0)
      return refused
    }
  }

  /** Holds the run and takes the message; false when either is another's. */
  private async mayClear(session: Session, run: OwnedRun | undefined, { id, runId }: InboxMessage): Promise<boolean> {
    const locked = await lockRun(session, runId)
    const ours = locked?.nodeId === this.parts.nodeId && locked.epoch === run?.row.epoch
    const free = locked === undefined || isTerminal(locked.state)
    if (!ours && !free) return false
    return (await takeFromInbox(session, [id])) === 1 && locked !== undefined
  }
}
