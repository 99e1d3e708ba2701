/**
 * A token bucket, kept as one number: `fullAt`, the time at which the bucket is full again. A start takes one token, which
 * moves `fullAt` on by one interval; there is a token while the bucket is no further than `burst - 1` intervals from full.
 */
export interface Rate {
  /** Milliseconds in which one token comes back. */
  readonly intervalMs: number
  /** Tokens of a full bucket, 1 or more: starts that may follow one another at once. */
  readonly burst: number
}

/** Milliseconds until there is a token; 0 when there is one. */
export function rateWaitMs(fullAt: number, { intervalMs, burst }: Rate, nowMs: number): number {
  return Math.max(0, Math.ceil(fullAt - (burst - 1) * intervalMs - nowMs))
}

/** `fullAt` after a start. */
export function tokenTaken(fullAt: number, { intervalMs }: Rate, nowMs: number): number {
  return Math.max(fullAt, nowMs) + intervalMs
}
