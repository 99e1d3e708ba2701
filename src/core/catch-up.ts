/**
 * What becomes of each tick that is due: every tick gets one row, in order. Ages are measured from the tick to now.
 *
 * | the tick                             | catch-up all | last    | none    |
 * |--------------------------------------|--------------|---------|---------|
 * | is at most `onTimeMs` old            | fired        | fired   | fired   |
 * | is older, and no later one is due    | late         | late    | skipped |
 * | is older, and a later one is due     | caught_up    | skipped | skipped |
 */
import { nextTick, type Schedule, ticksBetween } from './schedule.ts'

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

/** A tick up to 1 minute old is on time; a call gives at most 1,000 ticks. */
export const catchUpDefaults = Object.freeze({ onTimeMs: 60_000, limit: 1_000 })

/**
 * The rows of the ticks `lastHandled < tick <= now`, oldest first. As many as `limit` (at least 1) means that there may
 * be more: record these and ask again with the last one's logical time.
 */
export function dueTicks(
  schedule: Schedule,
  policy: CatchUpPolicy,
  lastHandled: number,
  now: number,
  options: { readonly onTimeMs?: number; readonly limit?: number } = {},
): Tick[] {
  const { onTimeMs, limit } = { ...catchUpDefaults, ...options }
  const times = ticksBetween(schedule, lastHandled, now, limit)
  const following = times.length === 0 ? undefined : nextTick(schedule, times.at(-1)!)
  const newest = following !== undefined && following <= now ? undefined : times.at(-1)
  return times.map((logicalTime) => {
    const age = now - logicalTime
    return { logicalTime, ...outcomeOf(policy, age, age <= onTimeMs, logicalTime === newest) }
  })
}

function outcomeOf(policy: CatchUpPolicy, age: number, onTime: boolean, isNewest: boolean): Omit<Tick, 'logicalTime'> {
  if (onTime) return { outcome: 'fired', reason: 'on time' }
  const missed = `missed by ${Math.round(age / 1000)} s`
  if (policy === 'none') return { outcome: 'skipped', reason: `${missed}; catch-up is none` }
  if (isNewest) return { outcome: 'late', reason: `${missed}; no later tick is due` }
  if (policy === 'all') return { outcome: 'caught_up', reason: `${missed}; catch-up is all` }
  return { outcome: 'skipped', reason: `${missed}; catch-up is last and a later tick is due` }
}
