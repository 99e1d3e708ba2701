/** The plans of a simulated world: when they fire, what they start, and the row that each tick leaves. */
import type { PublishedRecord as Record_ } from '../app/capabilities/calls.ts'
import { datasetStarts, type WrittenVersion } from '../core/dataset-starts.ts'
import { Heap } from '../core/heap.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { planStart } from '../core/plan-start.ts'
import { type Occasion, tickOf } from '../core/planned-params.ts'
import { type PublishedRecord, recordStarts } from '../core/record-starts.ts'
import { nextTick, type Schedule, scheduleOf } from '../core/schedule.ts'
import { SluiceError } from '../errors.ts'
import type { DatasetWrittenPlan, FileArrivalPlan, Plan, TopicRecordPlan } from '../sdk/plan.ts'

/** What became of a tick of a plan, or of an event. */
export interface SimulatedTick {
  readonly workflow: string
  readonly plan: string
  readonly logicalTime: Date
  readonly outcome: 'fired' | 'late' | 'skipped' | 'caught_up'
  readonly reason: string
  /** The id of the run that it started. */
  readonly run: string | null
}

/** A run that is to start; `params` is JSON text. */
export interface PlanStarts {
  readonly workflow: string
  readonly plan: string
  readonly logicalTime: Date | null
  readonly params: string
}

export interface PlansOfWorldParts {
  now(): number
  isPaused(workflow: string): boolean
  /** Starts a run; gives its id. */
  start(start: PlanStarts): string
  /** Asks for `fire` at a time. */
  wakeAt(time: number): void
}

type Named<Of extends Plan = Plan> = Of & { readonly name: string }
interface Entry<Of extends Plan = Plan> {
  readonly workflow: WorkflowManifest
  readonly plan: Named<Of>
}
interface Timed extends Entry {
  readonly schedule: Schedule
  readonly at: number
}
interface Waiting {
  readonly records: PublishedRecord[]
}

export class PlansOfWorld {
  readonly ticks: SimulatedTick[] = []
  readonly #entries: readonly Entry[]
  readonly #timed = new Heap<Timed>((one, other) =>
    one.at === other.at ? one.plan.name < other.plan.name : one.at < other.at,
  )
  readonly #resting: { readonly entry: Entry; readonly file: string; readonly at: number }[] = []
  readonly #waiting = new Map<Entry, Waiting>()
  readonly #written = new Map<Entry, WrittenVersion[]>()
  readonly #parts: PlansOfWorldParts
  #offset = 0

  constructor(workflows: readonly WorkflowManifest[], start: number, parts: PlansOfWorldParts) {
    this.#parts = parts
    this.#entries = workflows.flatMap((workflow) => workflow.plans.map((plan) => ({ workflow, plan })))
    for (const entry of this.#entries) {
      const { kind } = entry.plan
      if (kind === 'cron' || kind === 'interval')
        this.#await({ ...entry, schedule: scheduleOf(entry.plan as never) }, start)
    }
  }

  /** Everything that is due by now. */
  fire(now: number): void {
    for (let first = this.#timed.peek(); first && first.at <= now; first = this.#timed.peek()) {
      this.#timed.pop()
      this.#start(first, first.at, { tick: tickOf(first.schedule, first.at) }, 'on time')
      this.#await(first, first.at)
    }
    for (const arrived of this.#resting.splice(0)) {
      if (arrived.at > now) this.#resting.push(arrived)
      else this.#start(arrived.entry, now, { event: { file: arrived.file } }, `the file ${arrived.file} arrived`)
    }
    for (const [entry, waiting] of this.#waiting) this.#startRecords(entry as Entry<TopicRecordPlan>, waiting, now)
  }

  arrived(file: string, now: number, matches: (path: string, glob: string) => boolean): void {
    for (const entry of this.#of<FileArrivalPlan>('file-arrival')) {
      if (!matches(file, entry.plan.glob)) continue
      const at = now + entry.plan.restMs
      const before = this.#resting.findIndex((one) => one.entry === entry && one.file === file)
      if (before >= 0) this.#resting.splice(before, 1)
      this.#resting.push({ entry, file, at })
      this.#parts.wakeAt(at)
    }
  }

  delivered(workflow: string, hook: string, body: unknown, now: number): void {
    const entry = this.#entries.find(
      ({ workflow: { name }, plan }) => name === workflow && plan.kind === 'webhook' && plan.hook === hook,
    )
    if (!entry) throw new SluiceError('NOT_FOUND', `workflow ${workflow} has no webhook ${hook}`)
    this.#start(entry, now, { event: { body } }, 'a delivery')
  }

  published(topic: string, records: readonly Record_[]): void {
    for (const entry of this.#of<TopicRecordPlan>('topic-record')) {
      if (entry.plan.topic !== topic) continue
      const waiting = this.#waiting.get(entry) ?? { records: [] }
      this.#waiting.set(entry, waiting)
      for (const record of records) {
        waiting.records.push({ ...record, partition: 0, offset: this.#offset++, publishedAt: this.#parts.now() })
      }
      // Not here: the attempt that publishes has not ended.
      this.#parts.wakeAt(this.#parts.now())
    }
  }

  wrote(dataset: string, version: number, workflow: string, now: number): void {
    for (const entry of this.#of<DatasetWrittenPlan>('dataset-written')) {
      if (!entry.plan.datasets.includes(dataset)) continue
      const written = [...(this.#written.get(entry) ?? []), { dataset, version, at: now, workflow }]
      const { starts, cursors } = datasetStarts(entry.plan, entry.workflow.name, written)
      this.#written.set(
        entry,
        written.filter((one) => one.version > (cursors.get(one.dataset) ?? 0)),
      )
      for (const { versions } of starts) {
        const event = { datasets: Object.fromEntries(versions.map((one) => [one.dataset, one.version])) }
        this.#start(entry, now, { event }, `${versions.map((one) => one.dataset).join(', ')} was written`)
      }
    }
  }

  #startRecords(entry: Entry<TopicRecordPlan>, waiting: Waiting, now: number): void {
    const { starts, cursors, wakeAt } = recordStarts(entry.plan, waiting.records, now, false)
    const from = cursors.get(0) ?? 0
    waiting.records.splice(0, waiting.records.length, ...waiting.records.filter(({ offset }) => offset >= from))
    for (const { records } of starts) {
      const values = records.map(({ value }) => JSON.parse(value) as unknown)
      const event = entry.plan.batch ? { records: values } : { record: values[0] }
      this.#start(entry, now, { event }, 'published')
    }
    if (wakeAt !== undefined) this.#parts.wakeAt(wakeAt)
  }

  #start({ workflow, plan }: Entry, at: number, occasion: Occasion, why: string): void {
    const paused = this.#parts.isPaused(workflow.name)
    const { outcome, reason, params } = planStart(workflow, plan, occasion, { paused, outcome: 'fired', reason: why })
    const logicalTime = new Date(at)
    const facts = { workflow: workflow.name, plan: plan.name, logicalTime }
    const run = params === undefined ? null : this.#parts.start({ ...facts, params })
    this.ticks.push({ ...facts, outcome, reason, run })
  }

  #await(entry: Omit<Timed, 'at'>, after: number): void {
    const at = nextTick(entry.schedule, after)
    if (at === undefined) return
    this.#timed.push({ ...entry, at })
    this.#parts.wakeAt(at)
  }

  #of<Of extends Plan>(kind: Of['kind']): Entry<Of>[] {
    return this.#entries.filter(({ plan }) => plan.kind === kind) as Entry<Of>[]
  }
}
