/** Lines of tasks with equal needs, and a limit as one node knows it: what it may keep of it, and what it wishes. */
import { Heap } from './heap.ts'
import {
  type Answer,
  type Elsewhere,
  isBefore,
  isFirst,
  longestLine,
  type Place,
  type Wish,
  type Word,
} from './limit-exchange.ts'
import { kindOfLimit } from './limit-names.ts'
import type { ReadyRange } from './run-progress.ts'

/**
 * What a task needs of a limit, from its start to its end; of a rate, at its start. The needs of all tasks stand in one
 * order (`needsOf`).
 */
export interface Need {
  readonly limit: string
  readonly amount: number
}

/** Runners are of two sorts, and a task needs one of its sort. */
export type Lane = 'shared' | 'process'
export const lanes: readonly Lane[] = ['shared', 'process']

export interface Candidate<Owner> {
  readonly owner: Owner
  readonly node: number
  readonly mapIndex: number
}

export interface Offer {
  readonly range: ReadyRange
  readonly needs: readonly Need[]
  readonly place: Place
  readonly lane: Lane
}

interface Range {
  readonly node: number
  readonly last: number
  readonly place: Place
  next: number
}

export interface Line<Owner> {
  readonly key: string
  readonly owner: Owner
  readonly lane: Lane
  readonly needs: readonly Need[]
  /** In order, from `first` on; those before are done with. */
  readonly ranges: Range[]
  first: number
  /** Breaks ties, so that the order is total. */
  readonly number: number
  waiting: number
  /** Where it waits; undefined while it is among those that may start. */
  at: Limit<Owner> | undefined
  /** The limit whose room let it be looked at. */
  sponsor: Limit<Owner> | undefined
  /** How often its first task found room where it waited, and none elsewhere. */
  turnedAway: number
  /** So many of the first task's needs are kept for it. */
  collected: number
  gone: boolean
}

export type Parked<Owner> = Readonly<Record<Lane, Heap<Line<Owner>>>>

export interface Limit<Owner> {
  readonly id: string
  readonly isRate: boolean
  /** Undefined until the first answer. */
  capacity: number | undefined
  granted: number
  inUse: number
  /** Held by all nodes, as of the last answer. */
  held: number
  ahead: Elsewhere | undefined
  used: number
  usedAt: number
  /** `used` as it was told last. */
  toldUsed: number
  readonly parked: Parked<Owner>
  /** Lines that were let out of `parked` since there is room, and were not looked at yet; one of each lane at most. */
  readonly sponsored: Set<Lane>
  readonly holders: Map<number, number>
  /** Lines that need it, wherever they wait. */
  interested: number
  /** What is left of the line that was told last. */
  told: readonly Wish[]
  /** It has to be asked about, whether or not there is news of ours. */
  look: boolean
}

export const headOf = <Owner>(line: Line<Owner>): Place => line.ranges[line.first]!.place

export function before<Owner>(one: Line<Owner>, other: Line<Owner>): boolean {
  const [a, b] = [headOf(one), headOf(other)]
  return isBefore(a, b) || (!isBefore(b, a) && one.number < other.number)
}

/** Its capacity was lowered: what ends is given back, and nothing starts. */
export const isOver = <Owner>({ capacity, held }: Limit<Owner>): boolean => capacity !== undefined && held > capacity

/** By attempts: what is in use beside it is kept by tasks that wait. */
export const heldIn = <Owner>({ holders }: Limit<Owner>): number =>
  holders.values().reduce((sum, amount) => sum + amount, 0)

/** It holds all there is, and nobody else wishes any: that its own line moves on is no news. */
function isAlone<Owner>({ isRate, capacity, held, granted, ahead, told }: Limit<Owner>): boolean {
  const holdsAll = capacity !== undefined && granted > 0 && held === granted && held >= capacity
  return !isRate && holdsAll && ahead === undefined && told.length === 0
}

const sizeOf = ({ next, last }: Range): number => last - next + 1

export function openLine<Owner>(line: Pick<Line<Owner>, 'key' | 'owner' | 'lane' | 'needs' | 'number'>): Line<Owner> {
  const fresh = { at: undefined, sponsor: undefined, turnedAway: 0, collected: 0, gone: false }
  return { ...line, ranges: [], first: 0, waiting: 0, ...fresh }
}

export function append<Owner>(line: Line<Owner>, { node, first, last }: ReadyRange, place: Place): void {
  const added = { node, next: first, last, place }
  line.ranges.push(added)
  line.waiting += sizeOf(added)
}

/** The first task of a line. */
export function candidateOf<Owner>({ owner, ranges, first }: Line<Owner>): Candidate<Owner> {
  const { node, next } = ranges[first]!
  return { owner, node, mapIndex: next }
}

/** The first task of a line waits no more. */
export function passFirst<Owner>(line: Line<Owner>): void {
  const range = line.ranges[line.first]!
  range.next += 1
  line.waiting -= 1
  if (range.next > range.last) line.first += 1
  if (line.first > 1_024 && line.first * 2 > line.ranges.length) {
    line.ranges.splice(0, line.first)
    line.first = 0
  }
}

/** What would have to be offered for its tasks to stand where they stand. */
export function offersOf<Owner>({ ranges, first: done, needs, lane }: Line<Owner>): Offer[] {
  return ranges
    .slice(done)
    .map(({ node, next, last, place }) => ({ range: { node, first: next, last }, needs, place, lane }))
}

export function openLimit<Owner>(id: string): Limit<Owner> {
  return {
    ...{ id, isRate: kindOfLimit(id) === 'rate', capacity: undefined, granted: 0, inUse: 0, held: 0 },
    ...{ ahead: undefined, used: 0, usedAt: 0, toldUsed: 0, interested: 0, told: [], look: true },
    parked: { shared: new Heap(before), process: new Heap(before) },
    sponsored: new Set(),
    holders: new Map(),
  }
}

/** Somebody on another node stood in line before. */
export function yields<Owner>({ ahead }: Limit<Owner>, place: Place, node: string): boolean {
  return ahead !== undefined && isFirst(ahead, { ...place, node })
}

function firstParked<Owner>(limit: Limit<Owner>, lane: Lane): Line<Owner> | undefined {
  const heap = limit.parked[lane]
  while (heap.peek()?.gone) heap.pop()
  return heap.peek()
}

/** The first in line whose request is not over the capacity. */
export function firstPossible<Owner>(limit: Limit<Owner>, lane: Lane): Line<Owner> | undefined {
  const first = firstParked(limit, lane)
  if (!first || amountOf(first, limit.id) <= (limit.capacity ?? 0)) return first
  for (const line of limit.parked[lane].inOrder()) {
    if (!line.gone && amountOf(line, limit.id) <= (limit.capacity ?? 0)) return line
  }
  return undefined
}

/** The first in line of each lane, in order. */
export function firstOfLanes<Owner>(limit: Limit<Owner>): Line<Owner>[] {
  const firsts = lanes.flatMap((lane) => firstPossible(limit, lane) ?? [])
  return firsts.sort((one, other) => (before(one, other) ? -1 : 1))
}

/** Whether one of another lane is before it. Where the first of that lane was let out, it waits for a runner, and so do all behind it. */
export function isBehindOther<Owner>(limit: Limit<Owner>, line: Line<Owner>): boolean {
  return lanes.some((lane) => {
    if (lane === line.lane || limit.sponsored.has(lane)) return false
    const first = firstPossible(limit, lane)
    return first !== undefined && before(first, line)
  })
}

/** The lines that wait at a limit, in order. */
function* inLine<Owner>(limit: Limit<Owner>): Generator<Line<Owner>> {
  const [one, other] = lanes.map((lane) => limit.parked[lane].inOrder()) as [
    Generator<Line<Owner>>,
    Generator<Line<Owner>>,
  ]
  let [a, b] = [one.next(), other.next()]
  while (!a.done || !b.done) {
    const takeA = b.done || (!a.done && before(a.value, b.value))
    const line = (takeA ? a.value : b.value) as Line<Owner>
    if (!line.gone) yield line
    if (takeA) a = one.next()
    else b = other.next()
  }
}

/**
 * What is kept of the grant. Tokens that nobody here can use now go back; of slots, those that others wait for, unless
 * somebody here stood in line before, and those of a key that nobody here needs.
 */
function keptOf<Owner>(limit: Limit<Owner>, node: string): number {
  if (limit.isRate || isOver(limit)) return limit.inUse
  const [first] = inLine(limit)
  if (limit.ahead) return first && !yields(limit, headOf(first), node) ? limit.granted : limit.inUse
  const idle = kindOfLimit(limit.id) === 'key' && limit.interested === 0
  return idle ? limit.inUse : limit.granted
}

/** What is lacking beside the slots that are free here, the first places in line. */
function wishesOf<Owner>(limit: Limit<Owner>, free: number): Wish[] {
  const wishes: Wish[] = []
  let left = Math.max(0, free)
  for (const { amount, place, count } of placesOf(limit)) {
    const lacking = count - Math.min(count, Math.floor(left / amount))
    left -= (count - lacking) * amount
    const part = lacking > 0 && left > 0 ? amount - left : 0
    if (part > 0) {
      wishes.push({ ...place, amount: part, count: 1 })
      left = 0
    }
    const whole = lacking - (part > 0 ? 1 : 0)
    if (whole > 0) wishes.push({ ...place, amount, count: whole })
    if (wishes.length >= longestLine) return wishes.slice(0, longestLine)
  }
  return wishes
}

/**
 * The first requests in line that are not over the capacity. A line's own are in order; of each the first few do. Tokens
 * are not asked for while one that was let out by this rate waits for a runner: they could not be used, went back, and
 * would be asked for again without end.
 */
function placesOf<Owner>(
  limit: Limit<Owner>,
): { readonly amount: number; readonly place: Place; readonly count: number }[] {
  const places: { amount: number; place: Place; count: number }[] = []
  let lines = 0
  for (const line of inLine(limit)) {
    const amount = amountOf(line, limit.id)
    if (limit.capacity !== undefined && amount > limit.capacity) continue
    if (limit.isRate && limit.sponsored.has(line.lane)) continue
    for (const range of line.ranges.slice(line.first, line.first + longestLine)) {
      places.push({ amount, place: range.place, count: sizeOf(range) })
    }
    lines += 1
    if (lines === longestLine) break
  }
  return places.sort((one, other) => (isBefore(one.place, other.place) ? -1 : isBefore(other.place, one.place) ? 1 : 0))
}

/** How much of a limit a task of the line needs. */
export function amountOf<Owner>(line: Line<Owner>, id: string): number {
  return line.needs.find(({ limit }) => limit === id)?.amount ?? 0
}

/** More of the same wish is no news: who is granted all that it told tells again. */
function isNews(told: readonly Wish[], line: readonly Wish[]): boolean {
  const [was] = told
  const [is] = line
  if (!was || !is) return was !== is
  return was.priority !== is.priority || was.since !== is.since || was.amount !== is.amount
}

/** What a node says of a limit. */
export interface NodeWord extends Word {
  readonly limit: string
}

/** What has to be told of a limit; what is given back is gone at once. Undefined: nothing. */
export function wordOf<Owner>(limit: Limit<Owner>, node: string, now: number): NodeWord | undefined {
  const keep = keptOf(limit, node)
  const line = wishesOf(limit, keep - limit.inUse)
  // Tokens that were used fill the bucket again once that is told; nobody has to know who does not wait for them.
  const isAwaited = limit.ahead !== undefined && limit.used !== limit.toldUsed
  if (!limit.look && !isAwaited && keep === limit.granted && (isAlone(limit) || !isNews(limit.told, line)))
    return undefined
  limit.look = false
  limit.granted = keep
  limit.toldUsed = limit.used
  return { limit: limit.id, node, keep, used: limit.used, usedAgoMs: Math.max(0, now - limit.usedAt), line }
}

/** @param used as it was told; what was used since then is used of what is granted now */
export function heed<Owner>(limit: Limit<Owner>, used: number, answer: Answer): void {
  limit.capacity = answer.capacity
  limit.granted = Math.max(0, answer.amount - (limit.used - used))
  limit.held = answer.held
  limit.ahead = answer.ahead
  limit.told = answer.line
}

/** A key that nothing here has to do with any more. */
export function isIdleKey<Owner>({ id, granted, inUse, told, interested }: Limit<Owner>): boolean {
  return kindOfLimit(id) === 'key' && granted <= 0 && inUse <= 0 && told.length === 0 && interested <= 0
}

/** How much is in use, who holds and who waits, the first so many of each, and how many wait. */
export interface Shown<Owner> {
  readonly inUse: number
  readonly waiting: number
  readonly holders: readonly { readonly candidate: Candidate<Owner>; readonly amount: number }[]
  readonly line: readonly {
    readonly candidate: Candidate<Owner>
    readonly amount: number
    readonly place: Place
  }[]
}

export function shownOf<Owner>(
  limit: Limit<Owner>,
  most: number,
  holderOf: (token: number) => Candidate<Owner>,
): Shown<Owner> {
  const holders: { candidate: Candidate<Owner>; amount: number }[] = []
  const line: { candidate: Candidate<Owner>; amount: number; place: Place }[] = []
  for (const [token, amount] of limit.holders) {
    if (holders.length === most) break
    holders.push({ candidate: holderOf(token), amount })
  }
  let waiting = 0
  for (const waits of inLine(limit)) {
    waiting += waits.waiting
    for (const { node, next, last, place } of waits.ranges.slice(waits.first)) {
      for (let mapIndex = next; mapIndex <= last && line.length < most; mapIndex += 1) {
        line.push({ candidate: { owner: waits.owner, node, mapIndex }, amount: amountOf(waits, limit.id), place })
      }
    }
  }
  return { inUse: limit.inUse, waiting, holders, line }
}
