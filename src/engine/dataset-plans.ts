/** Plans that start runs when datasets have new versions. */
import { type DatasetStart, datasetStarts, isEach } from '../core/dataset-starts.ts'
import { newRunId } from '../core/ids.ts'
import { eventOutcome, planStart } from '../core/plan-start.ts'
import type { DatasetWrittenPlan } from '../sdk/plan.ts'
import { beginDatasetPlans, moveDatasetCursors, takeVersions } from '../store/plan-datasets.ts'
import { plannedRows, recordTicks } from '../store/plans.ts'
import { insertNewRuns } from '../store/runs.ts'
import type { EventEntry, EventKind } from './event-plans.ts'

/** Versions of one dataset read in one transaction. */
const versionsAtOnce = 500

export const datasetPlans: EventKind<DatasetWrittenPlan> = {
  kind: 'dataset-written',
  channel: 'sluice_datasets',
  subjectOf: (payload) => payload,
  isAbout: (plan, dataset) => plan.datasets.includes(dataset),

  async begin(db, entries) {
    if (entries.length === 0) return
    await beginDatasetPlans(
      db,
      entries.map((entry) => ({ ...entry, datasets: entry.by.datasets })),
    )
  },

  async take(session, entry, { clock, random }) {
    const plan = { ...entry, datasets: entry.by.datasets }
    const { written, paused, full } = await takeVersions(
      session,
      plan,
      isEach(entry.by) ? 'first' : 'newest',
      versionsAtOnce,
    )
    const now = clock.now()
    const { starts, cursors } = datasetStarts(entry.by, entry.workflow, written)
    const rows = starts.map((start) => rowsOf(entry, start, now, paused, newRunId(now, random)))
    const runs = rows.flatMap(({ run }) => run ?? [])
    if (runs.length > 0) await insertNewRuns(session, runs)
    await recordTicks(
      session,
      rows.map(({ tick }) => tick),
    )
    await moveDatasetCursors(session, plan, cursors)
    return { more: full && isEach(entry.by) }
  },
}

function rowsOf(
  entry: EventEntry<DatasetWrittenPlan>,
  { versions }: DatasetStart,
  now: number,
  paused: boolean,
  runId: string,
): ReturnType<typeof plannedRows> {
  const newest = versions.reduce((one, other) => (other.at > one.at ? other : one))
  const name = versions.map(({ dataset, version }) => `${dataset}@${version}`).join(' and ')
  const event = {
    dataset: newest.dataset,
    version: newest.version,
    datasets: Object.fromEntries(versions.map(({ dataset, version }) => [dataset, version])),
  }
  const due = { paused, outcome: eventOutcome(newest.at, now), reason: `${name} was written`.slice(0, 1_000) }
  const start = planStart(entry.definition, entry.by, { event }, due)
  return plannedRows(entry, { time: new Date(newest.at), logicalTime: null, event: name }, start, runId)
}
