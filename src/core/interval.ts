/** Ticks that are equally far apart, by elapsed time: zones and clocks that are set are not their matter. */

export interface Interval {
  readonly everyMs: number
  /** The first tick; without it the whole intervals since the epoch are ticks, in both directions. */
  readonly start: number | undefined
}

/** The first tick after `after` (exclusive), both in milliseconds since the epoch. */
export function nextOfInterval({ everyMs, start }: Interval, after: number): number {
  if (start !== undefined && after < start) return start
  const anchor = start ?? 0
  return anchor + (Math.floor((after - anchor) / everyMs) + 1) * everyMs
}
