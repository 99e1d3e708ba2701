import { SluiceError } from './errors.ts'

/** Where the present comes from. Production reads the system; tests own it. Milliseconds since the epoch, UTC. */
export interface Clock {
  now(): number
}

export const systemClock: Clock = { now: () => Date.now() }

/**
 * Milliseconds of this machine's monotonic clock, the same in all of its processes (`performance.now()` counts from the
 * start of each). Nobody sets it; only differences mean anything.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000, y: 31_536_000_000 } as const

/** A length of time as written by people: `250ms`, `30s`, `10m`, `2h`, `7d`, `1w`, `1y`; parts may be joined: `1h30m`. */
export type Duration = `${number}${keyof typeof unitMs}` | (string & {})

/**
 * Milliseconds of a written duration.
 * @throws SluiceError USAGE when the text is not a duration, is zero, or is over 100 years.
 */
export function parseDuration(text: Duration): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)/g)]
  const covered = parts.reduce((length, part) => length + part[0].length, 0)
  const total = parts.reduce((sum, part) => sum + Number(part[1]) * unitMs[part[2] as keyof typeof unitMs], 0)
  if (parts.length === 0 || covered !== text.length || !(total > 0) || total > 100 * unitMs.y) {
    throw new SluiceError(
      'USAGE',
      `"${text}" is not a duration; write for example 250ms, 30s, 10m, 2h, 7d (more than zero)`,
    )
  }
  return Math.round(total)
}
