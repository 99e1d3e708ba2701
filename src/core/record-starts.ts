/**
 * Which records of a topic start runs: each one that matches is in exactly one start, in the order of its partition.
 *
 * 1. A partition's cursor passes a record once it is in a start, or does not match and none before it waits.
 * 2. A batch is full with its number of records. One that is not full starts when its oldest record has waited for
 *    `withinMs`, or when as much was read as can be: what lies behind would not be seen else.
 */
import type { MatchValue, TopicRecordPlan } from '../sdk/plan.ts'
import { follow } from './template.ts'

export interface PublishedRecord {
  readonly partition: number
  readonly offset: number
  readonly id: string
  readonly key: string | null
  /** JSON text. */
  readonly value: string
  /** Milliseconds since the epoch. */
  readonly publishedAt: number
}

export interface RecordStart {
  readonly records: readonly PublishedRecord[]
  /** When it could first have started. */
  readonly dueAt: number
}

export interface RecordStarts {
  readonly starts: readonly RecordStart[]
  /** By partition: the offset that comes next. */
  readonly cursors: ReadonlyMap<number, number>
  /** When the batch that waits is due, if one does. */
  readonly wakeAt: number | undefined
}

/** @param records of each partition in order; `full` says that there may be more than was read. */
export function recordStarts(
  plan: Pick<TopicRecordPlan, 'match' | 'batch'>,
  records: readonly PublishedRecord[],
  now: number,
  full: boolean,
): RecordStarts {
  const matching = records.filter((record) => matches(plan.match, record.value))
  const { starts, waiting } = plan.batch
    ? batches(matching, plan.batch, now, full)
    : { starts: matching.map((record) => ({ records: [record], dueAt: record.publishedAt })), waiting: [] }
  const cursors = new Map<number, number>()
  for (const { partition, offset } of records) cursors.set(partition, offset + 1)
  for (const { partition, offset } of [...waiting].reverse()) cursors.set(partition, offset)
  const wakeAt = waiting.length === 0 ? undefined : oldest(waiting) + plan.batch!.withinMs
  return { starts, cursors, wakeAt }
}

function batches(
  matching: readonly PublishedRecord[],
  batch: NonNullable<TopicRecordPlan['batch']>,
  now: number,
  full: boolean,
): { readonly starts: RecordStart[]; readonly waiting: readonly PublishedRecord[] } {
  const starts: RecordStart[] = []
  for (let from = 0; from < matching.length; from += batch.records) {
    const records = matching.slice(from, from + batch.records)
    const dueAt =
      records.length === batch.records
        ? Math.max(...records.map((record) => record.publishedAt))
        : oldest(records) + batch.withinMs
    if (records.length < batch.records && dueAt > now && !full) return { starts, waiting: records }
    starts.push({ records, dueAt })
  }
  return { starts, waiting: [] }
}

const oldest = (records: readonly PublishedRecord[]): number => Math.min(...records.map((record) => record.publishedAt))

function matches(match: TopicRecordPlan['match'], value: string): boolean {
  if (match === undefined) return true
  const record: unknown = JSON.parse(value)
  return Object.entries(match).every(([path, wanted]) => wanted.includes(follow(record, path.split('.')) as MatchValue))
}
