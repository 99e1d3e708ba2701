/**
 * The reference for limits: what tasks hold is counted anew from the rows, task by task, whenever something has begun. It
 * knows nothing of grants, words and lines.
 *
 * 1. What runs at once never holds more of anything than there is; who has set less waits until that was heard.
 * 2. In any time T a rate has at most `burst + limit * T / per` starts.
 * 3. Of those who wait on one engine for one and the same thing, the first goes first.
 * 4. When nothing moves any more, nobody waits for something of which there is enough.
 */
import type { Need } from '../../src/core/limit-lines.ts'
import type { Case, SimWorkflow } from './plan.ts'
import type { SimRun, SimTask } from './store.ts'

/** What a task holds from its start to its end, by what people call it. */
export interface Held {
  readonly limit: string
  readonly amount: number
}

export interface Waiting {
  readonly run: { readonly paused: boolean }
  readonly name: string
  readonly lane: 'shared' | 'process'
  readonly needs: readonly Held[]
  readonly priority: number
  readonly since: number
}

interface Known {
  readonly slots: number
  readonly rate?: { readonly limit: number; readonly perMs: number }
  /** What was in force before and not everybody knows to be gone. */
  former: { readonly slots: number; readonly unheard: Set<string> }[]
  /** What people set; null: as defined. */
  set: number | null
  /** Somebody has set it at some time. */
  wasSet: boolean
  /** Of a rate: when its tokens were used. */
  readonly uses: number[]
}

export class LimitJudge {
  readonly #known = new Map<string, Known>()
  readonly #workflows: ReadonlyMap<string, SimWorkflow>

  constructor({ workflows }: Case) {
    this.#workflows = new Map(workflows.map((workflow) => [workflow.name, workflow]))
    for (const { name, workers, maxActiveRuns, nodes } of workflows) {
      if (workers !== undefined) this.#declare(`workers:${name}`, workers)
      if (maxActiveRuns !== undefined) this.#declare(`runs:${name}`, maxActiveRuns)
      for (const { manifest } of nodes) {
        const { pool, key, rate } = manifest.limits ?? {}
        if (pool) this.#declare(`pool:${pool.name}`, pool.of)
        if (key) this.#declare(`key:${key.name}`, key.of)
        if (rate) this.#declare(`rate:${rate.name}`, rate.burst, rate)
      }
    }
  }

  #declare(limit: string, slots: number, rate?: { limit: number; perMs: number }): void {
    const known = this.#known.get(limit)
    // Of two definitions the smaller holds.
    if (known && known.slots <= slots) return
    this.#known.set(limit, { slots, ...(rate ? { rate } : {}), former: [], set: null, wasSet: false, uses: [] })
  }

  /** Limits of which there are slots, as they can be set. */
  get settable(): string[] {
    return [...this.#known].filter(([, { rate }]) => rate === undefined).map(([limit]) => limit)
  }

  isSet(limit: string): boolean {
    return this.#known.get(limit)!.set !== null
  }

  slotsOf(limit: string): number {
    const known = this.#known.get(rowOf(limit))!
    return known.set ?? known.slots
  }

  /** Somebody sets a limit; of these engines nobody has heard it yet. */
  set(limit: string, slots: number | null, engines: readonly string[]): void {
    const known = this.#known.get(limit)!
    known.former.push({ slots: known.set ?? known.slots, unheard: new Set(engines) })
    known.set = slots
    known.wasSet = true
  }

  /** These engines know all limits as they are, or are no more. */
  heard(engine: string): void {
    for (const known of this.#known.values()) {
      for (const { unheard } of known.former) unheard.delete(engine)
      known.former = known.former.filter(({ unheard }) => unheard.size > 0)
    }
  }

  needsOf(run: Pick<SimRun, 'workflow'>, node: number, mapIndex: number): Held[] {
    const { name, workers, nodes } = this.#workflows.get(run.workflow)!
    const { limits } = nodes[node]!.manifest
    const held: Held[] = workers === undefined ? [] : [{ limit: `workers:${name}`, amount: 1 }]
    if (!limits) return held
    // In the lists of this simulation each item is its own index.
    const [part] = limits.key?.parts ?? []
    if (limits.key)
      held.push({ limit: `key:${limits.key.name}:${typeof part === 'number' ? part : mapIndex}`, amount: 1 })
    if (limits.pool) held.push({ limit: `pool:${limits.pool.name}`, amount: limits.pool.slots })
    if (limits.rate) held.push({ limit: `rate:${limits.rate.name}`, amount: 1 })
    return held
  }

  /** A task waits for what it needs; the engine was told that it is these. */
  offered(name: string, needs: readonly Need[], own: readonly Held[]): void {
    const told = (some: readonly Held[]) => some.map(({ limit, amount }) => `${limit} ${amount}`).join(', ')
    if (told(needs) !== told(own)) throw new Error(`${name} waits for ${told(needs)}; it needs ${told(own)}`)
  }

  /** A task is started by its engine, on which these wait too. */
  started(one: Waiting, others: Iterable<Waiting>): void {
    const [need, ...more] = one.needs
    if (one.run.paused) throw new Error(`${one.name} starts, and its workflow is paused`)
    if (!need || more.length > 0) return
    const known = this.#known.get(rowOf(need.limit))!
    if (known.former.length > 0) return
    for (const other of others) {
      const [its, ...rest] = other.needs
      if (other.run.paused || other.lane !== one.lane || its?.limit !== need.limit || rest.length > 0) continue
      if (isBefore(other, one) && its.amount <= this.slotsOf(need.limit))
        throw new Error(
          `${one.name} starts with ${need.amount} of ${need.limit}, before ${other.name}, which came first`,
        )
    }
  }

  /** Tasks began at this time, beside others that run. */
  began(tasks: readonly SimTask[], running: readonly { run: SimRun; task: SimTask }[], now: number): void {
    const holds = running.map(({ run, task }) => ({ task, held: this.needsOf(run, task.node, task.mapIndex) }))
    const limits = new Set(
      holds.filter(({ task }) => tasks.includes(task)).flatMap(({ held }) => held.map(({ limit }) => limit)),
    )
    for (const limit of limits) {
      const known = this.#known.get(rowOf(limit))!
      if (known.rate) {
        for (const { task, held } of holds)
          if (tasks.includes(task) && held.some((one) => one.limit === limit)) this.#use(limit, known, now)
        continue
      }
      const sum = heldOf(limit, holds)
      const most = Math.max(this.slotsOf(limit), ...known.former.map(({ slots }) => slots))
      if (sum > most) throw new Error(`${limit} has ${most}, and ${sum} are held`)
    }
  }

  #use(limit: string, { slots, rate, uses }: Known, now: number): void {
    uses.push(now)
    for (const [at, from] of uses.entries()) {
      const most = slots + ((now - from) * rate!.limit) / rate!.perMs
      if (uses.length - at > most + 1e-6)
        throw new Error(`${limit} has ${uses.length - at} starts in ${now - from} ms; at most ${most}`)
    }
  }

  /** Runs of a workflow that are active at once. */
  active(workflow: string, count: number): void {
    const known = this.#known.get(`runs:${workflow}`)
    // What was let in stays, whatever is set later.
    if (known && !known.wasSet && count > known.slots)
      throw new Error(`${count} runs of ${workflow} are active; at most ${known.slots}`)
  }

  /** Nothing moves any more: whoever waits lacks something. `hasRunner` says whether there is a runner for it. */
  atRest(
    waiting: readonly (Waiting & { readonly hasRunner: boolean })[],
    running: readonly { run: SimRun; task: SimTask }[],
  ): void {
    const holds = running.map(({ run, task }) => ({ task, held: this.needsOf(run, task.node, task.mapIndex) }))
    const free = (limit: string) => this.slotsOf(limit) - heldOf(limit, holds)
    const open = waiting.filter(({ run }) => !run.paused)
    const byLimit = new Map<string, (Waiting & { readonly hasRunner: boolean })[]>()
    for (const one of open) for (const { limit } of one.needs) byLimit.set(limit, [...(byLimit.get(limit) ?? []), one])
    const tell = (one: Waiting) =>
      new Error(
        `${one.name} waits for ${one.needs.map((need) => `${need.limit} (${free(need.limit)} free)`).join(' and ')}`,
      )
    for (const one of open) {
      const plain = one.needs.every(({ limit }) => !limit.startsWith('rate:'))
      const fits = one.needs.every(({ limit, amount }) => amount <= free(limit) && byLimit.get(limit)!.length === 1)
      if (plain && fits && one.hasRunner) throw tell(one)
    }
    for (const [limit, all] of byLimit) {
      if (limit.startsWith('rate:') || all.some(({ needs, hasRunner }) => needs.length > 1 || !hasRunner)) continue
      const most = Math.max(...all.map(({ needs }) => needs[0]!.amount))
      if (most <= free(limit)) throw tell(all[0]!)
    }
  }
}

/** Keys have one row for all their values. */
const rowOf = (limit: string): string => (limit.startsWith('key:') ? limit.slice(0, limit.indexOf(':', 4)) : limit)

const heldOf = (limit: string, holds: readonly { readonly held: readonly Held[] }[]): number =>
  holds.reduce((sum, { held }) => sum + (held.find((one) => one.limit === limit)?.amount ?? 0), 0)

const isBefore = (one: Waiting, other: Waiting): boolean =>
  one.priority > other.priority || (one.priority === other.priority && one.since < other.since)
