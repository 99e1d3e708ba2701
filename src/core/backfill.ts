/**
 * Which ticks of a plan a backfill runs, and what that takes. Each tick has exactly one verdict, so the counts of a dry
 * run add up to its ticks:
 *
 * | the tick                                                                  | verdict      |
 * |---------------------------------------------------------------------------|--------------|
 * | is one that its plan has not come to yet                                  | due          |
 * | has no run                                                                | missing      |
 * | its latest run has not ended                                              | running      |
 * | its latest run failed or was cancelled                                    | failed       |
 * | its latest run succeeded with another fingerprint of the workflow         | code-changed |
 * | its latest run read a dataset of which there is a newer version           | stale        |
 * | anything else                                                             | ok           |
 *
 * 1. What is due or running is left alone, whatever is asked for: it gets, or has, a run that is not ours.
 * 2. A run may be both of other code and stale: its verdict is the one that was asked for, code-changed before stale.
 * 3. Where the fingerprint of either version is not known, its code counts as unchanged, and is told as unknown.
 */
import { SluiceError } from '../errors.ts'
import type { CronPlan, IntervalPlan } from '../sdk/plan.ts'
import type { WorkflowManifest } from './manifest.ts'
import { nearest } from './nearest.ts'
import { fillTemplate, fitParams, templateOf, tickOf } from './planned-params.ts'
import type { RunState } from './run-state.ts'
import { nextTick, parseCron, type Schedule, scheduleOf, ticksBetween } from './schedule.ts'

/** Why a tick is run (again). */
export const backfillReasons = ['missing', 'failed', 'code-changed', 'stale'] as const

/** `ok` is chosen under "all". */
export const chosenVerdicts = [...backfillReasons, 'ok'] as const

export type ChosenVerdict = (typeof chosenVerdicts)[number]

export const verdicts = [...chosenVerdicts, 'running', 'due'] as const

export type Verdict = (typeof verdicts)[number]

export const backfillOrders = ['oldest', 'newest'] as const

/** A backfill looks at 1,000,000 ticks at most; 8 of its runs are active at once unless it says otherwise, 1,000 at most. */
export const backfillLimits = Object.freeze({ ticks: 1_000_000, maxActive: 1_000, defaultMaxActive: 8 })

/** The newest run of a tick, by its plan or by an earlier backfill. */
export interface LatestRun {
  readonly id: string
  readonly state: RunState
  readonly version: string
}

export interface TickFacts {
  /** In milliseconds since the epoch. */
  readonly ticks: readonly number[]
  /** By logical time. */
  readonly runs: ReadonlyMap<number, LatestRun>
  /** Of the workflow as the backfill would run it. */
  readonly fingerprint: string | undefined
  /** Of the workflow in the versions of those runs; without those that say nothing. */
  readonly fingerprints: ReadonlyMap<string, string>
  /** Ids of runs that read a dataset of which there is a newer version. */
  readonly staleRuns: ReadonlySet<string>
  /** The plan has a row for each tick up to this one; `undefined` when it never began, and comes to none. */
  readonly planStands: number | undefined
}

export interface JudgedTick {
  readonly logicalTime: number
  readonly verdict: Verdict
  readonly chosen: boolean
  /** It succeeded, and nobody knows whether with the same code. */
  readonly codeUnknown: boolean
}

/** In the order of the ticks given. */
export function judgeTicks(facts: TickFacts, wanted: ReadonlySet<ChosenVerdict>): JudgedTick[] {
  return facts.ticks.map((logicalTime) => {
    const run = facts.runs.get(logicalTime)
    const then = run && facts.fingerprints.get(run.version)
    const codeUnknown = run?.state === 'success' && (facts.fingerprint === undefined || then === undefined)
    const possible = verdictsOf(facts, logicalTime, run)
    const asked = possible.find((verdict) => (wanted as ReadonlySet<Verdict>).has(verdict))
    return { logicalTime, verdict: asked ?? possible[0]!, chosen: asked !== undefined, codeUnknown }
  })
}

function verdictsOf(facts: TickFacts, logicalTime: number, run: LatestRun | undefined): Verdict[] {
  if (run === undefined) {
    const comes = facts.planStands !== undefined && logicalTime > facts.planStands
    return [comes ? 'due' : 'missing']
  }
  if (run.state === 'queued' || run.state === 'running') return ['running']
  if (run.state !== 'success') return ['failed']
  const now = facts.fingerprint
  const then = facts.fingerprints.get(run.version)
  const found: Verdict[] = []
  if (now !== undefined && then !== undefined && now !== then) found.push('code-changed')
  if (facts.staleRuns.has(run.id)) found.push('stale')
  return found.length > 0 ? found : ['ok']
}

/** What a dry run says of the ticks. Times are in milliseconds since the epoch. */
export interface BackfillCounts {
  ticks: number
  readonly verdicts: Record<Verdict, number>
  chosen: number
  first: number | null
  last: number | null
  codeUnknown: number
}

export function noCounts(): BackfillCounts {
  const none = Object.fromEntries(verdicts.map((verdict) => [verdict, 0])) as Record<Verdict, number>
  return { ticks: 0, verdicts: none, chosen: 0, first: null, last: null, codeUnknown: 0 }
}

/** Adds judged ticks, in any order, to the counts. */
export function countTicks(counts: BackfillCounts, judged: readonly JudgedTick[]): void {
  for (const { logicalTime, verdict, chosen, codeUnknown } of judged) {
    counts.ticks += 1
    counts.verdicts[verdict] += 1
    if (codeUnknown) counts.codeUnknown += 1
    if (!chosen) continue
    counts.chosen += 1
    counts.first = Math.min(counts.first ?? logicalTime, logicalTime)
    counts.last = Math.max(counts.last ?? logicalTime, logicalTime)
  }
}

/** Milliseconds; of one run and of the whole. */
export interface Estimate {
  /** How many runs it is drawn from. */
  readonly history: number
  readonly medianMs: number
  readonly p90Ms: number
  /** The duration of so many runs one after another as fill the places: count / max-active, rounded up. */
  readonly totalMedianMs: number
  readonly totalP90Ms: number
}

/** `undefined` when there is no history. Durations are those of earlier runs, in milliseconds, in any order. */
export function estimateOf(durations: readonly number[], count: number, maxActive: number): Estimate | undefined {
  if (durations.length === 0) return undefined
  const sorted = [...durations].sort((one, other) => one - other)
  // The smallest duration that this share of the runs did not pass.
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!
  const rounds = Math.ceil(count / maxActive)
  const [medianMs, p90Ms] = [at(0.5), at(0.9)]
  return { history: sorted.length, medianMs, p90Ms, totalMedianMs: rounds * medianMs, totalP90Ms: rounds * p90Ms }
}

/** A plan whose ticks are known from the clock alone. */
export interface ClockPlan {
  readonly name: string
  /** In which days begin. */
  readonly zone: string
  readonly schedule: Schedule
  readonly plan: CronPlan | IntervalPlan
}

/**
 * The plan by the clock whose ticks are to be run: the one that is named, else the only one.
 * @throws SluiceError INVALID_INPUT saying which plans there are.
 */
export function clockPlanOf(workflow: Pick<WorkflowManifest, 'name' | 'plans'>, name: string | undefined): ClockPlan {
  const clocked = workflow.plans.filter(
    (plan): plan is (CronPlan | IntervalPlan) & { name: string } => plan.kind === 'cron' || plan.kind === 'interval',
  )
  const told = workflow.plans.map((plan) => `${plan.name} (${plan.kind})`).join(', ') || 'none at all'
  const needs = (what: string) => invalid('/body/plan', `${what}; the plans of ${workflow.name}: ${told}`)
  const named = name === undefined ? undefined : workflow.plans.find((plan) => plan.name === name)
  if (name !== undefined && named === undefined) {
    const meant = nearest(
      name,
      workflow.plans.map((plan) => plan.name),
    )
    throw needs(
      `There is no plan ${JSON.stringify(name.slice(0, 80))}${meant === undefined ? '' : `, did you mean ${meant}?`}`,
    )
  }
  if (clocked.length === 0) throw needs('A backfill needs a plan by the clock, whose ticks it runs')
  if (name === undefined && clocked.length > 1) throw needs('There are several plans by the clock, name one')
  const plan = name === undefined ? clocked[0]! : clocked.find((one) => one.name === name)
  if (plan === undefined) throw needs(`The plan ${name} is not by the clock: it has no ticks to run again`)
  const zone = plan.kind === 'cron' ? plan.timezone : 'UTC'
  return { name: plan.name, zone, schedule: scheduleOf(plan), plan }
}

/**
 * The parameters of the run of a tick, as JSON text: what the plan gives it, and over that what the backfill gives all.
 * @throws SluiceError INVALID_INPUT naming the tick and each field that does not fit.
 */
export function paramsOfTick(
  workflow: Pick<WorkflowManifest, 'name' | 'params'>,
  { plan, schedule }: ClockPlan,
  tick: number,
  given: object,
): string {
  const planned = fillTemplate(templateOf(plan), { tick: tickOf(schedule, tick) })
  const fit = fitParams(workflow, { ...(planned as object), ...given })
  if ('params' in fit) return fit.params
  const faults = fit.faults.map(({ where, message }) => ({ where: `/body${where}`, message }))
  const told = fit.faults.map(({ where, message }) => `${where} ${message}`).join('; ')
  throw new SluiceError(
    'INVALID_INPUT',
    `The parameters of the tick ${new Date(tick).toISOString()} do not fit ${workflow.name}: ${told}`,
    { faults },
  )
}

/**
 * The instant of `2026-03-28T06:00:00Z` (with any offset), or of the beginning of the day `2026-03-28` in a zone.
 * @throws SluiceError INVALID_INPUT for anything else, and for dates that the calendar does not have.
 */
export function instantOf(where: string, text: string, zone: string): number {
  const parts = /^(\d{4})-(\d{2})-(\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/.exec(text)
  const [, year, month, day] = parts?.map(Number) ?? []
  const midnight = parts ? Date.UTC(year!, month! - 1, day) : Number.NaN
  const isDate = parts !== null && new Date(midnight).toISOString().startsWith(text.slice(0, 10)) && year! >= 1970
  const instant = isDate && text.length === 10 ? startOfDay(midnight, zone) : Date.parse(text)
  if (isDate && !Number.isNaN(instant)) return instant
  const shown = JSON.stringify(text.slice(0, 40))
  throw invalid(
    where,
    `${shown} is no time; write 2026-03-28T06:00:00Z, or the day 2026-03-28, which begins in ${zone}`,
  )
}

/** The first instant at which the zone's clock shows the date's midnight or later. */
function startOfDay(midnight: number, zone: string): number {
  const date = new Date(midnight)
  const daily = parseCron(`0 0 ${date.getUTCDate()} ${date.getUTCMonth() + 1} *`, zone)
  return nextTick(daily, midnight - 2 * 86_400_000) ?? Number.NaN
}

/** Ticks that are found before others get their turn: a quarter of a second at most. */
const ticksAtOnce = 50_000

/**
 * The ticks `from <= tick < to` in order.
 * @throws SluiceError INVALID_INPUT when there are more than 1,000,000.
 */
export async function ticksOf({ schedule }: ClockPlan, from: number, to: number): Promise<number[]> {
  const ticks: number[] = []
  let after = from - 1
  for (;;) {
    const found = ticksBetween(schedule, after, to - 1, ticksAtOnce)
    for (const tick of found) ticks.push(tick)
    if (ticks.length > backfillLimits.ticks) {
      throw invalid(
        '/body/to',
        `There are more than ${backfillLimits.ticks} ticks between these times; a backfill looks at that many at most`,
      )
    }
    if (found.length < ticksAtOnce) return ticks
    after = found.at(-1)!
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** The name of the plan of a backfill's runs: a tick has one run of each. */
export const planOfBackfill = (plan: string, backfillId: string): string => `${plan}#${backfillId}`

function invalid(where: string, message: string): SluiceError {
  return new SluiceError('INVALID_INPUT', message, { faults: [{ where, message }] })
}
