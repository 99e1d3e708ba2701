/** What a commit writes of its records: the ledger, and the table of those that have not ended. */
import type { BatchCounts, RecordOutcome } from '../core/ledger.ts'
import { type Session, statement } from '../ports/database.ts'
import { putLetters } from './kafka-outbox.ts'
import type { ShardId } from './shards.ts'
import { park, wakeNext } from './waiting-records.ts'

/** How a waiting record goes on: `waiting` at once or behind its key, `retry` when due, `dead` when replayed. */
export type WaitingState = 'waiting' | 'retry' | 'dead'

/** A record that the offset has passed and that has not ended. */
export interface WaitingRecord {
  readonly offset: number
  readonly recordId: string
  readonly key: string | null
  readonly value: string
  readonly state: WaitingState
  /** Attempts that failed. */
  readonly attempts: number
  readonly dueAt: Date | null
  readonly reason: string | null
  readonly detail: string | null
}

/** A row of the ledger about one record. `was` is null for a record that the commit's batch row counts. */
export interface LedgerRecord {
  readonly offset: number
  readonly recordId: string
  readonly outcome: RecordOutcome
  readonly was: RecordOutcome | null
  readonly reason: string | null
  readonly detail: string | null
}

export interface Settlement extends ShardId {
  readonly at: Date
  readonly from: number
  readonly to: number
  /** Of the offsets `from <= offset < to`. */
  readonly counts: BatchCounts
  readonly records: readonly LedgerRecord[]
  readonly inserts: readonly WaitingRecord[]
  /** Without their values, which stay. */
  readonly updates: readonly Omit<WaitingRecord, 'value'>[]
  /** Offsets of waiting records that ended. */
  readonly deletes: readonly number[]
  /** Offsets of waiting records that their shard does not hold, each behind a record of its key, unless that ends now. */
  readonly parked: readonly number[]
  /** Keys of records that ended, where the table may have records that the shard does not hold. */
  readonly leftKeys: readonly string[]
}

const batchStatement = statement(
  'records.batch',
  `
  insert into sluice.ledger_batches
    (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
)

const recordsStatement = statement(
  'records.ledger',
  `
  insert into sluice.ledger_records (stream, partition, "offset", record_id, outcome, was, reason, detail, at)
  select $1, $2, given.*, $3
  from unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) as given`,
)

const insertWaitingStatement = statement(
  'records.wait',
  `
  insert into sluice.stream_waiting
    (stream, partition, since, "offset", record_id, key, value, state, attempts, due_at, reason, detail, errors)
  select $1, $2, $3, given.*,
    case when reason is null then '[]' else sluice.with_error('[]', $3, attempts, reason, detail) end
  from unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[], $10::timestamptz[], $11::text[], $12::text[])
    as given ("offset", record_id, key, value, state, attempts, due_at, reason, detail)`,
)

const updateWaitingStatement = statement(
  'records.wait-again',
  `
  update sluice.stream_waiting w
  set state = given.state, attempts = given.attempts, due_at = given.due_at, reason = given.reason, detail = given.detail,
    since = case given.state when 'dead' then $9 else w.since end,
    errors = case when given.reason is null then w.errors
      else sluice.with_error(w.errors, $9, given.attempts, given.reason, given.detail) end
  from unnest($3::bigint[], $4::text[], $5::int[], $6::timestamptz[], $7::text[], $8::text[])
    as given ("offset", state, attempts, due_at, reason, detail)
  where w.stream = $1 and w.partition = $2 and w."offset" = given."offset"`,
)

const deleteWaitingStatement = statement(
  'records.end-waiting',
  'delete from sluice.stream_waiting where stream = $1 and partition = $2 and "offset" = any ($3::bigint[])',
)

/**
 * Writes a commit's records; part of a transaction that began with `advance`. Gives how many records that the shard does
 * not hold may go on from now on.
 */
export async function settle(session: Session, settlement: Settlement): Promise<number> {
  const { stream, partition, at, from, to, counts, records, inserts, updates, deletes, parked, leftKeys } = settlement
  if (to > from) {
    const { received, written, duplicate, filtered, rejected, dead, waiting } = counts
    await session.execute(batchStatement, [
      ...[stream, partition, from, to],
      ...[received, written, duplicate, filtered, rejected, dead, waiting, at],
    ])
  }
  await putLetters(session, settlement, { records, waiting: [...inserts, ...updates] })
  if (records.length > 0) await session.execute(recordsStatement, [stream, partition, at, ...ledgerColumns(records)])
  if (inserts.length > 0)
    await session.execute(insertWaitingStatement, [stream, partition, at, ...waitingColumns(inserts)])
  if (updates.length > 0)
    await session.execute(updateWaitingStatement, [stream, partition, ...changedColumns(updates), at])
  if (deletes.length > 0) await session.execute(deleteWaitingStatement, [stream, partition, deletes])
  if (parked.length > 0) await park(session, settlement, parked)
  return leftKeys.length > 0 ? wakeNext(session, settlement, leftKeys) : 0
}

const ledgerColumns = (records: readonly LedgerRecord[]): unknown[] => [
  records.map((record) => record.offset),
  records.map((record) => record.recordId),
  records.map((record) => record.outcome),
  records.map((record) => record.was),
  records.map((record) => record.reason),
  records.map((record) => record.detail),
]

const waitingColumns = (records: readonly WaitingRecord[]): unknown[] => [
  records.map((record) => record.offset),
  records.map((record) => record.recordId),
  records.map((record) => record.key),
  records.map((record) => record.value),
  ...changedColumns(records).slice(1),
]

const changedColumns = (records: readonly Omit<WaitingRecord, 'value'>[]): unknown[] => [
  records.map((record) => record.offset),
  records.map((record) => record.state),
  records.map((record) => record.attempts),
  records.map((record) => record.dueAt),
  records.map((record) => record.reason),
  records.map((record) => record.detail),
]
