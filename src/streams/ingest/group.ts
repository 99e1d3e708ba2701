/** What a commit takes, and how its events end: decided here, written by `write-group`. */
import type { EventEnd } from '../../ports/ingest.ts'
import type { SinkEnd } from '../../ports/sink.ts'
import type { HeldShard } from '../../store/shards.ts'
import type { Accepted } from './arrival.ts'

export interface Group {
  readonly accepted: readonly Accepted[]
  /** Events that were rejected before, by reason. */
  readonly rejected: ReadonlyMap<string, number>
}

/** A lane's shard, whose offset moves on with each commit. */
export type LaneShard = { -readonly [Field in keyof HeldShard]: HeldShard[Field] } & {
  /** The last commit found ids that were known: the next looks before it writes. */
  knownLately: boolean
}

export interface Led {
  readonly firsts: readonly Accepted[]
  /** To the first of their id. */
  readonly followers: ReadonlyMap<Accepted, Accepted>
}

/** Of events with one id in a group the first leads, and the others end as it does. */
export function leadersOf(accepted: readonly Accepted[]): Led {
  if (accepted.every(({ mark }) => mark === undefined)) return { firsts: accepted, followers: new Map() }
  const leads = new Map<string, Accepted>()
  const firsts: Accepted[] = []
  const followers = new Map<Accepted, Accepted>()
  for (const one of accepted) {
    const lead = one.mark === undefined ? undefined : leads.get(one.mark)
    if (lead !== undefined) followers.set(one, lead)
    else {
      firsts.push(one)
      if (one.mark !== undefined) leads.set(one.mark, one)
    }
  }
  return { firsts, followers }
}

/** Sorted, so that processes which register the same ids wait for one another in one order. */
export const marksOf = (accepted: readonly Accepted[]): string[] =>
  accepted.flatMap(({ mark }) => (mark === undefined ? [] : [mark])).sort()

export const sumOf = (counts: ReadonlyMap<string, number>): number =>
  [...counts.values()].reduce((sum, count) => sum + count, 0)

export interface Counts {
  written: number
  duplicate: number
  rejected: number
  /** Of the rejected. */
  reasons: Readonly<Record<string, number>>
}

/**
 * Ends the events of a group, and counts them.
 * @param endOf - Of an event that was given to the sink; undefined of one whose id was known.
 */
export function endAll(
  { accepted, rejected }: Group,
  followers: Led['followers'],
  endOf: (one: Accepted) => SinkEnd | undefined,
): Counts {
  const counts = { written: 0, duplicate: 0, rejected: sumOf(rejected) }
  const reasons = new Map(rejected)
  for (const one of accepted) {
    const first = followers.get(one)
    const end = endOf(first ?? one)
    if (end?.outcome === 'rejected') {
      counts.rejected += 1
      reasons.set(end.reason, (reasons.get(end.reason) ?? 0) + 1)
      one.end = rejection(end.reason, end.detail)
    } else if (end?.outcome === 'written' && first === undefined) {
      counts.written += 1
      one.end = { outcome: 'stored', id: one.id }
    } else {
      counts.duplicate += 1
      one.end = { outcome: 'duplicate', id: one.id }
    }
  }
  return { ...counts, reasons: reasons.size === 0 ? {} : Object.fromEntries(reasons) }
}

export const rejection = (reason: string, detail: string): EventEnd => ({
  outcome: 'rejected',
  code: 'INVALID_INPUT',
  detail: `${reason}: ${detail}`,
  faults: [],
})
