/**
 * An engine that owns runs, step by step: what `engine/own-runs` and `engine/group-commit` do, where each thing that could
 * happen next is a call of its own. The runs themselves are those of `engine/owned-run`.
 */
import { compileGraph, type Graph } from '../../src/core/graph.ts'
import type { WorkflowManifest } from '../../src/core/manifest.ts'
import type { Outcome, RunEvent } from '../../src/core/run-progress.ts'
import { restoreProgress } from '../../src/core/run-restore.ts'
import { isTerminal } from '../../src/core/run-state.ts'
import { places } from '../../src/engine/fill.ts'
import { eventOf } from '../../src/engine/inbox-events.ts'
import { type AfterCommit, type Isolation, type Later, OwnedRun } from '../../src/engine/owned-run.ts'
import type { AttemptStart } from '../../src/executors/runner-protocol.ts'
import { admitRuns } from '../../src/store/admit-runs.ts'
import { commitGroup, type RunChange, wasTakenAway } from '../../src/store/transitions.ts'
import type { Draw } from './draw.ts'
import type { LimitJudge } from './limit-judge.ts'
import type { SimLimits } from './limited.ts'
import { OwnerLimits } from './owner-limits.ts'
import type { SimRun, SimStore } from './store.ts'

export interface Definition {
  readonly workflow: WorkflowManifest
  readonly graph: Graph
}

/** The workflows of a case, compiled. */
export function definitionsOf(workflows: readonly WorkflowManifest[]): Map<string, Definition> {
  return new Map(workflows.map((workflow) => [workflow.name, { workflow, graph: compileGraph(workflow) }]))
}

/** What an owner needs of the world around it. */
export interface Around {
  readonly store: SimStore
  readonly definitions: ReadonlyMap<string, Definition>
  readonly draw: Draw
  /** Nothing goes wrong: then no write is refused. */
  readonly isCalm: boolean
  readonly limits: { readonly of: SimLimits; readonly judge: LimitJudge } | undefined
  now(): number
  token(): number
  isAlive(nodeId: string): boolean
  isPaused(workflow: string): boolean
  /** The change of each run is committed, and what follows it has not left yet. */
  committed(owner: Owner, runs: readonly OwnedRun[]): void
}

export interface Executing {
  readonly start: AttemptStart
  readonly isolation: Isolation
  killed: boolean
}

interface Group {
  readonly runs: readonly OwnedRun[]
  readonly changes: readonly RunChange[]
  readonly after: readonly AfterCommit[]
  /** What its write said, once it was written or refused. */
  answer: 'none' | 'written' | { readonly error: unknown }
}

export class Owner {
  readonly id: string
  /** Its lease holds; others may take its runs when it does not. */
  leased = true
  readonly runs = new Map<string, OwnedRun>()
  readonly executing = new Map<number, Executing>()
  readonly groups: Group[] = []
  timers: { at: number; run: OwnedRun; what: Later }[] = []
  /** Runs that are to be read again. */
  readonly again = new Map<string, boolean>()
  /** Of a case with limits. */
  readonly limits: OwnerLimits | undefined
  /** How often it was taken for dead. */
  lives = 0
  readonly #known = new Map<string, Map<number, Outcome>>()
  #strays = false
  readonly #around: Around

  constructor(id: string, around: Around) {
    this.id = id
    this.#around = around
    const { limits, store, draw, now, token } = around
    this.limits =
      limits &&
      new OwnerLimits({
        ...{ id, store, draw, judge: limits.judge, limits: limits.of, now, token, random: this.#random },
        busy: (isolation) => [...this.executing.values()].filter((one) => one.isolation === isolation).length,
        executes: (token) => this.executing.has(token),
        held: () => this.runs.values(),
      })
  }

  /** Whether a write could begin, or a task be started into one. */
  get canWrite(): boolean {
    if (this.groups.length >= 2) return false
    if (this.limits?.canStart) return true
    for (const run of this.runs.values()) {
      if (!run.writing && (run.hasChange || places.some((place) => run.canStart(place)))) return true
    }
    return false
  }

  /** Takes a few of the runs that are free. */
  async claim(most: number): Promise<void> {
    let room = most
    if (this.#strays) this.#release()
    const { store } = this.#around
    let runs = [...store.runs.values()]
    if (this.limits) {
      await admitRuns(store)
      runs = runs.sort((one, other) => other.priority - one.priority)
    }
    for (const run of runs) {
      if (room === 0) return
      if (isTerminal(run.state) || (run.nodeId !== null && this.#around.isAlive(run.nodeId))) continue
      const { parent, workflow, state, admitted } = run
      if (state === 'queued' && parent === undefined && this.#around.isPaused(workflow)) continue
      const isWished = () => store.inbox.some(({ runId, kind }) => runId === run.id && kind === 'cancel')
      if (state === 'queued' && !admitted && store.limits.isLimited(workflow) && !isWished()) continue
      room -= 1
      run.nodeId = this.id
      run.epoch += 1
      this.#adopt(run)
    }
  }

  /** Hands back what names it and is not held. */
  #release(): void {
    this.#strays = false
    for (const run of this.#around.store.runs.values())
      if (run.nodeId === this.id && !isTerminal(run.state) && !this.runs.has(run.id)) run.nodeId = null
  }

  readPaused(): void {
    for (const run of this.runs.values()) {
      run.paused = this.#around.isPaused(run.row.workflow)
      this.limits?.pause(run)
    }
  }

  /** Every message that is there for its runs, also those that it has taken up and not yet removed. */
  drain(): void {
    for (const message of [...this.#around.store.inbox]) {
      const run = this.runs.get(message.runId)
      if (!run || this.#around.store.runs.get(message.runId)?.nodeId !== this.id) continue
      const event = eventOf(message)
      if (message.kind !== 'cancel') run.consume(message.id)
      if (event) this.take(run, event)
    }
  }

  take(run: OwnedRun, event: RunEvent): void {
    run.take(event, this.#around.now(), this.#random)
  }

  ended(start: AttemptStart, outcome: Outcome): void {
    this.executing.delete(start.token)
    this.#known.get(start.runId)?.set(start.token, outcome)
    const run = this.runs.get(start.runId)
    const { node, mapIndex, token } = start
    // Of a run that is not held, and not about to be read again, nobody else will say so.
    if (run ? !run.isLive(node, mapIndex, token) : !this.#known.has(start.runId))
      this.limits?.talk.committed([], [token])
    if (run) this.take(run, { kind: 'ended', node, mapIndex, token, outcome })
  }

  /** Timers that are due; one of them is drawn. */
  comeDue(): boolean {
    const due = this.timers.filter(({ at }) => at <= this.#around.now())
    if (due.length === 0) return false
    const timer = this.#around.draw.pick(due)
    this.timers.splice(this.timers.indexOf(timer), 1)
    const { run, what } = timer
    if (this.runs.get(run.row.id) !== run) return true
    if (what.kind === 'ready') run.addReady({ node: what.node, first: what.mapIndex, last: what.mapIndex })
    else if (what.kind === 'due' && run.workflow.nodes[what.node]!.kind === 'approval') {
      const { node, mapIndex, attempt } = what
      const task = { node, mapIndex, attempt, body: '{"deadline":true}' }
      this.#around.store.put(run.row.id, 'resume', answerKey(run.row.id, node, attempt), task)
    } else this.take(run, what)
    return true
  }

  nextTimer(): number {
    const all = this.limits ? [...this.timers, ...this.limits.due] : this.timers
    return all.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY)
  }

  /** Starts some of what is ready, and forms a group of what has gathered. */
  write(): void {
    const { draw } = this.#around
    const all = [...this.runs.values()].filter((run) => !run.writing || draw.chance(0.5))
    this.limits?.start()
    for (const run of this.limits ? [] : all) {
      for (const place of places) {
        for (let room = 1 + draw.below(3); room > 0 && run.canStart(place); room -= 1) {
          if (!run.start(place, { token: this.#around.token(), now: this.#around.now(), random: this.#random })) break
        }
      }
    }
    const dirty = all.filter((run) => run.hasChange && !run.writing)
    const alone = dirty.find((run) => run.alone)
    const group = alone ? [alone] : dirty.slice(0, 1 + draw.below(dirty.length))
    if (group.length === 0) return
    for (const run of group) run.writing = true
    const taken = group.map((run) => run.takeChange())
    this.groups.push({
      runs: group,
      ...{ changes: taken.map(({ change }) => change), after: taken.map(({ after }) => after), answer: 'none' },
    })
  }

  /** A write reaches the database, or never does. */
  async land(group: Group, arrives = true): Promise<void> {
    if (!arrives) {
      group.answer = { error: Object.assign(new Error('the connection is cut'), { code: '57P01' }) }
      return
    }
    try {
      await commitGroup(this.#around.store, this.id, group.changes)
    } catch (error) {
      if (this.#around.isCalm) throw error
      group.answer = { error }
      return
    }
    group.answer = 'written'
    this.#around.committed(this, group.runs)
  }

  /** The answer of a write reaches the engine; one that is lost looks like a write that failed. */
  answer(group: Group, isLost = false): void {
    this.groups.splice(this.groups.indexOf(group), 1)
    const { answer, runs } = group
    const error = answer === 'written' ? (isLost ? cut : undefined) : (answer as { error: unknown }).error
    if (error === undefined) for (const [at, run] of runs.entries()) this.#act(run, group.after[at]!)
    else this.#giveUp(group, error)
    for (const run of runs) run.writing = false
  }

  #act(run: OwnedRun, after: AfterCommit): void {
    this.limits?.acted(after)
    run.alone = false
    if (this.runs.get(run.row.id) !== run) return
    for (const { attempt, isolation } of after.starts)
      this.executing.set(attempt.token, { start: attempt, isolation, killed: false })
    for (const token of after.kill) {
      const executing = this.executing.get(token)
      if (executing) executing.killed = true
    }
    for (const { at, what } of after.later) this.timers.push({ at, run, what })
    for (const { at, what } of run.limitsOf(after, this.#around.now())) this.timers.push({ at, run, what })
    if (after.ended) this.#forget(run)
  }

  /** Whatever the runs that are stopped have under way was told to stop. */
  checkStopped(): void {
    for (const run of this.runs.values())
      if (run.progress.stopping !== undefined && !run.hasChange && !run.writing) this.#checkStopped(run)
  }

  #checkStopped({ row, workflow, progress }: OwnedRun): void {
    for (const { start, killed } of this.executing.values()) {
      if (start.runId === row.id && !killed && workflow.nodes[start.node]!.teardownOf === undefined)
        throw new Error(`run ${row.id} is stopped, and n${start.node} was not told`)
    }
    const { store } = this.#around
    for (const { id, state, parent } of store.childrenOf(row.id)) {
      if (isTerminal(state) || workflow.nodes[parent!.node]!.teardownOf !== undefined || store.wished.has(id)) continue
      if (progress.nodes[parent!.node]!.live.get(parent!.mapIndex)?.attempt === parent!.attempt)
        throw new Error(`run ${row.id} is stopped, and its child ${id} was not told`)
    }
  }

  #giveUp({ runs, after }: Group, error: unknown): void {
    const wait = error instanceof Error && 'code' in error && error.code === '57P01'
    const [first] = runs
    if (runs.length === 1 && first!.alone && !wait && !wasTakenAway(error)) throw error
    for (const dropped of after) this.limits?.fill.unreserve(dropped)
    for (const [at, run] of runs.entries()) {
      const ends = this.#known.get(run.row.id) ?? new Map<number, Outcome>()
      this.#known.set(run.row.id, ends)
      for (const { token, outcome } of [...after[at]!.ends, ...this.#forget(run).ends]) ends.set(token, outcome)
      this.again.set(run.row.id, !wait)
    }
  }

  /** Sets a run aside while it is cleared, and has it read again; false while a write of it is under way. */
  clear(run: OwnedRun, change: () => boolean): boolean {
    if (run.writing || !change()) return false
    const ends = this.#known.get(run.row.id) ?? new Map<number, Outcome>()
    this.#known.set(run.row.id, ends)
    for (const { token, outcome } of this.#forget(run).ends) ends.set(token, outcome)
    this.again.set(run.row.id, false)
    return true
  }

  /** Reads one of the runs again whose write was refused or failed. */
  readAgain(): void {
    const [[id, alone]] = [...this.again] as [[string, boolean]]
    this.again.delete(id)
    const run = this.#around.store.runs.get(id)
    if (run && !this.runs.has(id) && run.nodeId === this.id && !isTerminal(run.state)) {
      run.epoch += 1
      this.#adopt(run)
      this.runs.get(id)!.alone = alone
    } else if (!this.runs.has(id)) this.limits?.talk.settle(id, [])
    this.#known.delete(id)
  }

  /** Its lease lapsed and it knows: it forgets everything, and its attempts are ended. */
  suspend(): void {
    this.#strays = true
    this.lives += 1
    for (const run of this.runs.values()) this.#forget(run)
    for (const { after } of this.groups) for (const dropped of after) this.limits?.fill.unreserve(dropped)
    this.limits?.talk.suspend()
    this.executing.clear()
    this.groups.length = 0
    this.timers = []
    this.again.clear()
    this.#known.clear()
  }

  #random = (): number => this.#around.draw.next()

  #adopt(row: SimRun): void {
    const { workflow, graph } = this.#around.definitions.get(row.workflow)!
    const widths = [...row.widths].map(([node, width]) => ({ node, width }))
    const restored = restoreProgress(graph, row.params, [...row.tasks.values()], widths)
    const cancel = this.#around.store.inbox.some(({ runId, kind }) => runId === row.id && kind === 'cancel')
    const state = row.state as 'queued' | 'running'
    const { id, epoch, seq, params, startedAt } = row
    const run = new OwnedRun(
      {
        ...{ id, epoch, seq, params, startedAt, state, cancel, workflow: row.workflow, version: 'v', lane: 'default' },
        ...{ priority: row.priority, hasParent: row.parent !== undefined, logicalTime: null },
      },
      workflow,
      restored.progress,
      this.limits?.waiting,
    )
    // Its end was written, and cleared before the answer came.
    const held = this.runs.get(id)
    if (held) this.#forget(held)
    this.runs.set(id, run)
    run.paused = this.#around.isPaused(row.workflow)
    this.limits?.pause(run)
    const now = this.#around.now()
    const limit = workflow.timeoutMs
    const until = limit === undefined || startedAt === null ? undefined : startedAt + limit
    if (cancel) run.take({ kind: 'cancel' }, now, this.#random)
    else if (until !== undefined && until <= now) run.take({ kind: 'run-limit' }, now, this.#random)
    run.take({ kind: 'begin' }, now, this.#random)
    for (const range of restored.ready) run.addReady(range)
    const later = (at: number, what: Later) => this.timers.push({ at, run, what })
    for (const { at, ...task } of restored.retries) later(at, { kind: 'ready', ...task })
    for (const { at, ...task } of restored.due) later(at, { kind: 'due', ...task })
    for (const { at, ...task } of restored.limits) {
      if (at <= now) run.take({ kind: 'task-limit', ...task }, now, this.#random)
      else later(at, { kind: 'task-limit', ...task })
    }
    if (until !== undefined) later(until, { kind: 'run-limit' })
    run.live = restored.running.length
    run.openChildren = restored.children
    for (const { node, mapIndex, token } of restored.running) {
      if (this.executing.has(token)) continue
      const outcome = this.#known.get(id)?.get(token) ?? ({ kind: 'lost', reason: 'its engine ended' } as const)
      run.take({ kind: 'ended', node, mapIndex, token, outcome }, now, this.#random)
    }
    const live = restored.running.map(({ token }) => token)
    this.limits?.talk.settle(id, live)
  }

  #forget(run: OwnedRun): AfterCommit {
    if (this.runs.get(run.row.id) === run) this.runs.delete(run.row.id)
    for (const place of places) run.ready[place].clear()
    const { after } = run.takeChange()
    this.limits?.forget(run, after)
    return after
  }
}

/** An answer and the deadline have the same key: the first of them counts. */
export const answerKey = (runId: string, node: number, attempt: number): string =>
  `answer ${runId} ${node} -1 ${attempt}`

const cut = Object.assign(new Error('the connection is cut'), { code: '57P01' })
