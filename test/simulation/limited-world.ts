/** What a case with limits adds to the world: engines that die slowly, news, people who set limits, and moments of rest. */
import { declaredLimits } from '../../src/core/limit-needs.ts'
import { LimitLines } from '../../src/core/limits.ts'
import type { WorkflowManifest } from '../../src/core/manifest.ts'
import { isTerminal } from '../../src/core/run-state.ts'
import { exchangeLimits } from '../../src/store/limits.ts'
import type { Draw } from './draw.ts'
import { LimitJudge } from './limit-judge.ts'
import type { SimLimits } from './limited.ts'
import type { Owner } from './owner.ts'
import type { Case } from './plan.ts'
import type { SimRun, SimStore, SimTask } from './store.ts'

export interface LimitedWorldParts {
  readonly plan: Case & { readonly limits: SimLimits }
  readonly workflows: readonly WorkflowManifest[]
  readonly store: SimStore
  readonly draw: Draw
  readonly owners: readonly Owner[]
  readonly now: () => number
  /** Nothing goes wrong from now on. */
  readonly isCalm: () => boolean
}

/** Words and groups until everything is at rest; it takes a few. */
const mostRounds = 500

export class LimitedWorld {
  readonly judge: LimitJudge
  /** Engines whose processes are gone, and whose leases hold, with their lives. What their runners do, they do. */
  readonly #dying = new Map<string, number>()
  /** News on their way, by engine. */
  readonly #news = new Map<Owner, string[]>()
  readonly #parts: LimitedWorldParts
  #settings: number
  #lostWords: number
  #lateAnswers: number

  constructor(parts: LimitedWorldParts) {
    this.#parts = parts
    const { plan, store, owners } = parts
    this.judge = new LimitJudge(plan)
    this.#settings = plan.limits.settings
    this.#lostWords = plan.limits.lostWords
    this.#lateAnswers = plan.limits.lateAnswers
    store.limits.declare(declaredLimits(parts.workflows).limits)
    store.limits.isAlive = (nodeId) => nodeId === 'probe' || this.isAlive(nodeId)
    store.lifeOf = (nodeId) => `${nodeId} ${owners.find(({ id }) => id === nodeId)?.lives}`
  }

  isAlive(nodeId: string): boolean {
    return this.#dying.has(nodeId) || this.#parts.owners.some(({ id, leased }) => id === nodeId && leased)
  }

  /** Its lease is known to lapse soon, so it ends everything before. */
  lapse(owner: Owner): void {
    owner.suspend()
    owner.leased = false
    this.judge.heard(owner.id)
  }

  regain(owner: Owner): void {
    owner.suspend()
    owner.leased = true
    owner.limits!.talk.resume()
  }

  die(owner: Owner): void {
    if (owner.leased) this.#dying.set(owner.id, owner.lives)
    this.judge.heard(owner.id)
  }

  /** Leases lapse, and what was not told is found. */
  passTime(): void {
    const { draw, owners } = this.#parts
    for (const id of this.#dying.keys()) if (this.#parts.isCalm() || draw.chance(0.3)) this.#dying.delete(id)
    for (const owner of owners) if (draw.chance(0.2)) this.#sweep(owner)
    if (this.#settings > 0 && draw.chance(0.3)) this.#setOne()
    else if (this.#parts.isCalm()) this.#resetAll()
  }

  /** Nobody tells what a dead engine held. Where nobody dies and everything is heard, nobody has to look by itself. */
  #sweep(owner: Owner): void {
    const { limits, faults } = this.#parts.plan
    if (limits.lostWords + limits.lateAnswers + faults.crashes + faults.lapses > 0) owner.limits!.talk.lines.look()
  }

  #setOne(): void {
    const { draw } = this.#parts
    const limits = this.judge.settable
    if (limits.length === 0) return
    this.#settings -= 1
    this.#set(draw.pick(limits), draw.below(4))
  }

  /** What people set may keep runs from ever ending. */
  #resetAll(): void {
    this.#settings = 0
    for (const limit of this.judge.settable) if (this.judge.isSet(limit)) this.#set(limit, null)
  }

  #set(limit: string, slots: number | null): void {
    const { store, owners } = this.#parts
    const row = limit
    store.limits.set(row, slots)
    this.judge.set(limit, slots, [...this.#dying.keys(), ...owners.filter(({ leased }) => leased).map(({ id }) => id)])
  }

  /** Something of the talk about limits happens; false when nothing can. */
  async step(owner: Owner): Promise<boolean> {
    const { draw } = this.#parts
    this.#spread()
    const limits = owner.limits!
    const news = this.#news.get(owner) ?? []
    if (news.length > 0 && draw.chance(0.4)) {
      const told = news.shift()!
      if (!this.#loses()) limits.talk.heard(told)
    } else if (limits.said) {
      // An answer may be on its way for longer than a lease holds.
      if (!owner.leased && limits.said.outcome !== 'none' && draw.chance(0.9)) return false
      await this.#say(owner, this.#loses())
      if (limits.said && this.#lateAnswers > 0 && !this.#parts.isCalm() && draw.chance(0.3)) {
        this.#lateAnswers -= 1
        this.lapse(owner)
      }
    } else return limits.tokensDue()
    return true
  }

  #loses(): boolean {
    if (this.#lostWords === 0 || this.#parts.isCalm() || this.#parts.draw.chance(0.8)) return false
    this.#lostWords -= 1
    return true
  }

  async #say({ limits }: Owner, loses: boolean): Promise<void> {
    if (limits!.said!.outcome === 'none') await limits!.land(!loses)
    else limits!.hear(loses)
  }

  /** What was told on the channel is on its way to every engine. */
  #spread(): void {
    const { store, owners } = this.#parts
    for (const told of store.limits.news.splice(0)) {
      for (const owner of owners) {
        const news = this.#news.get(owner) ?? []
        this.#news.set(owner, news)
        news.push(told)
      }
    }
  }

  /** The change of a run is committed. */
  committed(): void {
    const { store } = this.#parts
    if (store.begun.length > 0) this.judge.began(store.begun.splice(0), this.#running(), this.#parts.now())
    const active = new Map<string, number>()
    for (const { state, workflow } of store.runs.values())
      if (state === 'running') active.set(workflow, (active.get(workflow) ?? 0) + 1)
    for (const [workflow, count] of active) this.judge.active(workflow, count)
  }

  /** What runs on engines that hold their leases; all else has been ended. */
  #running(): { run: SimRun; task: SimTask }[] {
    const { store, owners } = this.#parts
    const leased = owners.filter((owner) => owner.leased).map(({ id, lives }) => [id, lives] as const)
    const alive = new Set([...leased, ...this.#dying].map(([id, lives]) => `${id} ${lives}`))
    const isLive = ({ state, startedBy }: SimTask) => state === 'running' && alive.has(startedBy!)
    return [...store.runs.values()].flatMap((run) =>
      isTerminal(run.state) ? [] : [...run.tasks.values()].filter(isLive).map((task) => ({ run, task })),
    )
  }

  /** Everything that is under way arrives, and nothing else happens: then whoever waits lacks something. */
  async rest(): Promise<void> {
    const { owners } = this.#parts
    if (this.#dying.size > 0 || owners.some(({ leased, again }) => !leased || again.size > 0)) return
    for (const owner of owners) this.#sweep(owner)
    await this.#arrive()
    if (owners.some(({ again }) => again.size > 0)) return
    for (const { id } of owners) this.judge.heard(id)
    this.judge.atRest(
      owners.flatMap(({ limits }) => limits!.inLine()),
      this.#running(),
    )
  }

  async #arrive(): Promise<void> {
    const { owners } = this.#parts
    for (let round = 0, moved = true; moved; round += 1) {
      if (round > mostRounds) throw new Error('the engines talk of limits without end')
      moved = false
      for (const owner of owners) {
        this.#spread()
        for (const told of this.#news.get(owner)?.splice(0) ?? []) owner.limits!.talk.heard(told)
        owner.write()
        moved ||= owner.groups.length > 0 || owner.limits!.said !== undefined
        for (const group of [...owner.groups]) {
          if (group.answer === 'none') await owner.land(group)
          owner.answer(group)
        }
        while (owner.limits!.said) await this.#say(owner, false)
      }
    }
  }

  /** All runs have ended: nobody keeps anything, so that one who needs all of a limit gets it. */
  async end(): Promise<void> {
    const { owners, store, now } = this.#parts
    this.#dying.clear()
    for (const owner of owners) {
      if (!owner.leased) this.regain(owner)
      while (owner.again.size > 0) owner.readAgain()
    }
    this.#resetAll()
    await this.rest()
    const probe = new LimitLines<object>('probe')
    const limits = this.judge.settable.filter((limit) => /^(pool|workers)/.test(limit))
    for (const limit of limits) {
      for (const owner of owners) {
        const left = owner.limits!.leftOver(limit)
        if (left !== undefined) throw new Error(left)
      }
      const needs = [{ limit, amount: this.judge.slotsOf(limit) }]
      probe.offer({}, { node: 0, first: -1, last: -1 }, needs, { priority: 0, since: now() }, 'shared')
    }
    let started = 0
    for (let round = 0; round < 20 && started < limits.length; round += 1) {
      while (probe.next(['shared'], () => ++started)) {}
      probe.look()
      const words = probe.words(now(), 100)
      const answers = await exchangeLimits(store, 'probe', words)
      for (const word of words) probe.answered(word, answers.get(word.limit)!)
      await this.#arrive()
    }
    if (started < limits.length) throw new Error(`of ${limits.join(', ')} something is kept when nothing runs`)
  }
}
