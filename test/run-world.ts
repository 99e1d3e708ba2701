/**
 * Runs played against `advance`, in memory: rows are written from transitions under the guards of the store, attempts
 * end in a drawn order, owners crash and restore, and after every step the state is judged by naive rules over the rows.
 */
import fc from 'fast-check'
import { advance, startTask } from '../src/core/advance.ts'
import { compileGraph, type Graph } from '../src/core/graph.ts'
import {
  argumentsOf,
  type Decision,
  newProgress,
  type Outcome,
  type RunEvent,
  type RunProgress,
  type Transition,
} from '../src/core/run-progress.ts'
import { restoreProgress, type TaskRow } from '../src/core/run-restore.ts'
import { mayBecome, type TaskState, type TerminalTaskState } from '../src/core/task-state.ts'
import {
  decideByList,
  ended,
  manifestOf,
  type NodePlan,
  params,
  resultText,
  upstreamOf,
  waitsForAll,
} from './run-plans.ts'

/** The rows that the store would have, changed only as its guards allow. */
export class Rows {
  readonly tasks = new Map<string, { -readonly [K in keyof TaskRow]: TaskRow[K] }>()
  readonly widths = new Map<number, number>()

  apply(t: Transition): void {
    const key = `${t.node} ${t.mapIndex}`
    const row = this.tasks.get(key)
    if ((row?.state ?? 'none') !== t.from) throw new Error(`task ${key} is ${row?.state}, not ${t.from}`)
    if (!mayBecome(t.from, t.to)) throw new Error(`task ${key} cannot go from ${t.from} to ${t.to}`)
    const same = { node: t.node, mapIndex: t.mapIndex, attempt: t.attempt }
    const empty = { losses: row?.losses ?? 0, token: null, result: null, retryAt: null }
    if (t.to === 'running') {
      if (t.attempt !== (row?.attempt ?? 0) + 1) throw new Error(`attempt ${t.attempt} of task ${key} is not the next`)
      this.tasks.set(key, { ...same, ...empty, state: 'running', token: t.token })
    } else if (t.from === 'running') {
      if (row!.token !== t.token || row!.attempt !== t.attempt) throw new Error(`another attempt of ${key} is live`)
      if (t.losses < row!.losses || t.losses > t.attempt) throw new Error(`${t.losses} losses of task ${key}`)
      const { losses, result = null, retryAt = null } = t
      this.tasks.set(key, { ...same, state: t.to, losses, token: null, result, retryAt })
    } else {
      if (t.attempt !== (row?.attempt ?? 0) || t.token !== 0) throw new Error(`nothing of task ${key} may be live`)
      this.tasks.set(key, { ...same, ...empty, state: t.to })
    }
  }

  widen(node: number, width: number): void {
    if (this.widths.has(node)) throw new Error(`node ${node} is expanded twice`)
    this.widths.set(node, width)
  }

  copy(): Rows {
    const copy = new Rows()
    for (const [key, row] of this.tasks) copy.tasks.set(key, { ...row })
    for (const [node, width] of this.widths) copy.widths.set(node, width)
    return copy
  }

  of(node: number): TaskRow[] {
    return [...this.tasks.values()].filter((row) => row.node === node)
  }

  /** How a node stands, by its rows alone. `open` is a node that may have started. */
  stateOf(node: number, cancelled: boolean): TerminalTaskState | 'open' {
    const rows = this.of(node)
    const whole = rows.find((row) => row.attempt === 0)
    if (whole) return whole.state as TerminalTaskState
    const width = this.widths.get(node) ?? 1
    const some = (state: TaskState) => rows.some((row) => row.state === state)
    if (rows.some((row) => !ended(row.state))) return 'open'
    if (rows.length < width && !(cancelled && rows.length > 0)) return 'open'
    if (some('failed')) return 'failed'
    return some('cancelled') || rows.length < width ? 'cancelled' : 'success'
  }
}

interface Task {
  readonly node: number
  readonly mapIndex: number
}
interface Attempt extends Task {
  readonly token: number
  readonly attempt: number
  readonly losses: number
}

/** What the drawn numbers may choose: all in steps of the play. */
export interface Course {
  readonly seed: number
  readonly cancelAt: number | undefined
  readonly crashAt: readonly number[]
}

export const courses = (can: { cancel: boolean; crash: boolean }): fc.Arbitrary<Course> =>
  fc.record({
    seed: fc.nat(),
    cancelAt: can.cancel ? fc.option(fc.nat(40), { nil: undefined, freq: 6 }) : fc.constant(undefined),
    crashAt: can.crash ? fc.array(fc.nat(60), { minLength: can.cancel ? 0 : 1, maxLength: 3 }) : fc.constant([]),
  })

/** Plays one run to its end, and gives what it left behind. Throws when anything is not as it must be. */
export function play(plans: readonly NodePlan[], course: Course): { rows: Rows; progress: RunProgress } {
  const world = new RunWorld(plans, course)
  world.toEnd()
  return { rows: world.rows, progress: world.progress }
}

class RunWorld {
  readonly plans: readonly NodePlan[]
  readonly course: Course
  readonly graph: Graph
  progress: RunProgress
  /** What was decided, and what of it is committed. */
  rows = new Rows()
  private committed = new Rows()
  private ready: Task[] = []
  private retries: Task[] = []
  private live: Attempt[] = []
  private readonly stale: Attempt[] = []
  private released = new Set<number>()
  /** Somebody wants it cancelled, and: its present owner knows. */
  private wished = false
  private cancelled = false
  private tokens = 0
  private now = 1_000
  private draw: number

  constructor(plans: readonly NodePlan[], course: Course) {
    this.plans = plans
    this.course = course
    this.graph = compileGraph({ nodes: plans.map(manifestOf) })
    this.progress = newProgress(this.graph, params)
    this.draw = course.seed
  }

  /** Numbers in [0, 1) by a linear congruence (Numerical Recipes). */
  private random = (): number => {
    this.draw = (Math.imul(this.draw, 1_664_525) + 1_013_904_223) >>> 0
    return this.draw / 2 ** 32
  }

  private one<Item>(items: Item[]): Item {
    return items.splice(Math.floor(this.random() * items.length), 1)[0]!
  }

  toEnd(): void {
    this.take({ kind: 'begin' })
    for (let step = 0; this.progress.state === 'running'; step += 1) {
      if (step > 5_000) throw new Error('the run does not end')
      if (step === this.course.cancelAt) this.cancel()
      else if (this.course.crashAt.includes(step)) this.crash()
      else this.step()
      this.now += 1
    }
    if (this.live.length > 0) throw new Error('the run has ended and something is live')
    if (this.take({ kind: 'cancel' }).kill.length > 0) throw new Error('an ended run moved')
  }

  private step(): void {
    const chance = this.random()
    if (chance < 0.1 && this.stale.length > 0) this.redeliver()
    else if (chance < 0.3) this.committed = this.rows.copy()
    else if (this.live.length > 0 && (chance < 0.6 || this.ready.length + this.retries.length === 0)) this.endOne()
    else if (this.ready.length > 0 && (chance < 0.9 || this.retries.length === 0)) this.start(this.one(this.ready))
    else if (this.retries.length > 0) this.start(this.one(this.retries))
    else throw new Error('the run has not ended, and there is nothing to do')
  }

  private start(task: Task): void {
    const token = ++this.tokens
    const transition = startTask(this.progress, task.node, task.mapIndex, token)
    if (!transition) {
      if (!this.cancelled) throw new Error(`task ${task.node} ${task.mapIndex} was ready and may not start`)
      return
    }
    if (this.cancelled) throw new Error('a task started after the cancel')
    if (transition.token !== token) throw new Error('the attempt has another token')
    this.rows.apply(transition)
    this.checkArguments(task)
    const { attempt, losses } = transition
    this.live.push({ ...task, token, attempt, losses })
    if (startTask(this.progress, task.node, task.mapIndex, ++this.tokens)) throw new Error('two attempts are live')
  }

  private endOne(): void {
    // The start is committed before anybody can tell of an end.
    this.committed = this.rows.copy()
    const attempt = this.one(this.live)
    this.stale.push(attempt)
    this.takeEnd(attempt, this.outcomeOf(attempt))
  }

  private outcomeOf({ node, mapIndex, attempt, losses }: Attempt): Outcome {
    const { fates } = this.plans[node]!
    const fate = fates[Math.max(0, mapIndex) % fates.length]!
    const failures = attempt - 1 - losses
    if (losses < fate.losses) return { kind: 'lost', reason: 'it was told so' }
    const error = { code: 'ACTION_FAILED', message: 'no', retryable: true } as const
    if (failures < fate.failures) return { kind: 'failure', error }
    if (fate.last === 'fatal') return { kind: 'failure', error: { ...error, retryable: false } }
    return fate.last === 'cancelled' ? { kind: 'cancelled' } : { kind: 'success', result: resultText(node) }
  }

  private redeliver(): void {
    const attempt = this.stale[Math.floor(this.random() * this.stale.length)]!
    const decision = this.takeEnd(attempt, { kind: 'success', result: '"late"' })
    if (decision.transitions.length + decision.ready.length > 0) throw new Error('an end counted twice')
    const row = this.rows.tasks.get(`${attempt.node} ${attempt.mapIndex}`)
    const over = row && ended(row.state)
    if (over && startTask(this.progress, attempt.node, attempt.mapIndex, ++this.tokens)) {
      throw new Error('a task started after its end')
    }
  }

  private cancel(): void {
    this.wished = true
    this.cancelled = true
    const { kill } = this.take({ kind: 'cancel' })
    const tokens = (attempts: readonly { token: number }[]) => attempts.map(({ token }) => token).sort()
    if (String(tokens(kill)) !== String(tokens(this.live))) throw new Error('the cancel does not stop what is live')
  }

  /** The owner is gone with all that was not committed; the next one restores, and finds no runner at work.
   *  A wish to cancel is durable, and is read after that. */
  private crash(): void {
    this.cancelled = false
    this.rows = this.committed.copy()
    const widths = [...this.rows.widths].map(([node, width]) => ({ node, width }))
    const restored = restoreProgress(this.graph, params, [...this.rows.tasks.values()], widths)
    this.progress = restored.progress
    this.stale.push(...this.live)
    this.live = []
    this.ready = restored.ready.flatMap(tasksOf)
    this.retries = restored.retries.map(({ node, mapIndex }) => ({ node, mapIndex }))
    this.released = new Set([...this.rows.widths.keys(), ...[...this.rows.tasks.values()].map((row) => row.node)])
    this.take({ kind: 'begin' })
    for (const { node, mapIndex, token } of restored.running) {
      const row = this.rows.tasks.get(`${node} ${mapIndex}`)!
      this.takeEnd({ ...row, token }, { kind: 'lost', reason: 'its owner ended' })
    }
    if (this.wished && this.progress.state === 'running') this.cancel()
  }

  private takeEnd(attempt: Attempt, outcome: Outcome): Decision {
    const { node, mapIndex, token } = attempt
    return this.take({ kind: 'ended', node, mapIndex, token, outcome })
  }

  private take(event: RunEvent): Decision {
    const decision = advance(this.progress, event, this.now, this.random)
    for (const transition of decision.transitions) this.rows.apply(transition)
    for (const { node, width } of decision.expanded) this.rows.widen(node, width)
    for (const { at } of decision.retries) if (at < this.now) throw new Error('a retry is due before now')
    this.retries.push(...decision.retries.map(({ node, mapIndex }) => ({ node, mapIndex })))
    for (const range of decision.ready) this.release(range)
    if ((decision.end !== undefined) !== this.hasJustEnded(decision))
      throw new Error('the end is told at the wrong time')
    this.checkStates()
    return decision
  }

  private hasJustEnded(decision: Decision): boolean {
    return decision.end !== undefined && decision.end.state === this.progress.state && this.progress.openNodes === 0
  }

  private release(range: { node: number; first: number; last: number }): void {
    if (this.released.has(range.node)) throw new Error(`node ${range.node} is released twice`)
    this.released.add(range.node)
    this.ready.push(...tasksOf(range))
  }

  /** Whatever is decided must be so by the rows, and whatever can be decided must be. */
  private checkStates(): void {
    const states = this.plans.map((_, index) => this.rows.stateOf(index, this.cancelled))
    for (const [index, plan] of this.plans.entries()) {
      const { state } = this.progress.nodes[index]!
      const told = states[index] === 'open' ? (this.released.has(index) ? 'scheduled' : 'none') : states[index]
      if (state !== told) throw new Error(`node ${index} is ${state}; by its rows it is ${told}`)
      if (this.wished) continue
      const says = decideByList(
        plan.rule,
        upstreamOf(this.plans, index).map((up) => (states[up] === 'open' ? undefined : states[up])),
      )
      if (state === 'none' ? says !== 'wait' : !allowed(says, state, this.plans, index, this.rows))
        throw new Error(`node ${index} is ${state}; its rule says ${says}`)
    }
  }

  private checkArguments(task: Task): void {
    const plan = this.plans[task.node]!
    if (!waitsForAll.includes(plan.rule)) return
    const given = plan.upstream.map((up) => this.resultOf(up))
    const { over } = plan
    const item =
      typeof over === 'object' ? (this.resultOf(over.node) as { items: unknown[] }).items[task.mapIndex] : task.mapIndex
    const expected = JSON.stringify(over === undefined ? { given } : { given, item })
    const found = argumentsOf(this.progress, task.node, task.mapIndex)
    if (found !== expected) throw new Error(`the arguments are ${found}, not ${expected}`)
  }

  private resultOf(index: number): unknown {
    const value = (row: TaskRow | undefined) => (row?.state === 'success' ? JSON.parse(row.result!) : null)
    const rows = this.rows.of(index)
    if (this.plans[index]!.over === undefined) return value(rows[0])
    const width = this.rows.widths.get(index) ?? 0
    return Array.from({ length: width }, (_, at) => value(rows.find((row) => row.mapIndex === at)))
  }
}

/** A rule may have decided on less than is known now; only a skip then may stand where a failure followed it. */
function allowed(says: string, state: TaskState, plans: readonly NodePlan[], index: number, rows: Rows): boolean {
  if (says === 'skip') return state === 'skipped'
  if (says === 'upstream_failed') {
    const ups = upstreamOf(plans, index).map((up) => rows.stateOf(up, false))
    const skipFirst = plans[index]!.rule === 'all_success' && ups.includes('skipped')
    return state === 'upstream_failed' || (state === 'skipped' && skipFirst)
  }
  const ran = ['scheduled', 'success', 'failed', 'cancelled'].includes(state)
  return says === 'run' && (ran || (state === 'upstream_failed' && plans[index]!.over !== undefined))
}

function tasksOf({ node, first, last }: { node: number; first: number; last: number }): Task[] {
  return Array.from({ length: last - first + 1 }, (_, offset) => ({ node, mapIndex: first + offset }))
}
