/** One run in the memory of its owner: where it stands, what is decided and not yet written, what follows the write. */

import { advance, startTask } from '../core/advance.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import {
  argumentsOf,
  type Decision,
  type Outcome,
  type RunEvent,
  type RunProgress,
  type Transition,
} from '../core/run-progress.ts'
import type { AttemptStart } from '../executors/runner-protocol.ts'
import type { OwnedRun as RunRow } from '../store/runs.ts'
import { lengthOf, type RunChange } from '../store/transitions.ts'
import { ReadyQueue } from './ready-queue.ts'

export type Isolation = 'shared' | 'process'

/** What leaves the engine once the change it belongs to is committed. */
export interface AfterCommit {
  readonly starts: { readonly attempt: AttemptStart; readonly isolation: Isolation }[]
  readonly kill: number[]
  readonly retries: { readonly node: number; readonly mapIndex: number; readonly at: number }[]
  /** Attempts whose ends the change writes. Until it is committed nobody else knows of them. */
  readonly ends: { readonly token: number; readonly outcome: Outcome }[]
  ended: boolean
}

const nothing = (): AfterCommit => ({ starts: [], kill: [], retries: [], ends: [], ended: false })

export class OwnedRun {
  readonly row: RunRow
  readonly workflow: WorkflowManifest
  readonly progress: RunProgress
  readonly ready: Readonly<Record<Isolation, ReadyQueue>> = { shared: new ReadyQueue(), process: new ReadyQueue() }
  /** Attempts started and not ended. */
  live = 0
  /** Set when a group with this run was refused: it then commits alone, so that it holds up no other. */
  alone = false
  /** A change of it is being written; the next one waits, for two connections keep no order. */
  writing = false
  private seq: number
  private transitions: Transition[] = []
  private expanded: { node: number; width: number }[] = []
  private state: RunChange['state']
  private after = nothing()

  constructor(row: RunRow, workflow: WorkflowManifest, progress: RunProgress) {
    this.row = row
    this.workflow = workflow
    this.progress = progress
    this.seq = row.seq
    progress.state = row.state
  }

  get hasChange(): boolean {
    if (this.transitions.length > 0 || this.state !== undefined || this.expanded.length > 0) return true
    // A cancel may change no row until the attempts have stopped; that they be stopped goes the same way.
    return this.after.kill.length > 0
  }

  /** Whether a task could start if a runner is free. */
  canStart(isolation: Isolation): boolean {
    return this.ready[isolation].size > 0 && this.live < (this.workflow.workers ?? Number.POSITIVE_INFINITY)
  }

  take(event: RunEvent, now: number, random: () => number): void {
    const before = this.progress.state
    if (event.kind === 'ended') this.noteEnd(event)
    const decision = advance(this.progress, event, now, random)
    this.keep(decision)
    if (decision.end) {
      this.state = { from: this.state?.from ?? before, to: decision.end.state, error: decision.end.error }
      this.after.ended = true
    } else if (before === 'queued' && this.progress.state === 'running') {
      this.state = { from: 'queued', to: 'running' }
    }
  }

  /** Tasks that are ready although no event of now says so: found at adoption. */
  addReady(range: Decision['ready'][number]): void {
    this.ready[this.isolationOf(range.node)].add(range)
  }

  /** Starts one ready task; gives false when there was none that may start. */
  start(isolation: Isolation, token: number): boolean {
    for (let task = this.ready[isolation].take(); task; task = this.ready[isolation].take()) {
      const transition = startTask(this.progress, task.node, task.mapIndex, token)
      if (!transition) continue
      const node = this.workflow.nodes[task.node]!
      this.live += 1
      this.transitions.push(transition)
      this.after.starts.push({
        isolation,
        attempt: {
          token,
          runId: this.row.id,
          workflow: this.row.workflow,
          version: this.row.version,
          node: task.node,
          nodeId: node.id,
          mapIndex: task.mapIndex,
          attempt: transition.attempt,
          args: argumentsOf(this.progress, task.node, task.mapIndex),
          timeoutMs: node.timeoutMs,
        },
      })
      return true
    }
    return false
  }

  /** Hands over what is decided and not yet written; the run's sequence moves on as if it were. */
  takeChange(): { change: RunChange; after: AfterCommit } {
    const change: RunChange = {
      runId: this.row.id,
      epoch: this.row.epoch,
      seq: this.seq,
      transitions: this.transitions,
      expanded: this.expanded,
      ...(this.state ? { state: this.state } : {}),
    }
    const { after } = this
    this.seq += lengthOf(change)
    this.transitions = []
    this.expanded = []
    this.state = undefined
    this.after = nothing()
    return { change, after }
  }

  private noteEnd(event: RunEvent & { kind: 'ended' }): void {
    const live = this.progress.nodes[event.node]?.live.get(event.mapIndex)
    if (!live || live.token === 0 || live.token !== event.token) return
    this.live -= 1
    this.after.ends.push({ token: event.token, outcome: event.outcome })
  }

  private keep(decision: Decision): void {
    for (const transition of decision.transitions) this.transitions.push(transition)
    for (const expansion of decision.expanded) this.expanded.push(expansion)
    for (const retry of decision.retries) this.after.retries.push(retry)
    for (const { token } of decision.kill) this.after.kill.push(token)
    for (const range of decision.ready) this.addReady(range)
  }

  private isolationOf(node: number): Isolation {
    return this.workflow.nodes[node]!.isolation
  }
}
