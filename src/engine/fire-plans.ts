/**
 * Starts runs when their plans say so. Every tick leaves a row, and a tick starts at most one run, however many engines
 * there are: the cursor of a plan is locked while its ticks are recorded and its runs inserted, in one transaction.
 * One timer waits for the earliest tick of all plans.
 */
import { dueTicks } from '../core/catch-up.ts'
import { newRunId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { plannedParams } from '../core/planned-params.ts'
import { nextTick, parseCron, type Schedule } from '../core/schedule.ts'
import { messageOf } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { CronPlan } from '../sdk/plan.ts'
import { beginPlans, recordTicks, type TickRow, takePlans } from '../store/plans.ts'
import { insertNewRuns, type NewRun } from '../store/runs.ts'
import type { Clock } from '../time.ts'

export interface FirePlansParts {
  readonly db: Database
  readonly clock: Clock
  readonly random: () => number
  readonly note: (line: string) => void
}

interface CronEntry {
  readonly workflow: string
  readonly plan: string
  readonly schedule: Schedule
  readonly catchUp: CronPlan['catchUp']
  readonly version: string
  /** JSON text. */
  readonly params: string
}

/** Ticks of one plan handled in one transaction. */
const ticksAtOnce = 500
/** Also how soon a clock that was set is noticed. */
const longestWaitMs = 60_000

export class FirePlans {
  private entries: CronEntry[] = []
  private timer: NodeJS.Timeout | undefined
  private firing = Promise.resolve()
  private stopped = false
  private readonly parts: FirePlansParts

  constructor(parts: FirePlansParts) {
    this.parts = parts
  }

  /** Follows the plans of a version from now on. */
  async follow(manifest: Manifest): Promise<void> {
    this.entries = manifest.workflows.flatMap((workflow) =>
      workflow.plans.flatMap((plan) =>
        plan.kind === 'cron'
          ? [
              {
                workflow: workflow.name,
                plan: plan.name,
                schedule: parseCron(plan.pattern, plan.timezone),
                catchUp: plan.catchUp,
                version: manifest.hash,
                params: plannedParams(workflow),
              },
            ]
          : [],
      ),
    )
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
      if (!this.stopped) this.timer = setTimeout(() => this.fire(), wait)
    })
  }

  /** Gives how long to wait until something may be due again. */
  private async fireDue(): Promise<number> {
    const { db, clock } = this.parts
    const now = clock.now()
    if (this.entries.length === 0) return longestWaitMs
    const more = await db.transaction(async (session) => {
      const cursors = await takePlans(session, this.entries)
      const byPlan = new Map(cursors.map((row) => [`${row.workflow} ${row.plan}`, row]))
      const ticks: TickRow[] = []
      const runs: NewRun[] = []
      let full = false
      for (const entry of this.entries) {
        const cursor = byPlan.get(`${entry.workflow} ${entry.plan}`)
        if (!cursor) continue
        const due = dueTicks(entry.schedule, entry.catchUp, cursor.since.getTime(), now, { limit: ticksAtOnce })
        full ||= due.length === ticksAtOnce
        for (const { logicalTime, outcome, reason } of due) {
          const skip = cursor.paused || outcome === 'skipped'
          const runId = skip ? null : newRunId(now, this.parts.random)
          const row = { workflow: entry.workflow, plan: entry.plan, logicalTime: new Date(logicalTime), runId }
          ticks.push(
            cursor.paused
              ? { ...row, outcome: 'skipped', reason: 'the workflow is paused' }
              : { ...row, outcome, reason },
          )
          if (runId) runs.push(newRun(entry, runId, row.logicalTime))
        }
      }
      await insertNewRuns(session, runs)
      await recordTicks(session, ticks)
      return full
    })
    if (more) return 0
    const next = this.entries.map((entry) => nextTick(entry.schedule, now) ?? Number.POSITIVE_INFINITY)
    return Math.max(0, Math.min(longestWaitMs, Math.min(...next) - clock.now()))
  }
}

function newRun(entry: CronEntry, id: string, logicalTime: Date): NewRun {
  return {
    id,
    workflow: entry.workflow,
    version: entry.version,
    plan: entry.plan,
    logicalTime,
    params: entry.params,
    idempotencyKey: null,
    requestHash: null,
  }
}
