/**
 * The limits of a simulated world: the engine's own lines and its own exchange, for one node that is always answered. Pools,
 * keys, rates and workers of a workflow hold; of runners there are enough.
 */
import { exchange, type LimitState } from '../core/limit-exchange.ts'
import type { Candidate, Need } from '../core/limit-lines.ts'
import { type DeclaredLimit, limitNameOf } from '../core/limit-names.ts'
import { declaredLimits } from '../core/limit-needs.ts'
import { LimitLines } from '../core/limits.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import type { ReadyRange } from '../core/run-progress.ts'
import type { Isolation, OwnedRun, WaitingTasks } from '../engine/owned-run.ts'

const lanes: readonly Isolation[] = ['shared', 'process']
const mostWords = 1_000

export interface LimitsOfWorldParts {
  now(): number
  /** Asks for `look` at a time. */
  wakeAt(time: number, limit: string): void
}

export class LimitsOfWorld implements WaitingTasks {
  readonly #lines = new LimitLines<OwnedRun>('world')
  readonly #states = new Map<string, LimitState>()
  readonly #declared: ReadonlyMap<string, DeclaredLimit>
  readonly #parts: LimitsOfWorldParts

  constructor(workflows: readonly WorkflowManifest[], parts: LimitsOfWorldParts) {
    const { limits } = declaredLimits(workflows)
    this.#declared = new Map(limits.map((limit) => [`${limit.kind}:${limit.name}`, limit]))
    this.#parts = parts
  }

  offer(run: OwnedRun, range: ReadyRange, needs: readonly Need[], isolation: Isolation): void {
    const { priority = 0 } = run.workflow.nodes[range.node]!
    const place = { priority: run.row.priority * 10_000 + priority, since: this.#parts.now() }
    this.#lines.offer(run, range, needs, place, isolation)
  }

  /** Starts the first task in line; false when all of them wait. */
  next(start: (candidate: Candidate<OwnedRun>) => number): boolean {
    for (;;) {
      if (this.#lines.next(lanes, start)) return true
      const words = this.#lines.words(this.#parts.now(), mostWords)
      if (words.length === 0) return false
      for (const word of words) {
        const { state, answer } = exchange(this.#stateOf(word.limit), word, this.#parts.now())
        this.#states.set(word.limit, state)
        this.#lines.answered(word, answer)
        if (answer.retryInMs !== undefined) this.#parts.wakeAt(this.#parts.now() + answer.retryInMs, word.limit)
      }
    }
  }

  committed(started: readonly number[], ended: readonly number[]): void {
    const now = this.#parts.now()
    for (const token of started) this.#lines.startTold(token, now)
    for (const token of ended) this.#lines.release(token, now)
  }

  pause(run: OwnedRun, paused: boolean): void {
    if (paused) this.#lines.pause(run)
    else this.#lines.resume(run)
  }

  forget(run: OwnedRun): void {
    this.#lines.forget(run)
  }

  /** A token may be there. */
  look(limit: string): void {
    this.#lines.look(limit)
  }

  #stateOf(id: string): LimitState {
    const { kind, name } = limitNameOf(id)
    const known = this.#states.get(id)
    if (known) return known
    const { slots = 0, rate } = this.#declared.get(`${kind}:${name}`) ?? {}
    if (!rate) return { capacity: slots, bucket: undefined, holdings: [] }
    const bucket = { limit: slots, perMs: rate.perMs, burst: rate.burst, level: rate.burst, at: this.#parts.now() }
    return { capacity: rate.burst, bucket, holdings: [] }
  }
}
