/**
 * Starts runs when the clock says so. Every tick leaves a row, and a tick starts at most one run, however many engines there
 * are: the cursor of a plan is locked while its ticks are recorded and its runs inserted, in one transaction for all plans
 * that are due. One timer waits for the earliest tick of all plans.
 */
import { catchUpDefaults, dueTicks, type Tick } from '../core/catch-up.ts'
import { newRunId } from '../core/ids.ts'
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import { planStart } from '../core/plan-start.ts'
import { tickOf } from '../core/planned-params.ts'
import { nextTick, type Schedule, scheduleOf } from '../core/schedule.ts'
import { messageOf } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import type { CronPlan, IntervalPlan } from '../sdk/plan.ts'
import {
  beginPlans,
  type PlanEntry,
  planEntry,
  plannedRows,
  recordTicks,
  type TickRow,
  takePlans,
  withoutTaken,
} from '../store/plans.ts'
import { insertNewRuns, type NewRun } from '../store/runs.ts'
import type { Clock } from '../time.ts'

export interface FirePlansParts {
  readonly db: Database
  readonly clock: Clock
  readonly random: () => number
  readonly note: (line: string) => void
}

/** A plan by the clock, as one engine follows it. */
export interface ClockEntry extends PlanEntry {
  readonly definition: WorkflowManifest
  readonly by: (CronPlan | IntervalPlan) & { readonly name: string }
  readonly schedule: Schedule
  /** When it is looked at next; at first at once, since nobody knows what was missed. */
  next: number
}

/** Ticks of one plan, and of all, handled in one transaction; and how many that were missed are caught up with. */
interface MostTicks {
  readonly ofPlan: number
  readonly ofAll: number
  readonly caughtUp: number
}

const defaults: MostTicks = { ofPlan: 500, ofAll: 5_000, caughtUp: catchUpDefaults.most }
/** Also how soon a clock that was set is noticed. */
const longestWaitMs = 60_000
/** Plans that another engine holds are asked for again after this long: it may have died with them. */
const heldMs = 1_000

export class FirePlans {
  private entries: ClockEntry[] = []
  private timer: NodeJS.Timeout | undefined
  private firing = Promise.resolve()
  private stopped = false
  private readonly parts: FirePlansParts

  constructor(parts: FirePlansParts) {
    this.parts = parts
  }

  /** Follows the plans of a version from now on. */
  async follow(manifest: Manifest): Promise<void> {
    this.entries = clockEntries(manifest)
    await beginPlans(this.parts.db, this.entries)
    this.fire()
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await this.firing
  }

  private fire(): void {
    clearTimeout(this.timer)
    this.firing = this.firing.then(async () => {
      if (this.stopped) return
      let wait = longestWaitMs
      try {
        wait = await this.fireDue()
      } catch (error) {
        this.parts.note(`firing plans failed: ${messageOf(error)}`)
        wait = 1_000
      }
      clearTimeout(this.timer)
      if (!this.stopped) this.timer = setTimeout(() => this.fire(), Math.max(0, wait))
    })
  }

  /** Gives how long to wait until something may be due again. */
  private async fireDue(): Promise<number> {
    const { db, clock, random } = this.parts
    const now = clock.now()
    const asked = this.entries.filter((entry) => entry.next <= now)
    if (asked.length === 0) return waitFor(this.entries, now, false)
    const { seen, held } = await db.transaction((session) => fireTicks(session, asked, now, random))
    for (const [entry, next] of seen) entry.next = next
    return waitFor(this.entries, now, held) - (clock.now() - now)
  }
}

export function clockEntries(manifest: Pick<Manifest, 'hash' | 'workflows'>): ClockEntry[] {
  return manifest.workflows.flatMap((workflow) =>
    workflow.plans.flatMap((plan) => {
      if (plan.kind !== 'cron' && plan.kind !== 'interval') return []
      const entry = planEntry(workflow, plan, manifest.hash)
      return [{ ...entry, definition: workflow, by: plan, schedule: scheduleOf(plan), next: Number.NEGATIVE_INFINITY }]
    }),
  )
}

/** What became of the plans that were asked for. */
export interface Fired {
  /** Of those whose ticks were looked at: when to look at them next. */
  readonly seen: ReadonlyMap<ClockEntry, number>
  /** Another engine is at some of them. */
  readonly held: boolean
}

/** Records the ticks that are due, and inserts their runs. To be called in a transaction, whose commit makes it so. */
export async function fireTicks(
  session: Session,
  asked: readonly ClockEntry[],
  now: number,
  random: () => number,
  most = defaults,
): Promise<Fired> {
  const cursors = await takePlans(session, asked)
  const byPlan = new Map(cursors.map((row) => [`${row.workflow} ${row.plan}`, row]))
  const seen = new Map<ClockEntry, number>()
  const ticks: TickRow[] = []
  const runs: NewRun[] = []
  for (const entry of asked) {
    const cursor = byPlan.get(`${entry.workflow} ${entry.plan}`)
    if (!cursor || ticks.length >= most.ofAll) continue
    const since = cursor.since.getTime()
    const limits = { limit: most.ofPlan, most: most.caughtUp }
    const due = dueTicks(entry.schedule, entry.by.catchUp, since, now, limits)
    for (const tick of due) {
      const rows = rowsOf(entry, tick, cursor.paused, newRunId(now, random))
      ticks.push(rows.tick)
      if (rows.run) runs.push(rows.run)
    }
    // A clock that was set back is waited for.
    const after = Math.max(since, due.at(-1)?.logicalTime ?? since, due.length < most.ofPlan ? now : since)
    seen.set(entry, nextTick(entry.schedule, after) ?? Number.POSITIVE_INFINITY)
  }
  const inserted = await insertNewRuns(session, runs)
  await recordTicks(session, withoutTaken(ticks, inserted))
  return { seen, held: cursors.length < asked.length }
}

/** How long to wait, from `now` on, until something may be due. */
export function waitFor(entries: readonly Pick<ClockEntry, 'next'>[], now: number, held: boolean): number {
  const waits = entries.map(({ next }) => (next <= now && held ? now + heldMs : next))
  return Math.min(longestWaitMs, Math.max(0, Math.min(...waits) - now))
}

function rowsOf(entry: ClockEntry, tick: Tick, paused: boolean, runId: string): ReturnType<typeof plannedRows> {
  const time = new Date(tick.logicalTime)
  const occasion = { tick: tickOf(entry.schedule, tick.logicalTime) }
  const start = planStart(entry.definition, entry.by, occasion, { ...tick, paused })
  return plannedRows(entry, { time, logicalTime: time }, start, runId)
}
