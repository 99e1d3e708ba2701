/**
 * The arithmetic of a stream's ledger, from immutable rows alone:
 *
 * 1. A batch row counts each of its records once, under the outcome it had when its offset was committed.
 * 2. A record row with `was: null` only tells the detail of a record that its batch row counts: it adds nothing.
 * 3. A record row with `was` moves one record from there to `outcome`; only the pairs of `outcomeMoves` are legal.
 * 4. `received = pending + written + duplicate + filtered + rejected + dead`, where pending are those that wait.
 */
import { SluiceError } from '../errors.ts'

export const recordOutcomes = ['waiting', 'written', 'duplicate', 'filtered', 'rejected', 'dead'] as const

/** How a record stands: it waits to be tried again, or it has ended. */
export type RecordOutcome = (typeof recordOutcomes)[number]

export interface OutcomeMove {
  readonly was: RecordOutcome
  readonly outcome: RecordOutcome
  readonly reason: string
}

/** Every way from one outcome to another after the commit of the batch. */
export const outcomeMoves: readonly OutcomeMove[] = [
  { was: 'waiting', outcome: 'written', reason: 'a later try reached the sink' },
  { was: 'waiting', outcome: 'duplicate', reason: 'the sink had it under another record id by then' },
  { was: 'waiting', outcome: 'filtered', reason: 'a step left it out in a later try' },
  { was: 'waiting', outcome: 'rejected', reason: 'a step refused it in a later try' },
  { was: 'waiting', outcome: 'dead', reason: 'no try is left, or it ended with the record it was parked behind' },
  { was: 'dead', outcome: 'waiting', reason: 'a dead letter was sent to be tried again' },
  { was: 'rejected', outcome: 'waiting', reason: 'a rejected record was sent to be tried again' },
]

const legalMoves: ReadonlySet<string> = new Set(outcomeMoves.map(({ was, outcome }) => `${was} ${outcome}`))

/** Whether a record row may say this; `was: null` is the detail of a batch row and fits every outcome. */
export function mayMove(was: RecordOutcome | null, outcome: RecordOutcome): boolean {
  return was === null || legalMoves.has(`${was} ${outcome}`)
}

/** What one committed batch counts; `received` is the number of its offsets. */
export interface BatchCounts extends Readonly<Record<RecordOutcome, number>> {
  readonly received: number
}

/** How many record rows say the same. */
export interface RecordCount {
  readonly was: RecordOutcome | null
  readonly outcome: RecordOutcome
  readonly count: number
}

/** The terms of the ledger. `pending` is 0 at rest. */
export interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly duplicate: number
  readonly filtered: number
  readonly rejected: number
  readonly dead: number
}

/** The batch row of records that ended like this, in any order. */
export function countBatch(outcomes: Iterable<RecordOutcome>): BatchCounts {
  const counts = { received: 0, waiting: 0, written: 0, duplicate: 0, filtered: 0, rejected: 0, dead: 0 }
  for (const outcome of outcomes) {
    counts[outcome] += 1
    counts.received += 1
  }
  return counts
}

/**
 * The sum of all rows; both may be summed up beforehand (by the database) in any way.
 * @throws SluiceError INTERNAL when a record row says a move that is not legal.
 */
export function totals(batches: Iterable<BatchCounts>, records: Iterable<RecordCount>): Totals {
  const sum = countBatch([]) as Record<keyof BatchCounts, number>
  for (const batch of batches) {
    sum.received += batch.received
    for (const outcome of recordOutcomes) sum[outcome] += batch[outcome]
  }
  for (const { was, outcome, count } of records) {
    if (was === null) continue
    if (!mayMove(was, outcome)) {
      throw new SluiceError(
        'INTERNAL',
        `The ledger moves ${count} records from ${was} to ${outcome}; that is not legal`,
      )
    }
    sum[was] -= count
    sum[outcome] += count
  }
  const { waiting: pending, ...rest } = sum
  return { ...rest, pending }
}

/**
 * The rows of one record in the order in which they happened. Times have milliseconds, and a record can die and be
 * replayed within one: each row begins where the last one ended, and where nothing goes on comes last.
 * @param rows - By time. Where the chain is broken (earlier days are dropped), the next by time begins another.
 */
export function inCourse<Row extends { readonly was: string | null; readonly outcome: string }>(
  rows: readonly Row[],
): Row[] {
  const left = [...rows]
  const course: Row[] = []
  while (left.length > 0) {
    const stands = course.at(-1)?.outcome ?? null
    const fitting = left.filter(({ was }) => was === stands)
    const next = fitting.find(({ outcome }) => left.some(({ was }) => was === outcome)) ?? fitting[0] ?? left[0]!
    left.splice(left.indexOf(next), 1)
    course.push(next)
  }
  return course
}

/** Whether the terms add up to what was received and none is below 0. */
export function balances(totals: Totals): boolean {
  const { received, ...ends } = totals
  const terms = Object.values(ends)
  return terms.every((term) => term >= 0) && received === terms.reduce((sum, term) => sum + term, 0)
}
