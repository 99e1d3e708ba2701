/**
 * What becomes of each tick that is due: every tick gets one row, in order. Ages are measured from the tick to now.
 *
 * | the tick                             | catch-up all | last    | none    |
 * |--------------------------------------|--------------|---------|---------|
 * | is at most `onTimeMs` old            | fired        | fired   | fired   |
 * | is older, and no later one is due    | late         | late    | skipped |
 * | is older, and a later one is due     | caught_up    | skipped | skipped |
 *
 * Of the ticks that were missed, `all` starts the newest 1,000; those before them are skipped.
 */
import { type Schedule, ticksBetween } from './schedule.ts'

export const catchUpPolicies = ['all', 'last', 'none'] as const

export type CatchUpPolicy = (typeof catchUpPolicies)[number]

export const tickOutcomes = ['fired', 'late', 'skipped', 'caught_up'] as const

/** A run starts for every outcome but `skipped`. */
export type TickOutcome = (typeof tickOutcomes)[number]

export interface Tick {
  /** Milliseconds since the epoch. */
  readonly logicalTime: number
  readonly outcome: TickOutcome
  readonly reason: string
}

/** A tick up to 1 minute old is on time; a call gives at most 1,000 ticks; 1,000 are caught up with at most. */
export const catchUpDefaults = Object.freeze({ onTimeMs: 60_000, limit: 1_000, most: 1_000 })

/**
 * The rows of the ticks `lastHandled < tick <= now`, oldest first. As many as `limit` (at least 1) means that there may
 * be more: record these and ask again with the last one's logical time.
 */
export function dueTicks(
  schedule: Schedule,
  policy: CatchUpPolicy,
  lastHandled: number,
  now: number,
  options: { readonly onTimeMs?: number; readonly limit?: number; readonly most?: number } = {},
): Tick[] {
  const { onTimeMs, limit, most } = { ...catchUpDefaults, ...options }
  const times = ticksBetween(schedule, lastHandled, now, limit)
  // What comes after this page, as far as it matters: that one more is due, or that as many are as are caught up with.
  const after =
    times.length < limit ? 0 : ticksBetween(schedule, times.at(-1)!, now, policy === 'all' ? most : 1).length
  return times.map((logicalTime, index) => {
    const age = now - logicalTime
    const later = times.length - 1 - index + after
    return { logicalTime, ...outcomeOf(policy, age, age <= onTimeMs, { later, most }) }
  })
}

function outcomeOf(
  policy: CatchUpPolicy,
  age: number,
  onTime: boolean,
  { later, most }: { readonly later: number; readonly most: number },
): Omit<Tick, 'logicalTime'> {
  const isNewest = later === 0
  const tooMany = policy === 'all' && later >= most
  if (onTime) return { outcome: 'fired', reason: 'on time' }
  const missed = `missed by ${Math.round(age / 1000)} s`
  if (policy === 'none') return { outcome: 'skipped', reason: `${missed}; catch-up is none` }
  if (isNewest) return { outcome: 'late', reason: `${missed}; no later tick is due` }
  if (tooMany) return { outcome: 'skipped', reason: `${missed}; catch-up starts the newest ${most} at most` }
  if (policy === 'all') return { outcome: 'caught_up', reason: `${missed}; catch-up is all` }
  return { outcome: 'skipped', reason: `${missed}; catch-up is last and a later tick is due` }
}
