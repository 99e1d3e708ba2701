/**
 * The runs of a simulated world. Decisions are those of the engine (`OwnedRun`); what it would write to the database is
 * told to the run at once, and what follows the write follows here.
 */
import { chosenTasks, planClear } from '../core/clear.ts'
import { Heap } from '../core/heap.ts'
import { newRunId } from '../core/ids.ts'
import { newProgress, type ReadyRange, type RunEvent } from '../core/run-progress.ts'
import { restoreProgress } from '../core/run-restore.ts'
import { eventOf } from '../engine/inbox-events.ts'
import { type Later, OwnedRun, type Place } from '../engine/owned-run.ts'
import { messageOf, SluiceError } from '../errors.ts'
import type { AttemptEnd, AttemptStart } from '../executors/runner-protocol.ts'
import type { ChildRun } from '../store/child-runs.ts'
import { type AttemptsOfWorld, nameOf } from './attempts-of-world.ts'
import type { DefinedWorld } from './defined-world.ts'
import type { LimitsOfWorld } from './limits-of-world.ts'
import type { PlanStarts } from './plans-of-world.ts'
import { SimulatedRun, type SimulatedTask } from './simulated-run.ts'

/** Each takes about 10 KiB while it runs. */
const attemptsAtOnce = 1_000
const places: readonly Place[] = ['shared', 'process', 'engine']

/** A run that has not ended, with what the engine knows of it. */
export interface Held {
  readonly owned: OwnedRun
  readonly told: SimulatedRun
  readonly parent: ChildRun['parent'] | undefined
  /** What is ready when it begins, besides what follows from its beginning. */
  readonly ready: readonly ReadyRange[]
  /** Of its coming. */
  readonly order: number
  begun: boolean
}

/** Which tasks of a run are cleared, with all that is behind them. */
export interface ClearTasks {
  /** Ids of tasks (`load`, `load[3]` of a mapped one) or of groups. */
  readonly tasks?: readonly string[]
  /** Also all that did not succeed. Default: when no tasks are named. */
  readonly failed?: boolean
  /** Durable steps are made again also by tasks that had not succeeded. */
  readonly fresh?: boolean
}

interface ClearedTask {
  readonly node: number
  readonly task: SimulatedTask
}

export interface RunsOfWorldParts {
  readonly defined: DefinedWorld
  readonly attempts: AttemptsOfWorld
  readonly limits: LimitsOfWorld
  readonly random: () => number
  now(): number
  /** Asks for `come` at a time. */
  later(at: number, run: Held, what: Later): void
  /** An attempt has succeeded. */
  succeeded(attempt: ReturnType<typeof nameOf>, workflow: string): void
}

export class RunsOfWorld {
  readonly #parts: RunsOfWorldParts
  readonly #runs = new Map<string, SimulatedRun>()
  readonly #held = new Map<string, Held>()
  readonly #paused = new Set<string>()
  /** By workflow: how many of its runs are active, where it limits them, and which wait to begin. */
  readonly #active = new Map<string, number>()
  readonly #waiting = new Map<string, Heap<Held>>()
  /** Runs that have, perhaps, something to start or to tell. */
  readonly #agenda = new Set<Held>()
  /** Those of them that wait until fewer attempts are under way. */
  readonly #crowded = new Set<Held>()
  #free = attemptsAtOnce
  #pumping = false
  #tokens = 0
  #order = 0

  constructor(parts: RunsOfWorldParts) {
    this.#parts = parts
  }

  get all(): Iterable<SimulatedRun> {
    return this.#runs.values()
  }

  get open(): Iterable<Held> {
    return this.#held.values()
  }

  held(id: string): Held | undefined {
    return this.#held.get(id)
  }

  begin({ workflow, plan, logicalTime, params }: PlanStarts, child?: ChildRun): SimulatedRun {
    const { defined, random, limits } = this.#parts
    const { manifest, graph } = defined.workflow(workflow)
    const now = this.#parts.now()
    const id = child?.id ?? newRunId(now, random)
    const told = new SimulatedRun(
      {
        ...{ id, workflow, plan, logicalTime, params: JSON.parse(params), createdAt: new Date(now) },
        parent: child?.parent.runId ?? null,
      },
      manifest.nodes,
    )
    const row = this.#rowOf(id, workflow, params, { logicalTime, child })
    const owned = new OwnedRun(row, manifest, newProgress(graph, params), limits)
    this.#runs.set(id, told)
    this.#hold({ owned, told, parent: child?.parent, ready: [] })
    return told
  }

  #rowOf(
    id: string,
    workflow: string,
    params: string,
    more: { logicalTime: Date | null; child?: ChildRun | undefined },
  ) {
    const { defined } = this.#parts
    const { logicalTime, child } = more
    return {
      ...{ id, workflow, version: defined.version, params, state: 'queued' as const, epoch: 1, seq: 0, cancel: false },
      ...{ hasParent: child !== undefined, lane: 'default', startedAt: null },
      logicalTime: logicalTime?.getTime() ?? null,
      priority: child?.priority ?? defined.workflow(workflow).manifest.priority ?? 0,
    }
  }

  /** It begins when it may. */
  #hold(parts: Pick<Held, 'owned' | 'told' | 'parent' | 'ready'>): void {
    this.#order += 1
    const held: Held = { ...parts, order: this.#order, begun: false }
    const { workflow } = held.told
    this.#held.set(held.told.id, held)
    const paused = this.#paused.has(workflow)
    if (paused) this.#setPaused(held, true)
    if (held.owned.workflow.maxActiveRuns === undefined && (!paused || held.parent)) this.#start(held)
    else {
      this.#waitingOf(workflow).push(held)
      this.#admit(workflow)
    }
  }

  come(held: Held, what: Later): void {
    if (!this.#held.has(held.told.id)) return
    if (what.kind !== 'ready') {
      this.tell(held, what)
      return
    }
    held.owned.addReady({ node: what.node, first: what.mapIndex, last: what.mapIndex })
    this.pump(held)
  }

  tell(held: Held, event: RunEvent): void {
    this.#decide(held, () => held.owned.take(event, this.#parts.now(), this.#parts.random))
    this.pump(held)
  }

  cancel(id: string): void {
    const held = this.#held.get(id)
    if (held) this.tell(held, { kind: 'cancel' })
  }

  pause(workflow: string, paused: boolean): void {
    if (paused) this.#paused.add(workflow)
    else this.#paused.delete(workflow)
    for (const held of this.#held.values()) {
      if (held.told.workflow !== workflow) continue
      this.#setPaused(held, paused)
      if (!paused) this.pump(held)
    }
    if (!paused) this.#admit(workflow)
  }

  /**
   * Tasks of a run that has ended run again. @param before is told which, before they do.
   * @throws SluiceError NOT_FOUND, CONFLICT, INVALID_INPUT
   */
  clear(
    id: string,
    { tasks = [], failed = tasks.length === 0 }: ClearTasks,
    before: (cleared: readonly ClearedTask[]) => void,
  ): void {
    const told = this.#runs.get(id)
    if (!told) throw new SluiceError('NOT_FOUND', `there is no run ${id}`)
    if (this.#held.has(id)) throw new SluiceError('CONFLICT', `run ${id} has not ended; cancel it first`)
    const { manifest, graph } = this.#parts.defined.workflow(told.workflow)
    const facts = told.facts()
    const chosen = chosenTasks(manifest.nodes, facts, id, tasks)
    const done = told.clear(planClear(graph, facts, { tasks: chosen, failed }, true))
    if (!done) throw new SluiceError('CONFLICT', `there is nothing of run ${id} to clear`)
    const params = JSON.stringify(told.params)
    const restored = restoreProgress(graph, params, done.rows, done.widths)
    const row = this.#rowOf(id, told.workflow, params, { logicalTime: told.logicalTime })
    const owned = new OwnedRun(row, manifest, restored.progress, this.#parts.limits)
    before(done.cleared)
    this.#hold({ owned, told, parent: undefined, ready: restored.ready })
  }

  isPaused(workflow: string): boolean {
    return this.#paused.has(workflow)
  }

  #setPaused({ owned }: Held, paused: boolean): void {
    owned.paused = paused
    this.#parts.limits.pause(owned, paused)
  }

  /** Until nothing more can start and everything is told. Runs that this concerns meanwhile get their turn. */
  pump(first?: Held): void {
    if (first) this.#agenda.add(first)
    if (this.#pumping) return
    this.#pumping = true
    try {
      for (;;) {
        const [held] = this.#agenda
        if (held) {
          this.#agenda.delete(held)
          this.#startReady(held)
          this.#commit(held)
        } else if (!this.#startLimited()) return
      }
    } finally {
      this.#pumping = false
    }
  }

  #startReady(held: Held): void {
    const { owned } = held
    for (const place of places) {
      let free = place === 'engine' ? Number.POSITIVE_INFINITY : this.#free
      while (free > 0 && owned.canStart(place)) {
        if (!this.#decide(held, () => owned.start(place, this.#startParts()))) break
        free -= 1
        if (place !== 'engine') this.#free -= 1
      }
      if (place !== 'engine' && owned.canStart(place)) this.#crowded.add(held)
    }
  }

  #startLimited(): boolean {
    if (this.#free <= 0) return false
    return this.#parts.limits.next(({ owner, ...task }) => {
      const held = this.#held.get(owner.row.id)
      if (!held) return 0
      const parts = this.#startParts()
      const { isolation } = owner.workflow.nodes[task.node]!
      if (!this.#decide(held, () => owner.startThis(task, isolation, parts))) return 0
      this.#free -= 1
      this.#agenda.add(held)
      return parts.token
    })
  }

  #startParts() {
    this.#tokens += 1
    return { token: this.#tokens, now: this.#parts.now(), random: this.#parts.random }
  }

  /** What cannot be decided ends the run, as an engine would end it. */
  #decide<Result>(held: Held, decision: () => Result): Result | undefined {
    try {
      return decision()
    } catch (thrown) {
      this.#agenda.delete(held)
      const { starts } = held.owned.takeChange().after
      this.#free += starts.length
      this.#parts.limits.committed(
        [],
        starts.map(({ attempt }) => attempt.token),
      )
      held.told.fail(`it cannot be decided: ${messageOf(thrown)}`, new Date(this.#parts.now()))
      this.#parts.attempts.killOf(held.told.id)
      this.#end(held)
      return undefined
    }
  }

  #commit(held: Held): void {
    const { owned, told } = held
    if (!owned.hasChange || !this.#held.has(told.id)) return
    const { limits, attempts, later } = this.#parts
    const now = this.#parts.now()
    const { change, after } = owned.takeChange()
    told.take(change, new Date(now))
    limits.committed(
      after.starts.map(({ attempt }) => attempt.token),
      after.ends.map(({ token }) => token),
    )
    for (const { at, what } of after.later) later(at, held, what)
    for (const { at, what } of owned.limitsOf(after, now)) later(at, held, what)
    for (const token of after.kill) attempts.kill(token)
    for (const { attempt } of after.starts) attempts.start(attempt, told.log, (end) => this.#ended(held, attempt, end))
    for (const child of change.children ?? []) {
      this.begin({ workflow: child.workflow, plan: 'run', logicalTime: null, params: child.params }, child)
    }
    for (const { node, mapIndex } of change.stop ?? []) this.#cancelChildren(told.id, node, mapIndex)
    if (after.ended) this.#end(held)
  }

  #ended(held: Held, start: AttemptStart, end: AttemptEnd): void {
    this.#free += 1
    for (const crowded of this.#crowded) this.#agenda.add(crowded)
    this.#crowded.clear()
    if (!this.#held.has(held.told.id)) {
      this.#parts.limits.committed([], [start.token])
      this.pump()
      return
    }
    const { token, ...outcome } = end
    const { stored, ...plain } = outcome as typeof outcome & { readonly stored?: string }
    const { node, mapIndex } = start
    this.tell(held, { kind: 'ended', node, mapIndex, token, outcome: plain as never })
    if (end.kind === 'success') this.#parts.succeeded(nameOf(start), held.told.workflow)
  }

  #end(held: Held): void {
    const { told, parent, owned } = held
    this.#held.delete(told.id)
    this.#crowded.delete(held)
    this.#parts.limits.forget(owned)
    const { workflow } = told
    if (owned.workflow.maxActiveRuns !== undefined) {
      if (held.begun) this.#active.set(workflow, (this.#active.get(workflow) ?? 1) - 1)
      this.#admit(workflow)
    }
    const above = parent && this.#held.get(parent.runId)
    if (!parent || !above) return
    const result = told.result === undefined ? null : JSON.stringify(told.result)
    const body = JSON.stringify({ state: told.state, error: told.error, result, run: told.id })
    this.tell(above, eventOf({ id: 0, ...parent, kind: 'resume', body })!)
  }

  /** Begins runs of a workflow for which there is room: by priority, then in the order of their coming. */
  #admit(workflow: string): void {
    const { maxActiveRuns = Number.POSITIVE_INFINITY } = this.#parts.defined.workflow(workflow).manifest
    const waiting = this.#waitingOf(workflow)
    const passed: Held[] = []
    for (let held = waiting.pop(); held; held = waiting.pop()) {
      const active = this.#active.get(workflow) ?? 0
      if (!this.#held.has(held.told.id)) continue
      // What a task of another run waits for goes on all the same.
      const mayBegin = active < maxActiveRuns && (!this.#paused.has(workflow) || held.parent !== undefined)
      if (!mayBegin) passed.push(held)
      else {
        this.#active.set(workflow, active + 1)
        this.#start(held)
      }
      if (active >= maxActiveRuns) break
    }
    for (const held of passed) waiting.push(held)
  }

  #waitingOf(workflow: string): Heap<Held> {
    const known = this.#waiting.get(workflow)
    if (known) return known
    const fresh = new Heap<Held>((one, other) => {
      const [a, b] = [one.owned.row.priority, other.owned.row.priority]
      return a === b ? one.order < other.order : a > b
    })
    this.#waiting.set(workflow, fresh)
    return fresh
  }

  #start(held: Held): void {
    held.begun = true
    for (const range of held.ready) held.owned.addReady(range)
    this.tell(held, { kind: 'begin' })
  }

  #cancelChildren(runId: string, node: number, mapIndex: number): void {
    for (const { told, parent } of [...this.#held.values()]) {
      if (parent?.runId === runId && parent.node === node && parent.mapIndex === mapIndex) this.cancel(told.id)
    }
  }
}
