/**
 * Carries backfills out: looks at their ticks, makes the runs of those that are chosen, and lets as many of these be taken
 * as have a place. Every engine does so; the rows decide who does what.
 *
 * 1. Nothing is remembered that the rows do not say: whoever comes next goes on after the last committed chunk.
 * 2. A run waits for a place, never for a time: what ends, is paused, resumed or cancelled wakes this loop, and a slow
 *    sweep finds what a lost notification would have told.
 * 3. A backfill that cannot go on now does not keep the others waiting; one that never can ends as failed.
 */
import {
  type ChosenVerdict,
  type ClockPlan,
  clockPlanOf,
  judgeTicks,
  paramsOfTick,
  planOfBackfill,
  ticksOf,
} from '../core/backfill.ts'
import { newRunId } from '../core/ids.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { messageOf, SluiceError } from '../errors.ts'
import type { Database, Session } from '../ports/database.ts'
import {
  failBackfill,
  makeClaimable,
  type SubmittingBackfill,
  submitChunk,
  takeSubmitting,
} from '../store/backfills.ts'
import { readTickFacts } from '../store/reading/backfills.ts'
import { readPinnedWorkflow } from '../store/reading/workflows.ts'
import type { Clock } from '../time.ts'

export interface BackfillsParts {
  readonly db: Database
  readonly clock: Clock
  readonly random: () => number
  readonly note: (line: string) => void
}

/** Ticks that one transaction looks at, and so the most runs that one statement makes. */
const ticksAtOnce = 1_000
/** How long a backfill rests whose ticks could not be looked at. */
const restMs = 5_000

/** What is worked out once of a backfill whose ticks are looked at. */
interface Agenda {
  readonly workflow: WorkflowManifest
  readonly plan: ClockPlan
  /** In the order of the backfill. */
  readonly ticks: readonly number[]
  readonly known: Map<string, string | undefined>
  readonly given: object
}

export class Backfills {
  private readonly agendas = new Map<string, Agenda>()
  private readonly resting = new Map<string, number>()
  /** Runs that hold a place, as of the last look. */
  private active: ReadonlySet<string> = new Set()
  private working: Promise<void> | undefined
  private again = false
  private stopped = false
  private lastIdAt = 0
  private readonly parts: BackfillsParts

  constructor(parts: BackfillsParts) {
    this.parts = parts
  }

  /** Does what there is to do; calls while it is at work make it look once more. */
  wake(): Promise<void> {
    this.again = true
    this.working ??= this.workOn().finally(() => {
      this.working = undefined
    })
    return this.working
  }

  /** A run has ended: its place may be another's. */
  runEnded(id: string): void {
    if (this.working || this.active.has(id)) void this.wake()
  }

  async stop(): Promise<void> {
    this.stopped = true
    await this.working
  }

  private async workOn(): Promise<void> {
    while (this.again && !this.stopped) {
      this.again = false
      try {
        let more = true
        while (more && !this.stopped) more = (await this.makeClaimable()) || (await this.submitSome())
      } catch (error) {
        this.parts.note(`backfills: ${messageOf(error)}`)
      }
    }
  }

  private async makeClaimable(): Promise<boolean> {
    const { active, more } = await this.parts.db.transaction(makeClaimable)
    this.active = new Set(active)
    return more
  }

  /** Looks at one chunk of ticks of one backfill. False: there is none, or nothing can be done for it now. */
  private async submitSome(): Promise<boolean> {
    const now = this.parts.clock.now()
    for (const [id, until] of this.resting) if (until <= now) this.resting.delete(id)
    let taken: SubmittingBackfill | undefined
    try {
      await this.parts.db.transaction(async (session) => {
        taken = await takeSubmitting(session, [...this.resting.keys()])
        if (taken) await this.submitChunk(session, taken)
      })
    } catch (error) {
      if (!taken) throw error
      await this.giveUp(taken, error)
    }
    return taken !== undefined
  }

  private async submitChunk(session: Session, backfill: SubmittingBackfill): Promise<void> {
    const agenda = await this.agendaOf(session, backfill)
    const { workflow, plan, known } = agenda
    const begin = positionIn(agenda.ticks, backfill)
    const ticks = agenda.ticks.slice(begin, begin + ticksAtOnce)
    const last = begin + ticks.length === agenda.ticks.length
    const facts = await readTickFacts(session, {
      workflow: workflow.name,
      plan: plan.name,
      fingerprint: workflow.fingerprint,
      ticks,
      known,
    })
    const chosen = judgeTicks(facts, new Set(backfill.reasons)).filter((tick) => tick.chosen)
    const ids = this.newIds(chosen.length)
    await submitChunk(session, {
      backfillId: backfill.id,
      plan: planOfBackfill(plan.name, backfill.id),
      tickPlan: plan.name,
      workflow: workflow.name,
      version: backfill.version,
      requestedBy: backfill.requestedBy,
      runs: chosen.map(({ logicalTime, verdict }, index) => ({
        id: ids[index]!,
        logicalTime: new Date(logicalTime),
        reason: verdict as ChosenVerdict,
        params: paramsOfTick(workflow, plan, logicalTime, agenda.given),
      })),
      examined: ticks.length,
      position: ticks.length > 0 ? new Date(ticks.at(-1)!) : null,
      last,
    })
    if (last) this.agendas.delete(backfill.id)
  }

  private async agendaOf(session: Session, backfill: SubmittingBackfill): Promise<Agenda> {
    const made = this.agendas.get(backfill.id)
    if (made) return made
    const workflow = await readPinnedWorkflow(session, backfill.version, backfill.workflow)
    if (!workflow) throw new SluiceError('NOT_FOUND', `version ${backfill.version} of ${backfill.workflow} is gone`)
    const plan = clockPlanOf(workflow, backfill.plan)
    const ticks = await ticksOf(plan, backfill.from.getTime(), backfill.to.getTime())
    if (backfill.newestFirst) ticks.reverse()
    const agenda: Agenda = { workflow, plan, ticks, known: new Map(), given: JSON.parse(backfill.params) }
    this.agendas.set(backfill.id, agenda)
    return agenda
  }

  /** Ids that grow, within a chunk and from chunk to chunk: what is to start first has the smaller one. */
  private newIds(count: number): string[] {
    this.lastIdAt = Math.max(this.lastIdAt + 1, this.parts.clock.now())
    return Array.from({ length: count }, (_, index) =>
      newRunId(this.lastIdAt, () => (index + this.parts.random()) / count),
    )
  }

  private async giveUp(backfill: SubmittingBackfill, error: unknown): Promise<void> {
    this.agendas.delete(backfill.id)
    const text = messageOf(error)
    this.parts.note(`backfill ${backfill.id} of ${backfill.workflow} cannot go on: ${text}`)
    this.resting.set(backfill.id, this.parts.clock.now() + restMs)
    if (error instanceof SluiceError && !error.retryable) await failBackfill(this.parts.db, backfill.id, text)
  }
}

/** Index of the first tick that was not looked at. */
function positionIn(ticks: readonly number[], { position, newestFirst }: SubmittingBackfill): number {
  if (position === null) return 0
  const at = position.getTime()
  let low = 0
  let high = ticks.length
  while (low < high) {
    const middle = (low + high) >> 1
    const behind = newestFirst ? ticks[middle]! >= at : ticks[middle]! <= at
    if (behind) low = middle + 1
    else high = middle
  }
  return low
}
