/**
 * The tasks of one node that need something scarce: which may start now, by what the node was granted of each limit.
 *
 * 1. A task starts only when all that it needs is free at once; while it waits it holds nothing. One that was turned away
 *    `patience` times, since each time something else was lacking, collects what it needs one by one, in the fixed order
 *    of its needs, and keeps that. All who keep something while they wait do so in this order: there is no deadlock.
 *    When somebody sets less than is held, what is kept so is given back.
 * 2. A line (tasks of equal needs) waits at one limit, the first that it lacks, and is looked at again when that has
 *    room. As long as a limit has room for the first in its line, that line is among those that `next` looks at.
 * 3. Nobody overtakes in line: by priority, then age; neither does a small request a large one, nor this node another.
 *    A request that is over the capacity holds up nobody, nor does one that waits for a runner of the other sort.
 * 4. Permits are held until the end of the attempt is committed; tokens are used when the start is.
 * 5. What a node knows to hold is never more than its grant.
 */
import { Heap } from './heap.ts'
import type { Answer, Place } from './limit-exchange.ts'
import {
  amountOf,
  append,
  before,
  type Candidate,
  candidateOf,
  firstOfLanes,
  firstPossible,
  headOf,
  heed,
  heldIn,
  isBehindOther,
  isIdleKey,
  isOver,
  type Lane,
  type Limit,
  type Line,
  lanes,
  type Need,
  type NodeWord,
  type Offer,
  offersOf,
  openLimit,
  openLine,
  type Parked,
  passFirst,
  type Shown,
  shownOf,
  wordOf,
  yields,
} from './limit-lines.ts'
import type { ReadyRange } from './run-progress.ts'

/** How often a task is turned away before it collects what it needs. */
const patience = 3

interface Permit<Owner> {
  readonly candidate: Candidate<Owner>
  readonly needs: readonly Need[]
  started: boolean
}

export class LimitLines<Owner extends object> {
  readonly #limits = new Map<string, Limit<Owner>>()
  readonly #lines = new Map<Owner, Map<string, Line<Owner>>>()
  readonly #hopeful: Parked<Owner> = { shared: new Heap(before), process: new Heap(before) }
  readonly #permits = new Map<number, Permit<Owner>>()
  /** Limits of which something may have to be told. */
  readonly #dirty = new Set<Limit<Owner>>()
  /** What is not looked at, of owners that are paused. */
  readonly #paused = new Map<Owner, Offer[]>()
  /** Limits whose line or holders changed since they were last shown. */
  readonly #changed = new Set<string>()
  #numbers = 0
  readonly #node: string

  constructor(node: string) {
    this.#node = node
  }

  /** Tasks that may start when there is a runner, if what they need is still free then. */
  hopefulIn(lane: Lane): number {
    let waiting = 0
    for (const line of this.#hopeful[lane]) if (!line.gone) waiting += line.waiting
    return waiting
  }

  /** Tasks wait for their limits, or for a runner. */
  offer(owner: Owner, range: ReadyRange, needs: readonly Need[], place: Place, lane: Lane): void {
    const paused = this.#paused.get(owner)
    if (paused) {
      paused.push({ range, needs, place, lane })
      return
    }
    const mine = this.#lines.get(owner) ?? new Map<string, Line<Owner>>()
    this.#lines.set(owner, mine)
    const key = `${lane} ${place.priority} ${needs.map(({ limit, amount }) => `${limit} ${amount}`).join(' ')}`
    let line = mine.get(key)
    if (line) append(line, range, place)
    else {
      line = openLine({ key, owner, lane, needs, number: this.#numbers++ })
      append(line, range, place)
      mine.set(key, line)
      for (const need of needs) this.#limitOf(need.limit).interested += 1
      this.#hopeful[lane].push(line)
    }
    if (line.at) this.#changed.add(line.at.id)
  }

  /**
   * Starts the first task in order that may start on a runner of these lanes. `start` gives the token of the attempt, or 0
   * when that task must not start any more. False: there is none.
   */
  next(free: readonly Lane[], start: (candidate: Candidate<Owner>) => number): boolean {
    for (let line = this.#takeHopeful(free); line; line = this.#takeHopeful(free)) {
      const { sponsor } = line
      line.sponsor = undefined
      if (sponsor) this.#unsponsor(sponsor, line.lane)
      const missing = this.#missing(line)
      if (missing) {
        if (sponsor && missing.limit !== sponsor.id) line.turnedAway += 1
        this.#park(line, missing.limit)
      } else {
        const token = this.#startFirst(line, start)
        if (sponsor) this.#stir(sponsor)
        if (token > 0) return true
        continue
      }
      if (sponsor) this.#stir(sponsor)
    }
    return false
  }

  /** The start was committed, or may have been: its tokens are used. */
  startTold(token: number, now: number): void {
    const permit = this.#permits.get(token)
    if (!permit || permit.started) return
    permit.started = true
    for (const { limit: id, amount } of permit.needs) {
      const limit = this.#limits.get(id)
      if (!limit?.isRate) continue
      limit.inUse -= amount
      limit.granted = Math.max(0, limit.granted - amount)
      limit.used += amount
      limit.usedAt = now
      if (limit.ahead) this.#dirty.add(limit)
    }
  }

  /** The attempt has ended, or never was. */
  release(token: number, now: number): void {
    this.startTold(token, now)
    const permit = this.#permits.get(token)
    if (!permit) return
    this.#permits.delete(token)
    for (const { limit: id, amount } of permit.needs) {
      const limit = this.#limits.get(id)
      if (!limit) continue
      limit.holders.delete(token)
      this.#changed.add(id)
      if (limit.isRate) continue
      limit.inUse -= amount
      this.#dirty.add(limit)
      this.#stir(limit)
    }
  }

  /** The tokens of attempts of a run for which permits are held. */
  permitsOf(owns: (owner: Owner) => boolean): number[] {
    return [...this.#permits].flatMap(([token, { candidate }]) => (owns(candidate.owner) ? [token] : []))
  }

  /** Its tasks wait outside of all lines until it goes on; then they stand where they stood. */
  pause(owner: Owner): void {
    if (this.#paused.has(owner)) return
    const offers = [...(this.#lines.get(owner)?.values() ?? [])].flatMap(offersOf)
    this.forget(owner)
    this.#paused.set(owner, offers)
  }

  resume(owner: Owner): void {
    const offers = this.#paused.get(owner)
    this.#paused.delete(owner)
    for (const { range, needs, place, lane } of offers ?? []) this.offer(owner, range, needs, place, lane)
  }

  /** Its tasks wait no more. Permits stay until they are released. */
  forget(owner: Owner): void {
    this.#paused.delete(owner)
    const mine = this.#lines.get(owner)
    if (!mine) return
    this.#lines.delete(owner)
    for (const line of mine.values()) {
      line.gone = true
      const { at, sponsor } = line
      this.#uncollect(line)
      this.#loseInterest(line)
      if (sponsor) {
        this.#unsponsor(sponsor, line.lane)
        this.#stir(sponsor)
      }
      if (!at) continue
      this.#changed.add(at.id)
      this.#dirty.add(at)
      this.#stir(at)
    }
  }

  /** Nothing is known any more: this node may have been taken for dead. Tokens that it had count as used. */
  reset(now: number): void {
    this.#lines.clear()
    this.#paused.clear()
    this.#permits.clear()
    for (const lane of lanes) while (this.#hopeful[lane].pop()) {}
    for (const limit of this.#limits.values()) {
      if (limit.isRate && limit.granted > 0) Object.assign(limit, { used: limit.used + limit.granted, usedAt: now })
      for (const lane of lanes) while (limit.parked[lane].pop()) {}
      limit.sponsored.clear()
      limit.holders.clear()
      Object.assign(limit, { capacity: undefined, granted: 0, inUse: 0, interested: 0, ahead: undefined, told: [] })
      limit.look = true
      this.#dirty.add(limit)
      this.#changed.add(limit.id)
    }
  }

  /** Somebody says that there is news of a limit, by the beginning of its id; of all without one. */
  look(prefix = ''): boolean {
    let found = false
    for (const limit of this.#limits.values()) {
      if (limit.id !== prefix && !limit.id.startsWith(`${prefix}${prefix === '' ? '' : ':'}`)) continue
      limit.look = true
      this.#dirty.add(limit)
      found = true
    }
    return found
  }

  /** What has to be told, at most so many; call it when `next` finds nothing more. What is given back is gone at once. */
  words(now: number, most: number): NodeWord[] {
    const words: NodeWord[] = []
    for (const limit of this.#dirty) {
      if (words.length === most) break
      this.#dirty.delete(limit)
      const word = wordOf(limit, this.#node, now)
      if (word) words.push(word)
      // Keys come and go.
      else if (isIdleKey(limit)) this.#limits.delete(limit.id)
    }
    return words
  }

  answered({ limit: id, used }: NodeWord, answer: Answer): void {
    const limit = this.#limits.get(id)
    if (!limit) return
    heed(limit, used, answer)
    if (isOver(limit)) this.#giveBack(limit)
    this.#changed.add(id)
    this.#dirty.add(limit)
    this.#stir(limit)
  }

  /** Nobody knows whether the word was heard. */
  unanswered(id: string): void {
    const limit = this.#limits.get(id)
    if (!limit) return
    limit.look = true
    this.#dirty.add(limit)
  }

  get hasNews(): boolean {
    return this.#dirty.size > 0
  }

  /** Limits whose line or holders changed since the last call. */
  takeChanged(): string[] {
    const ids = [...this.#changed]
    this.#changed.clear()
    return ids
  }

  shown(id: string, most: number): Shown<Owner> {
    const limit = this.#limits.get(id)
    // One that was forgotten is free.
    if (!limit) return { inUse: 0, waiting: 0, holders: [], line: [] }
    return shownOf(limit, most, (token) => this.#permits.get(token)!.candidate)
  }

  #firstHopeful(lane: Lane): Line<Owner> | undefined {
    const heap = this.#hopeful[lane]
    while (heap.peek()?.gone) heap.pop()
    return heap.peek()
  }

  #takeHopeful(free: readonly Lane[]): Line<Owner> | undefined {
    let first: Lane | undefined
    for (const lane of free) {
      const line = this.#firstHopeful(lane)
      if (line && (!first || before(line, this.#hopeful[first].peek()!))) first = lane
    }
    return first && this.#hopeful[first].pop()
  }

  /** The first need that cannot be met. Who has lost patience keeps those before it. */
  #missing(line: Line<Owner>): Need | undefined {
    if (line.turnedAway < patience) return line.needs.find((need) => !this.#fits(line, need))
    for (let need = line.needs[line.collected]; need; need = line.needs[line.collected]) {
      if (!this.#fits(line, need)) return need
      this.#limitOf(need.limit).inUse += need.amount
      line.collected += 1
    }
    return undefined
  }

  #uncollect(line: Line<Owner>): void {
    for (const { limit: id, amount } of line.needs.slice(0, line.collected)) {
      const limit = this.#limitOf(id)
      limit.inUse -= amount
      this.#dirty.add(limit)
      this.#stir(limit)
    }
    line.collected = 0
    line.turnedAway = 0
  }

  /** What of a limit is kept by those that wait. */
  #giveBack(limit: Limit<Owner>): void {
    if (limit.inUse === heldIn(limit)) return
    for (const mine of this.#lines.values())
      for (const line of mine.values())
        if (line.needs.slice(0, line.collected).some(({ limit: id }) => id === limit.id)) this.#uncollect(line)
  }

  #loseInterest(line: Line<Owner>): void {
    for (const { limit: id } of line.needs) {
      const limit = this.#limitOf(id)
      limit.interested -= 1
      if (limit.interested === 0) this.#dirty.add(limit)
    }
  }

  /** Whether a line may take what it needs of a limit now. */
  #fits(line: Line<Owner>, { limit: id, amount }: Need): boolean {
    const limit = this.#limits.get(id)
    if (limit?.capacity === undefined || isOver(limit) || limit.granted - limit.inUse < amount) return false
    if (yields(limit, headOf(line), this.#node)) return false
    const next = firstPossible(limit, line.lane)
    return (!next || before(line, next)) && !isBehindOther(limit, line)
  }

  #park(line: Line<Owner>, id: string): void {
    const limit = this.#limitOf(id)
    line.at = limit
    limit.parked[line.lane].push(line)
    this.#dirty.add(limit)
    this.#changed.add(id)
  }

  #startFirst(line: Line<Owner>, start: (candidate: Candidate<Owner>) => number): number {
    const candidate = candidateOf(line)
    const token = start(candidate)
    passFirst(line)
    this.#uncollect(line)
    if (line.waiting > 0) this.#hopeful[line.lane].push(line)
    else if (!line.gone) {
      this.#lines.get(line.owner)?.delete(line.key)
      this.#loseInterest(line)
    }
    if (token === 0) return 0
    this.#permits.set(token, { candidate, needs: line.needs, started: false })
    for (const { limit: id, amount } of line.needs) {
      const limit = this.#limitOf(id)
      limit.inUse += amount
      limit.holders.set(token, amount)
      this.#changed.add(id)
    }
    return token
  }

  /** Lets the first in line be looked at, of each lane, when there is room for it. */
  #stir(limit: Limit<Owner>): void {
    if (isOver(limit)) return
    for (const first of firstOfLanes(limit)) {
      const { lane } = first
      if (limit.sponsored.has(lane) || limit.granted - limit.inUse < amountOf(first, limit.id)) continue
      if (yields(limit, headOf(first), this.#node) || isBehindOther(limit, first)) continue
      this.#unpark(limit, first)
      first.sponsor = limit
      limit.sponsored.add(lane)
      this.#hopeful[lane].push(first)
    }
  }

  /** Nobody that it let out waits for a runner of the lane: those behind ask for tokens again. */
  #unsponsor(limit: Limit<Owner>, lane: Lane): void {
    limit.sponsored.delete(lane)
    if (limit.isRate) this.#dirty.add(limit)
  }

  #unpark(limit: Limit<Owner>, line: Line<Owner>): void {
    const heap = limit.parked[line.lane]
    const passed: Line<Owner>[] = []
    for (let first = heap.pop(); first && first !== line; first = heap.pop()) passed.push(first)
    for (const one of passed) heap.push(one)
    line.at = undefined
    this.#changed.add(limit.id)
  }

  #limitOf(id: string): Limit<Owner> {
    let limit = this.#limits.get(id)
    if (!limit) {
      limit = openLimit(id)
      this.#limits.set(id, limit)
    }
    return limit
  }
}
