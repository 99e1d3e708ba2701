/** What becomes of one tick or event of a plan: the row that it leaves, and the parameters of its run, if it starts one. */
import type { Fault } from '../errors.ts'
import type { Plan } from '../sdk/plan.ts'
import { catchUpDefaults, type TickOutcome } from './catch-up.ts'
import type { WorkflowManifest } from './manifest.ts'
import { fillTemplate, fitParams, type Occasion, templateOf } from './planned-params.ts'

export interface PlanStart {
  readonly outcome: TickOutcome
  readonly reason: string
  /** JSON text; absent where nothing starts. */
  readonly params?: string
  /** Of parameters that do not fit. */
  readonly faults?: readonly Fault[]
}

/** The first of these that holds: the workflow is paused, catch-up skips it, its parameters do not fit; else it starts. */
export function planStart(
  workflow: Pick<WorkflowManifest, 'name' | 'params'>,
  plan: Plan,
  occasion: Occasion,
  due: { readonly paused: boolean; readonly outcome: TickOutcome; readonly reason: string },
): PlanStart {
  const { paused, outcome, reason } = due
  if (paused) return { outcome: 'skipped', reason: `the workflow is paused; ${reason}` }
  if (outcome === 'skipped') return { outcome, reason }
  const fit = fitParams(workflow, fillTemplate(templateOf(plan), occasion))
  if ('params' in fit) return { outcome, reason, params: fit.params }
  const [first] = fit.faults
  const more = fit.faults.length > 1 ? ` (and ${fit.faults.length - 1} more)` : ''
  const what = `${first?.where}: ${first?.message}${more}`.slice(0, 500)
  return { outcome: 'skipped', reason: `its parameters do not fit: ${what}; ${reason}`, faults: fit.faults }
}

/** Whether an event that was due at a time is handled on time (see catch-up.ts). */
export function eventOutcome(dueAt: number, now: number): 'fired' | 'late' {
  return now - dueAt <= catchUpDefaults.onTimeMs ? 'fired' : 'late'
}
