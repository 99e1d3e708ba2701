import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'

export interface CronPlan {
  readonly kind: 'cron'
  readonly pattern: string
  readonly timezone: string
  /** What becomes of ticks that passed while nothing ran: all of them, only the last, or none. */
  readonly catchUp: 'all' | 'last' | 'none'
}

export interface FileArrivalPlan {
  readonly kind: 'file-arrival'
  /** A glob relative to the project's folder, such as `catalogs/*.txt`. */
  readonly glob: string
  /** A file has arrived when it did not change for this long. */
  readonly restMs: number
}

export type Plan = CronPlan | FileArrivalPlan

/** Starts a run at each tick. Five fields: minute, hour, day of month, month, day of week. Default zone UTC, catchUp `last`. */
export function cron(pattern: string, options: { timezone?: string; catchUp?: CronPlan['catchUp'] } = {}): CronPlan {
  return { kind: 'cron', pattern, timezone: options.timezone ?? 'UTC', catchUp: options.catchUp ?? 'last' }
}

/**
 * Starts a run with the parameter `file` (the path relative to the project) when a file that matches appears or has
 * changed, and has rested for `rest` (default `2s`); a file that goes on changing starts one every 10 s.
 * @throws SluiceError DEFINITION_INVALID for a glob that leaves the project's folder.
 */
export function fileArrival(glob: string, options: { rest?: Duration } = {}): FileArrivalPlan {
  if (glob.length === 0 || glob.startsWith('/') || glob.split('/').includes('..')) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `fileArrival(${JSON.stringify(glob)}): the glob must stay inside the project's folder`,
    )
  }
  return { kind: 'file-arrival', glob, restMs: parseDuration(options.rest ?? '2s') }
}
