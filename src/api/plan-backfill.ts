/** What a backfill is asked to do, checked; and what it would do. */
import {
  type BackfillCounts,
  type ChosenVerdict,
  type ClockPlan,
  chosenVerdicts,
  clockPlanOf,
  countTicks,
  type Estimate,
  estimateOf,
  instantOf,
  judgeTicks,
  noCounts,
  paramsOfTick,
  ticksOf,
} from '../core/backfill.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { readDurations, readTickFacts } from '../store/reading/backfills.ts'
import type { ApiContext } from './context.ts'
import { invalid } from './faults.ts'

export interface BackfillWish {
  readonly plan?: string | undefined
  readonly from: string
  readonly to: string
  readonly reasons?: readonly ChosenVerdict[] | undefined
  readonly all?: true | undefined
  readonly params: Readonly<Record<string, unknown>>
}

export interface PlannedBackfill {
  readonly workflow: WorkflowManifest
  readonly plan: ClockPlan
  readonly from: number
  readonly to: number
  /** All of them, oldest first. */
  readonly ticks: readonly number[]
  readonly reasons: readonly ChosenVerdict[]
}

/** @throws SluiceError INVALID_INPUT naming the field, and what is allowed. */
export async function planBackfill(
  { clock }: Pick<ApiContext, 'clock'>,
  workflow: WorkflowManifest,
  wish: BackfillWish,
): Promise<PlannedBackfill> {
  const plan = clockPlanOf(workflow, wish.plan)
  const from = instantOf('/body/from', wish.from, plan.zone)
  const to = instantOf('/body/to', wish.to, plan.zone)
  const fault = (where: string, message: string) => invalid([{ where, message }])
  if (to <= from) throw fault('/body/to', `is ${shown(to)}; allowed is a time after from, which is ${shown(from)}`)
  const now = clock.now()
  if (to > now) {
    throw fault(
      '/body/to',
      `is ${shown(to)}; allowed is a time up to now, ${shown(now)}: later ticks are the plan's own`,
    )
  }
  if (wish.all && wish.reasons) throw fault('/body/reasons', 'is given beside all; give one of them')
  const reasons = wish.all ? chosenVerdicts : (wish.reasons ?? ['missing', 'failed'])
  const ticks = await ticksOf(plan, from, to)
  const [first] = ticks
  if (first === undefined) {
    throw fault('/body/to', `the plan ${plan.name} has no tick from ${shown(from)} to ${shown(to)}, which is excluded`)
  }
  paramsOfTick(workflow, plan, first, wish.params)
  return { workflow, plan, from, to, ticks, reasons: [...new Set(reasons)] }
}

const shown = (time: number) => new Date(time).toISOString()

/** Ticks that one look at the database is about. */
const ticksAtOnce = 10_000

/** Looks at every tick and changes nothing. Ends early when the asker has gone. */
export async function dryRun(
  { db }: Pick<ApiContext, 'db'>,
  { workflow, plan, ticks, reasons }: PlannedBackfill,
  maxActive: number,
  signal: AbortSignal,
): Promise<{ counts: BackfillCounts; estimate: Estimate | undefined }> {
  const counts = noCounts()
  const known = new Map<string, string | undefined>()
  const wanted = new Set(reasons)
  for (let begin = 0; begin < ticks.length && !signal.aborted; begin += ticksAtOnce) {
    const facts = await readTickFacts(db, {
      workflow: workflow.name,
      plan: plan.name,
      fingerprint: workflow.fingerprint,
      ticks: ticks.slice(begin, begin + ticksAtOnce),
      known,
    })
    countTicks(counts, judgeTicks(facts, wanted))
  }
  const durations = await readDurations(db, workflow.name)
  return { counts, estimate: estimateOf(durations, counts.chosen, maxActive) }
}
