/** Plans that start runs for the records of a topic. */
import { newRunId } from '../core/ids.ts'
import { eventOutcome, planStart } from '../core/plan-start.ts'
import { type PublishedRecord, type RecordStart, recordStarts } from '../core/record-starts.ts'
import type { TopicRecordPlan } from '../sdk/plan.ts'
import { beginTopicPlans, forgetOtherTopicPlans, moveTopicCursors, takeRecords } from '../store/plan-topics.ts'
import { plannedRows, recordTicks } from '../store/plans.ts'
import { insertNewRuns } from '../store/runs.ts'
import { ensureTopic } from '../store/topics.ts'
import type { EventEntry, EventKind } from './event-plans.ts'

/** @param limits what is read in one transaction; a batch that is not full by then starts as it is */
export const recordPlansWith = (limits: {
  readonly records: number
  readonly bytes: number
}): EventKind<TopicRecordPlan> => ({
  kind: 'topic-record',
  channel: 'sluice_topic',
  subjectOf: (payload) => payload.slice(0, payload.lastIndexOf(':')),
  isAbout: (plan, topic) => plan.topic === topic,

  async begin(db, entries, manifest, sound) {
    const plans = entries.map((entry) => ({ ...entry, topic: entry.by.topic }))
    const topics = new Set(plans.map((plan) => plan.topic))
    for (const { name, partitions } of manifest.topics) if (topics.has(name)) await ensureTopic(db, name, partitions)
    if (plans.length > 0) await beginTopicPlans(db, plans)
    // A plan that is left out since its file is wrong comes back, and goes on where it stood.
    if (sound) await forgetOtherTopicPlans(db, plans)
  },

  async take(session, entry, { clock, random }) {
    const plan = { ...entry, topic: entry.by.topic }
    const { records, paused, full } = await takeRecords(session, plan, limits)
    const now = clock.now()
    const { starts, cursors, wakeAt } = recordStarts(entry.by, records, now, full)
    const rows = starts.map((start) => rowsOf(entry, start, now, paused, newRunId(now, random)))
    const runs = rows.flatMap(({ run }) => run ?? [])
    if (runs.length > 0) await insertNewRuns(session, runs)
    await recordTicks(
      session,
      rows.map(({ tick }) => tick),
    )
    await moveTopicCursors(session, plan, cursors)
    return { more: full, wakeAt }
  },
})

export const recordPlans = recordPlansWith({ records: 2_000, bytes: 4_194_304 })

function rowsOf(
  entry: EventEntry<TopicRecordPlan>,
  { records, dueAt }: RecordStart,
  now: number,
  paused: boolean,
  runId: string,
): ReturnType<typeof plannedRows> {
  const [first, last] = [records[0]!, records.at(-1)!]
  const place = ({ partition, offset }: PublishedRecord) => `${partition}:${offset}`
  const reason = entry.by.batch
    ? `${records.length} records of ${entry.by.topic}, ${place(first)} to ${place(last)}`
    : `record ${place(first)} of ${entry.by.topic}`
  const event = entry.by.batch
    ? { records: records.map(({ value }) => JSON.parse(value)), count: records.length }
    : { ...first, record: JSON.parse(first.value) }
  const start = planStart(entry.definition, entry.by, { event }, { paused, outcome: eventOutcome(dueAt, now), reason })
  const time = new Date(Math.max(...records.map((record) => record.publishedAt)))
  return plannedRows(entry, { time, logicalTime: null, event: `${entry.by.topic}:${place(first)}` }, start, runId)
}
