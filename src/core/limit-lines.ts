/** Lines of tasks with equal needs, and a limit as one node knows it: what it may keep of it, and what it wishes. */
import { Heap } from './heap.ts'
import { type Elsewhere, isBefore, isFirst, longestLine, type Place, type Wish } from './limit-exchange.ts'
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

/** It holds all there is, and nobody else wishes any: that its own line moves on is no news. */
export function isAlone<Owner>({ isRate, capacity, held, granted, ahead, told }: Limit<Owner>): boolean {
  const holdsAll = capacity !== undefined && granted > 0 && held === granted && held >= capacity
  return !isRate && holdsAll && ahead === undefined && told.length === 0
}

export const sizeOf = ({ next, last }: Range): number => last - next + 1

export function openLimit<Owner>(id: string): Limit<Owner> {
  return {
    ...{ id, isRate: kindOfLimit(id) === 'rate', capacity: undefined, granted: 0, inUse: 0, held: 0 },
    ...{ ahead: undefined, used: 0, usedAt: 0, interested: 0, told: [], look: true },
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

/** The lines that wait at a limit, in order. */
export function* inLine<Owner>(limit: Limit<Owner>): Generator<Line<Owner>> {
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
export function keptOf<Owner>(limit: Limit<Owner>, node: string): number {
  if (limit.isRate || isOver(limit)) return limit.inUse
  const [first] = inLine(limit)
  if (limit.ahead) return first && !yields(limit, headOf(first), node) ? limit.granted : limit.inUse
  const idle = kindOfLimit(limit.id) === 'key' && limit.interested === 0
  return idle ? limit.inUse : limit.granted
}

/** What is lacking beside the slots that are free here, the first places in line. */
export function wishesOf<Owner>(limit: Limit<Owner>, free: number): Wish[] {
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

/** The first requests in line that are not over the capacity. A line's own are in order; of each the first few do. */
function placesOf<Owner>(
  limit: Limit<Owner>,
): { readonly amount: number; readonly place: Place; readonly count: number }[] {
  const places: { amount: number; place: Place; count: number }[] = []
  let lines = 0
  for (const line of inLine(limit)) {
    const amount = amountOf(line, limit.id)
    if (limit.capacity !== undefined && amount > limit.capacity) continue
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
export function isNews(told: readonly Wish[], line: readonly Wish[]): boolean {
  const [was] = told
  const [is] = line
  if (!was || !is) return was !== is
  return was.priority !== is.priority || was.since !== is.since || was.amount !== is.amount
}
