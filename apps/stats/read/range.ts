/** Which sums are asked for. */
import { z } from 'sluice'
import { refuse } from './page.ts'

const time = z.iso.datetime({ offset: true }).max(40)
const name = z.string().min(1).max(256)

export const seriesQuery = {
  customer: name.optional().meta({ example: 'Customer1' }),
  content: name.optional().meta({ example: 'channel1' }),
}

export const rangeQuery = {
  from: time.optional().meta({ description: 'Windows that end after it', example: '2026-03-01T12:00:00Z' }),
  to: time.optional().meta({ description: 'Windows that end then or before', example: '2026-03-02T12:00:00Z' }),
}

export interface Range {
  readonly from: Date
  readonly to: Date
}

/** All that PostgreSQL has room for, when nothing is said. */
const ever: Range = { from: new Date(Date.UTC(1, 0, 1)), to: new Date(Date.UTC(9_999, 11, 31)) }

/** `windows that end in (from, to]`: those that lie within the two. @throws SluiceError INVALID_INPUT where it is empty */
export function rangeOf(query: { readonly from?: string | undefined; readonly to?: string | undefined }): Range {
  const from = query.from === undefined ? ever.from : new Date(query.from)
  const to = query.to === undefined ? ever.to : new Date(query.to)
  if (from >= to) refuse('/query/from', `must be before to: ${from.toISOString()} is not before ${to.toISOString()}`)
  return { from, to }
}

export const steps = { '5m': 5, '15m': 15, '1h': 60, '6h': 360, '1d': 1_440 } as const
export type Step = keyof typeof steps

/** A chart has no more points than that. */
export const mostPoints = 2_016

/** The last day up to `now` where nothing is said. @throws SluiceError INVALID_INPUT where it would be too many points */
export function chartRange(
  query: { readonly from?: string | undefined; readonly to?: string | undefined; readonly step: Step },
  now: Date,
): Range {
  const to = query.to === undefined ? now : new Date(query.to)
  const from = query.from === undefined ? new Date(to.getTime() - 86_400_000) : new Date(query.from)
  const range = rangeOf({ from: from.toISOString(), to: to.toISOString() })
  const points = Math.ceil((to.getTime() - from.getTime()) / 60_000 / steps[query.step])
  if (points > mostPoints) {
    refuse(
      '/query/step',
      `of ${query.step} makes ${points} points; ${mostPoints} are allowed: take a longer step or a shorter time`,
    )
  }
  return range
}
