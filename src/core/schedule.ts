/**
 * When a plan fires: at equal intervals (interval.ts), or by a cron pattern in a time zone. Of a pattern, with `wall(t)` what the local clock shows at the instant `t`:
 *
 * 1. A pattern whose hour field is a star, with or without a step, follows elapsed time: it fires at every instant at
 *    which the clock shows a matching minute. In a repeated hour it fires in both passes; a gap has nothing to fire.
 * 2. Any other pattern has fixed hours, and a matching local time fires at the first instant at which the clock shows
 *    that time or a later one. So it fires once in a repeated hour, the first time, and all that a gap left out fires
 *    once, at the gap's end, together with what matches there.
 * 3. Ticks are distinct, in order, and through the year 9999. They depend on the pattern, the zone and its data alone.
 */
import { SluiceError } from '../errors.ts'
import type { CronPlan, IntervalPlan } from '../sdk/plan.ts'
import { type CronPattern, nextWall, parsePattern } from './cron-pattern.ts'
import { type Interval, nextOfInterval } from './interval.ts'
import { type LocalTime, localTime, widestOffsetMs } from './local-time.ts'

const dayMs = 86_400_000

export interface CronSchedule {
  readonly pattern: CronPattern
  /** IANA name. */
  readonly zone: string
}

/** Plain data: it may be kept and sent as JSON. */
export type Schedule = CronSchedule | Interval

/** @throws SluiceError DEFINITION_INVALID as `parseCron` does */
export function scheduleOf(plan: CronPlan | IntervalPlan): Schedule {
  return plan.kind === 'cron' ? parseCron(plan.pattern, plan.timezone) : { everyMs: plan.everyMs, start: plan.start }
}

/**
 * Reads a pattern of five fields (see cron-pattern.ts) and an IANA zone.
 * @throws SluiceError DEFINITION_INVALID saying which field is wrong and what is allowed, that the pattern can never
 *   fire, or which zone was probably meant.
 */
export function parseCron(pattern: string, zone: string): CronSchedule {
  const schedule = { pattern: parsePattern(pattern), zone }
  localTime(zone)
  return schedule
}

/**
 * The first tick after `after` (milliseconds since the epoch, exclusive); `undefined` past the year 9999.
 * @throws SluiceError USAGE when `after` is not a number or before the year 1900.
 */
export function nextTick(schedule: Schedule, after: number): number | undefined {
  if (!(after >= Date.UTC(1900) && after < Number.POSITIVE_INFINITY)) {
    throw new SluiceError('USAGE', `${after} is not a time in milliseconds since the year 1900`)
  }
  if (after >= Date.UTC(10_000)) return undefined
  if ('everyMs' in schedule) {
    const tick = nextOfInterval(schedule, Math.floor(after))
    return tick < Date.UTC(10_000) ? tick : undefined
  }
  const local = localTime(schedule.zone)
  return schedule.pattern.everyHour
    ? nextShown(schedule.pattern, local, Math.floor(after) + 1)
    : nextReached(schedule.pattern, local, Math.floor(after))
}

/** The ticks `from < tick <= to` in order, `limit` at most; as many as `limit` means that there may be more. */
export function ticksBetween(schedule: Schedule, from: number, to: number, limit: number): number[] {
  const ticks: number[] = []
  let tick = from
  while (ticks.length < limit) {
    const next = nextTick(schedule, tick)
    if (next === undefined || next > to) break
    ticks.push(next)
    tick = next
  }
  return ticks
}

/** The last tick before `before` (exclusive); `undefined` when there was none since the year 1900. */
export function previousTick(schedule: Schedule, before: number): number | undefined {
  const earliest = Date.UTC(1900)
  const isBefore = (after: number): boolean => (nextTick(schedule, after) ?? Number.POSITIVE_INFINITY) < before
  let [low, high] = [before - 1, before - 1]
  for (let reach = 60_000; !isBefore(low); reach *= 2) {
    if (low <= earliest) return undefined
    high = low
    low = Math.max(earliest, before - reach)
  }
  // Of all instants, the last one after which a tick comes before `before` is just before the tick that is looked for.
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (isBefore(middle)) low = middle
    else high = middle
  }
  return nextTick(schedule, low)
}

/** Rule 1: the first instant at or after `from` at which the clock shows a matching minute as it begins. */
function nextShown(pattern: CronPattern, local: LocalTime, from: number): number | undefined {
  let instant = from
  for (;;) {
    const { end, offset } = local.stretchAt(instant)
    const wall = nextWall(pattern, instant + offset)
    if (wall !== undefined && wall < end + offset) return wall - offset
    // From `end` on the clock shows `end - widest` or later, so nothing matches before `match - widest`.
    const match = nextWall(pattern, end - widestOffsetMs)
    if (match === undefined) return undefined
    instant = Math.max(end, match - widestOffsetMs)
  }
}

/** Rule 2: the first matching local time that the clock has not reached up to `after`, and when it will. */
function nextReached(pattern: CronPattern, local: LocalTime, after: number): number | undefined {
  const wall = nextWall(pattern, firstUnreached(local, after))
  return wall === undefined ? undefined : firstReached(local, wall)
}

/** The lowest local time that the clock has not shown or passed up to `instant`. No repetition lasts two days. */
function firstUnreached(local: LocalTime, instant: number): number {
  const now = local.stretchAt(instant)
  let lowest = instant + now.offset + 1
  let stretch = now
  while (stretch.start > instant - 2 * dayMs) {
    stretch = local.stretchAt(stretch.start - 1)
    lowest = Math.max(lowest, stretch.end + stretch.offset)
  }
  return lowest
}

/** The first instant at which the clock shows `wall` or later. */
function firstReached(local: LocalTime, wall: number): number {
  let stretch = local.stretchAt(wall - widestOffsetMs)
  while (stretch.end + stretch.offset <= wall) stretch = local.stretchAt(stretch.end)
  return Math.max(stretch.start, wall - stretch.offset)
}
