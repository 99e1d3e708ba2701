/**
 * The limits and runners of an engine, step by step: what `engine/limits` and `engine/own-runs` do around `engine/limit-talk`
 * and `engine/fill`, where each thing that could happen next is a call of its own.
 */
import type { Answer } from '../../src/core/limit-exchange.ts'
import { Fill } from '../../src/engine/fill.ts'
import { LimitTalk, type TokenDue, type Words } from '../../src/engine/limit-talk.ts'
import type { AfterCommit, Isolation, OwnedRun, Place, WaitingTasks } from '../../src/engine/owned-run.ts'
import { exchangeLimits } from '../../src/store/limits.ts'
import type { Draw } from './draw.ts'
import type { LimitJudge, Waiting } from './limit-judge.ts'
import type { SimLimits } from './limited.ts'
import type { SimStore } from './store.ts'

export interface OwnerLimitsParts {
  readonly id: string
  readonly store: SimStore
  readonly draw: Draw
  readonly judge: LimitJudge
  readonly limits: SimLimits
  readonly now: () => number
  readonly token: () => number
  readonly random: () => number
  /** Attempts that run in runners of this sort. */
  readonly busy: (isolation: Isolation) => number
  readonly executes: (token: number) => boolean
  readonly held: () => Iterable<OwnedRun>
}

/** A word on its way, there, or on its way back. */
interface Said {
  readonly words: Words
  /** The rows of limits as they were known when it landed: `heard` counts from then on. */
  outcome: 'none' | 'failed' | ReadonlyMap<string, Answer>
}

export class OwnerLimits {
  readonly talk: LimitTalk
  readonly fill: Fill
  said: Said | undefined
  due: TokenDue[] = []
  readonly #waiting = new Map<string, Waiting & { readonly owner: OwnedRun }>()
  readonly #parts: OwnerLimitsParts

  constructor(parts: OwnerLimitsParts) {
    this.#parts = parts
    const { now, draw } = parts
    this.talk = new LimitTalk({ nodeId: parts.id, now, runs: parts.executes })
    this.fill = new Fill({
      // A runner that is free is not always seen at once.
      executor: { free: (isolation) => Math.min(this.#free(isolation), draw.chance(0.3) ? 1 : 100) },
      startLimited: (free) => this.#startLimited(free),
      start: (run, place) => this.#start(run, place),
      changed: (run) => this.fill.queue(run),
    })
  }

  /** Where tasks wait that need something of which there is little. */
  readonly waiting: WaitingTasks = {
    offer: (run, range, needs, isolation) => {
      const { judge, now } = this.#parts
      const { priority = 0 } = run.workflow.nodes[range.node]!
      for (let mapIndex = range.first; mapIndex <= range.last; mapIndex += 1) {
        const name = `${run.row.id} ${range.node}/${mapIndex}`
        const own = judge.needsOf(run.row, range.node, mapIndex)
        judge.offered(name, needs, own)
        // A run's priority goes before those of its tasks.
        const order = run.row.priority * 1_000_000 + priority
        this.#waiting.set(name, {
          ...{ run, owner: run, name, lane: isolation, needs: own, priority: order, since: now() },
        })
      }
      this.talk.offer(run, range, needs, isolation)
    },
  }

  #free(isolation: Isolation): number {
    return this.#parts.limits.runners[isolation] - this.#parts.busy(isolation)
  }

  /** Whether a task that waits in line may start, or something has to be told. */
  get canStart(): boolean {
    const { hasNews } = this.talk.lines
    if (hasNews && !this.said) return true
    return (['shared', 'process'] as const).some((lane) => this.talk.lines.hopefulIn(lane) > 0 && this.#free(lane) > 0)
  }

  /** Starts what there is room for, and says what has to be told. */
  start(): void {
    for (const run of this.#parts.held()) this.fill.queue(run)
    this.fill.fill()
    if (this.said) return
    const words = this.talk.next(this.#parts.draw.pick([1, 2, undefined]))
    if (words) this.said = { words, outcome: 'none' }
  }

  #startLimited(free: readonly Isolation[]): Isolation | undefined {
    let started: Isolation | undefined
    this.talk.lines.next(free, ({ owner: run, node, mapIndex }) => {
      const { isolation } = run.workflow.nodes[node]!
      const token = this.#parts.token()
      const name = `${run.row.id} ${node}/${mapIndex}`
      const waited = this.#waiting.get(name)
      this.#waiting.delete(name)
      const parts = { token, now: this.#parts.now(), random: this.#parts.random }
      if (!run.startThis({ node, mapIndex }, isolation, parts)) return 0
      if (!waited) throw new Error(`${name} starts, and did not wait`)
      if (!free.includes(isolation)) throw new Error(`${name} starts without a runner`)
      this.#parts.judge.started(waited, this.#waiting.values())
      started = isolation
      this.fill.queue(run)
      return token
    })
    return started
  }

  #start(run: OwnedRun, place: Place): boolean {
    const { token, now, random } = this.#parts
    if (run.paused) throw new Error(`a task of ${run.row.id} starts, and its workflow is paused`)
    for (const other of this.#parts.held())
      if (other.row.priority > run.row.priority && other.canStart(place))
        throw new Error(`a task of ${run.row.id} starts before those of ${other.row.id}, which is more urgent`)
    return run.start(place, { token: token(), now: now(), random })
  }

  /** A word reaches the rows, or never does. */
  async land(arrives: boolean): Promise<void> {
    const said = this.said!
    said.outcome = 'failed'
    if (!arrives) return
    const { store, id } = this.#parts
    try {
      said.outcome = await exchangeLimits(store, id, said.words)
    } catch (error) {
      // Nobody whose lease has lapsed is granted anything.
      if (store.limits.isAlive(id)) throw error
    }
  }

  /** The answer to a word comes, or is lost. */
  hear(isLost: boolean): void {
    const { outcome } = this.said!
    this.said = undefined
    if (isLost || typeof outcome === 'string') this.talk.unanswered()
    else this.due.push(...this.talk.answered(outcome))
  }

  tokensDue(): boolean {
    const now = this.#parts.now()
    const over = this.due.filter(({ at }) => at <= now)
    if (over.length === 0) return false
    this.due = this.due.filter(({ at }) => at > now)
    this.talk.due(over.map(({ limit }) => limit))
    return true
  }

  acted(after: AfterCommit): void {
    this.fill.unreserve(after)
    this.talk.committed(
      after.starts.map(({ attempt }) => attempt.token),
      after.ends.map(({ token }) => token),
    )
  }

  forget(run: OwnedRun, after: AfterCommit): void {
    this.fill.forget(run)
    this.fill.unreserve(after)
    this.talk.lines.forget(run)
    for (const [name, { owner }] of this.#waiting) if (owner === run) this.#waiting.delete(name)
  }

  pause(run: OwnedRun): void {
    this.talk.pause(run, run.paused)
  }

  /** Those that wait here, and whether a runner is free for them. */
  inLine(): (Waiting & { readonly hasRunner: boolean })[] {
    return [...this.#waiting.values()].map((one) => ({ ...one, hasRunner: this.#free(one.lane) > 0 }))
  }

  /** What is left when nothing runs and nothing waits. */
  leftOver(limit: string): string | undefined {
    const { inUse, holders, waiting } = this.talk.lines.shown(limit, 5)
    if (inUse + holders.length + waiting === 0 && this.#waiting.size === 0) return undefined
    return `${this.#parts.id} keeps ${inUse} of ${limit} for ${holders.length}, and ${waiting} wait for it; ${this.#waiting.size} wait in all`
  }
}
