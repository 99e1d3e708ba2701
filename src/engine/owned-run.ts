/** One run in the memory of its owner: where it stands, what is decided and not yet written, what follows the write. */

import { advance, startTask } from '../core/advance.ts'
import { newRunId } from '../core/ids.ts'
import type { Need } from '../core/limit-lines.ts'
import { differsByTask, needsOf } from '../core/limit-needs.ts'
import type { NodeManifest, WorkflowManifest } from '../core/manifest.ts'
import {
  argumentsOf,
  type Decision,
  type Outcome,
  type ReadyRange,
  type RunEvent,
  type RunProgress,
  type Transition,
  valueFor,
} from '../core/run-progress.ts'
import type { AttemptStart } from '../executors/runner-protocol.ts'
import type { Template } from '../sdk/reference.ts'
import type { ChildRun } from '../store/child-runs.ts'
import type { OwnedRun as RunRow } from '../store/runs.ts'
import { lengthOf, type RunChange } from '../store/transitions.ts'
import { ReadyQueue, type ReadyTask } from './ready-queue.ts'

/** Where a task starts: in a runner that it shares, in one of its own, or in the engine, which starts another run for it. */
export type Place = 'shared' | 'process' | 'engine'
export type Isolation = Exclude<Place, 'engine'>

/** What happens to a run at a time. */
export type Later =
  | { readonly kind: 'ready'; readonly node: number; readonly mapIndex: number }
  | { readonly kind: 'task-limit'; readonly node: number; readonly mapIndex: number }
  | { readonly kind: 'due'; readonly node: number; readonly mapIndex: number; readonly attempt: number }
  | { readonly kind: 'run-limit' }

/** What leaves the engine once the change it belongs to is committed. */
export interface AfterCommit {
  readonly starts: { readonly attempt: AttemptStart; readonly isolation: Isolation }[]
  readonly kill: number[]
  readonly later: { readonly at: number; readonly what: Later }[]
  /** Attempts whose ends the change writes. Until it is committed nobody else knows of them. */
  readonly ends: { readonly token: number; readonly outcome: Outcome }[]
  /** Tasks that begin with the change, and have a limit of time over all their attempts. */
  readonly timed: ReadyTask[]
  /** The run begins with the change: from now on its time counts. */
  begun: boolean
  ended: boolean
}

const nothing = (): AfterCommit => ({
  starts: [],
  kill: [],
  later: [],
  ends: [],
  timed: [],
  begun: false,
  ended: false,
})

/** Runs of other workflows that a run has open at once; more wait. */
const maxOpenChildren = 64

/** Where tasks wait that need something which others need too. */
export interface WaitingTasks {
  offer(run: OwnedRun, range: ReadyRange, needs: readonly Need[], isolation: Isolation): void
}

/** What a start needs besides the task. */
export interface StartParts {
  readonly token: number
  readonly now: number
  readonly random: () => number
}

export class OwnedRun {
  readonly row: RunRow
  readonly workflow: WorkflowManifest
  readonly progress: RunProgress
  readonly ready: Readonly<Record<Place, ReadyQueue>> = {
    shared: new ReadyQueue(),
    process: new ReadyQueue(),
    engine: new ReadyQueue(),
  }
  /** Attempts started and not ended. */
  live = 0
  /** Runs of other workflows started and not ended. */
  openChildren = 0
  /** Nothing of it starts for now, since its workflow is paused. */
  paused = false
  /** Set when a group with this run was refused: it then commits alone, so that it holds up no other. */
  alone = false
  /** A change of it is being written; the next one waits, for two connections keep no order. */
  writing = false
  private seq: number
  private transitions: Transition[] = []
  private expanded: { node: number; width: number }[] = []
  private children: ChildRun[] = []
  private stop: { node: number; mapIndex: number }[] = []
  private consumed: number[] = []
  private state: RunChange['state']
  private after = nothing()
  private readonly waiting: WaitingTasks | undefined

  /** @param waiting without it no limits hold but that of the workers, for this run alone. */
  constructor(row: RunRow, workflow: WorkflowManifest, progress: RunProgress, waiting?: WaitingTasks) {
    this.waiting = waiting
    this.row = row
    this.workflow = workflow
    this.progress = progress
    this.seq = row.seq
    progress.state = row.state
  }

  get hasChange(): boolean {
    if (this.transitions.length > 0 || this.state !== undefined || this.expanded.length > 0) return true
    // A cancel may change no row until the attempts have stopped; that they be stopped goes the same way.
    return this.after.kill.length > 0 || this.stop.length > 0 || this.consumed.length > 0
  }

  /** Whether a task could start if there is room for it. */
  canStart(place: Place): boolean {
    if (this.ready[place].size === 0 || this.paused) return false
    if (place === 'engine') return this.openChildren < maxOpenChildren
    return this.waiting !== undefined || this.live < (this.workflow.workers ?? Number.POSITIVE_INFINITY)
  }

  take(event: RunEvent, now: number, random: () => number): void {
    const before = this.progress.state
    if (event.kind === 'ended') this.noteEnd(event)
    if (event.kind === 'resumed') this.noteChild(event)
    const decision = advance(this.progress, event, now, random)
    this.keep(decision)
    if (decision.end) {
      const { state, error, result } = decision.end
      this.state = { from: this.state?.from ?? before, to: state, error, result }
      this.after.ended = true
    } else if (before === 'queued' && this.progress.state === 'running') {
      this.state = { from: 'queued', to: 'running' }
      this.after.begun = true
    }
  }

  /** A message of the inbox that what was decided since answers; it is removed with the next change. */
  consume(id: number): void {
    this.consumed.push(id)
  }

  /** Tasks that are ready although no event of now says so: found at adoption. */
  addReady(range: ReadyRange): void {
    if (this.waitsForLimits(range)) return
    this.ready[this.placeOf(range.node)].add(range, this.nodeOf(range.node).priority)
  }

  /** Starts one ready task; gives false when there was none that may start. */
  start(place: Place, parts: StartParts): boolean {
    for (let task = this.ready[place].take(); task; task = this.ready[place].take()) {
      if (this.startThis(task, place, parts)) return true
    }
    return false
  }

  /** Starts a task whose limits let it; gives false when it must not start any more. */
  startThis(task: ReadyTask, place: Place, parts: StartParts): boolean {
    const transition = startTask(this.progress, task.node, task.mapIndex, parts.token)
    if (!transition) return false
    this.transitions.push(transition)
    const node = this.nodeOf(task.node)
    if (node.withinMs !== undefined && transition.from === 'none') this.after.timed.push(task)
    if (place === 'engine') this.startChild(node, transition, parts)
    else this.startAttempt(node, transition, place)
    return true
  }

  private waitsForLimits(range: ReadyRange): boolean {
    const { limits, isolation, kind } = this.nodeOf(range.node)
    const { waiting, workflow, progress } = this
    if (!waiting || kind === 'workflow' || (limits === undefined && workflow.workers === undefined)) return false
    const offer = (part: ReadyRange) => {
      const value = (parts: readonly Template[]) => parts.map((one) => valueFor(progress, one, part.node, part.first))
      waiting.offer(this, part, needsOf(workflow, limits, value), isolation)
    }
    if (!differsByTask(limits)) offer(range)
    else for (let at = range.first; at <= range.last; at += 1) offer({ node: range.node, first: at, last: at })
    return true
  }

  isLive(node: number, mapIndex: number, token: number): boolean {
    return this.progress.nodes[node]?.live.get(mapIndex)?.token === token
  }

  private startAttempt(
    node: NodeManifest,
    { node: index, mapIndex, attempt, token }: Transition,
    isolation: Isolation,
  ): void {
    this.live += 1
    this.after.starts.push({
      isolation,
      attempt: {
        token,
        runId: this.row.id,
        workflow: this.row.workflow,
        version: this.row.version,
        node: index,
        nodeId: node.id,
        mapIndex,
        attempt,
        logicalTime: this.row.logicalTime,
        args: argumentsOf(this.progress, index, mapIndex),
        timeoutMs: node.timeoutMs,
      },
    })
  }

  private startChild(
    node: NodeManifest,
    { node: index, mapIndex, attempt }: Transition,
    { now, random }: StartParts,
  ): void {
    this.openChildren += 1
    this.children.push({
      id: newRunId(now, random),
      workflow: node.action,
      version: this.row.version,
      params: argumentsOf(this.progress, index, mapIndex),
      lane: this.row.lane,
      priority: this.row.priority,
      parent: { runId: this.row.id, node: index, mapIndex, attempt },
    })
  }

  /** Hands over what is decided and not yet written; the run's sequence moves on as if it were. */
  takeChange(): { change: RunChange; after: AfterCommit } {
    const { children, stop, consumed } = this
    const change: RunChange = {
      runId: this.row.id,
      epoch: this.row.epoch,
      seq: this.seq,
      transitions: this.transitions,
      expanded: this.expanded,
      hasParent: this.row.hasParent,
      ...(children.length > 0 ? { children } : {}),
      ...(stop.length > 0 ? { stop } : {}),
      ...(consumed.length > 0 ? { consumed } : {}),
      ...(this.state ? { state: this.state } : {}),
    }
    const { after } = this
    this.seq += lengthOf(change)
    this.transitions = []
    this.expanded = []
    this.children = []
    this.stop = []
    this.consumed = []
    this.state = undefined
    this.after = nothing()
    return { change, after }
  }

  /**
   * The limits of time that begin with a change.
   * @param now when it was committed, or later: by the time a limit passes here, it has passed by the rows too, so that a
   *   run which is read again knows that what was stopped was stopped for its time
   */
  limitsOf({ timed, begun }: AfterCommit, now: number): { at: number; what: Later }[] {
    const { timeoutMs } = this.workflow
    const limits: { at: number; what: Later }[] = timed.map(({ node, mapIndex }) => ({
      at: now + this.nodeOf(node).withinMs!,
      what: { kind: 'task-limit', node, mapIndex },
    }))
    if (begun && timeoutMs !== undefined) limits.push({ at: now + timeoutMs, what: { kind: 'run-limit' } })
    return limits
  }

  private noteEnd(event: RunEvent & { kind: 'ended' }): void {
    const live = this.progress.nodes[event.node]?.live.get(event.mapIndex)
    if (!live || live.token === 0 || live.token !== event.token) return
    this.live -= 1
    this.after.ends.push({ token: event.token, outcome: event.outcome })
  }

  private noteChild(event: RunEvent & { kind: 'resumed' }): void {
    const live = this.progress.nodes[event.node]?.live.get(event.mapIndex)
    if (live?.deferred && live.attempt === event.attempt && this.placeOf(event.node) === 'engine')
      this.openChildren -= 1
  }

  private keep(decision: Decision): void {
    for (const transition of decision.transitions) this.transitions.push(transition)
    for (const expansion of decision.expanded) this.expanded.push(expansion)
    for (const { at, ...task } of decision.retries) this.after.later.push({ at, what: { kind: 'ready', ...task } })
    for (const { at, ...task } of decision.due) this.after.later.push({ at, what: { kind: 'due', ...task } })
    for (const task of decision.stop) this.stop.push(task)
    for (const { token } of decision.kill) this.after.kill.push(token)
    for (const range of decision.ready) this.addReady(range)
  }

  private nodeOf(node: number): NodeManifest {
    return this.workflow.nodes[node]!
  }

  private placeOf(node: number): Place {
    const { kind, isolation } = this.nodeOf(node)
    return kind === 'workflow' ? 'engine' : isolation
  }
}
