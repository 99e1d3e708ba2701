/**
 * Starts runs for what others commit: records of topics, versions of datasets. A notification wakes the plans that wait for
 * it; what happened since a plan's cursor is read, and the cursor moves in the transaction that inserts the runs, so that
 * each event starts what it should once, however many engines there are. A sweep each 30 s finds what was not told.
 */
import type { Manifest, WorkflowManifest } from '../core/manifest.ts'
import { messageOf } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import type { Plan } from '../sdk/plan.ts'
import { type PlanEntry, planEntry } from '../store/plans.ts'
import type { Clock } from '../time.ts'

export interface EventPlansParts {
  readonly db: Database
  readonly clock: Clock
  readonly random: () => number
  readonly note: (line: string) => void
}

export interface EventEntry<Of extends Plan> extends PlanEntry {
  readonly definition: WorkflowManifest
  readonly by: Of & { readonly name: string }
}

/** What plans of one kind wait for. */
export interface EventKind<Of extends Plan> {
  readonly kind: Of['kind']
  readonly channel: string
  /** What a notification is about. */
  subjectOf(payload: string): string
  isAbout(plan: Of, subject: string): boolean
  /** Makes the cursors of plans; `sound` says that the version lacks none for being wrong. */
  begin(db: Database, entries: readonly EventEntry<Of>[], manifest: Manifest, sound: boolean): Promise<void>
  /** Starts what is there, as far as one transaction goes. */
  take(session: Session, entry: EventEntry<Of>, parts: EventPlansParts): Promise<Taken>
}

export interface Taken {
  /** There may be more. */
  readonly more: boolean
  /** When there will be something to do without anything happening. */
  readonly wakeAt?: number | undefined
}

const sweepMs = 30_000
const afterFailureMs = 1_000

interface Waiting<Of extends Plan> {
  readonly entry: EventEntry<Of>
  next: number
}

export class EventPlans<Of extends Plan> {
  private plans: Waiting<Of>[] = []
  private unlisten: (() => Promise<void>) | undefined
  private timer: NodeJS.Timeout | undefined
  private working = Promise.resolve()
  private stopped = false
  private readonly parts: EventPlansParts
  private readonly kind: EventKind<Of>

  constructor(parts: EventPlansParts, kind: EventKind<Of>) {
    this.parts = parts
    this.kind = kind
  }

  async follow(manifest: Manifest): Promise<void> {
    const entries = manifest.workflows.flatMap((workflow) =>
      workflow.plans.flatMap((plan) =>
        plan.kind === this.kind.kind
          ? [{ ...planEntry(workflow, plan, manifest.hash), definition: workflow, by: plan as never }]
          : [],
      ),
    )
    // Listened to first, so that nothing is missed that comes after the cursors.
    if (entries.length > 0) this.unlisten ??= await this.listen()
    await this.kind.begin(this.parts.db, entries, manifest, manifest.faults.length === 0)
    this.plans = entries.map((entry) => ({ entry, next: 0 }))
    this.wake()
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearTimeout(this.timer)
    await this.unlisten?.()
    await this.working
  }

  private listen(): Promise<() => Promise<void>> {
    const { db } = this.parts
    const all = () => this.due(() => true)
    return db.listen(
      this.kind.channel,
      (payload) => this.due(({ by }) => this.kind.isAbout(by, this.kind.subjectOf(payload))),
      all,
    )
  }

  private due(which: (entry: EventEntry<Of>) => boolean): void {
    let some = false
    for (const plan of this.plans) {
      if (!which(plan.entry)) continue
      plan.next = 0
      some = true
    }
    if (some) this.wake()
  }

  private wake(): void {
    clearTimeout(this.timer)
    this.working = this.working.then(() => this.work())
  }

  private async work(): Promise<void> {
    for (const plan of this.plans) {
      while (!this.stopped && plan.next <= this.parts.clock.now()) await this.takeFrom(plan)
    }
    clearTimeout(this.timer)
    if (this.stopped || this.plans.length === 0) return
    const next = Math.min(...this.plans.map((plan) => plan.next)) - this.parts.clock.now()
    this.timer = setTimeout(() => this.wake(), Math.max(0, Math.min(sweepMs, next)))
  }

  private async takeFrom(plan: Waiting<Of>): Promise<void> {
    const { db, clock, note } = this.parts
    // What is told from here on counts for the next round.
    plan.next = clock.now() + sweepMs
    try {
      const { more, wakeAt } = await db.transaction((session) => this.kind.take(session, plan.entry, this.parts))
      if (more) plan.next = 0
      else if (wakeAt !== undefined) plan.next = Math.min(plan.next, wakeAt)
    } catch (error) {
      note(`the plan ${plan.entry.plan} of ${plan.entry.workflow} failed: ${messageOf(error)}`)
      plan.next = clock.now() + afterFailureMs
    }
  }
}
