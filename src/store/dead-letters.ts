/** Dead letters: records that gave up, kept with their value until they are replayed. Reading them. */
import { inCourse } from '../core/ledger.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

export interface DeadLetter {
  readonly partition: number
  readonly offset: number
  readonly recordId: string
  readonly key: string | null
  /** JSON text: as it was published, or as it was edited last. */
  readonly value: string
  /** Short class of the last failure. */
  readonly reason: string | null
  readonly detail: string | null
  /** Attempts that failed since it was published or replayed last; 0 when it died with the first record of its key. */
  readonly attempts: number
  /** Attempts that failed before it was replayed last. */
  readonly earlierAttempts: number
  readonly replays: number
  readonly edits: number
  /** When it died. */
  readonly since: Date
}

/** Which dead letters are meant: those for which everything that is given holds; all when nothing is. */
export interface DeadLetterFilter {
  readonly reason?: string | undefined
  readonly key?: string | undefined
  /** Those that died at this time or later. */
  readonly since?: Date | undefined
}

/** UTF-8 bytes of the values of one page at most, but for a first one that is longer alone. */
const pageBytes = 8_388_608

const listStatement = statement<DeadLetter & { found: number }>(
  'dead-letters.list',
  `
  select partition, "offset", record_id as "recordId", key, value, reason, detail, attempts,
    earlier_attempts as "earlierAttempts", replays, edits, since, found
  from (
    select *, count(*) over () as found,
      sum(octet_length(value)) over (order by partition, "offset" rows unbounded preceding) - octet_length(value) as before
    from (
      select * from sluice.stream_waiting
      where stream = $1 and state = 'dead' and (partition, "offset") > ($2, $3)
        and ($6::text is null or reason = $6) and ($7::text is null or key = $7) and ($8::timestamptz is null or since >= $8)
      order by partition, "offset" limit $4
    ) as next
  ) as summed
  where before = 0 or before + octet_length(value) <= $5
  order by partition, "offset"`,
)

export interface DeadLetterPage extends DeadLetterFilter {
  readonly cursor?: string | null
  readonly limit?: number
}

/**
 * Dead letters after a position (`<partition>:<offset>`, as `nextCursor` says), by partition and offset: 1 to 1,000 of
 * them (default 50), fewer when their values would have over 8 MiB. @throws SluiceError INVALID_CURSOR, USAGE
 */
export async function listDeadLetters(
  session: Session,
  stream: string,
  { cursor = null, limit = 50, ...filter }: DeadLetterPage = {},
): Promise<{ items: DeadLetter[]; nextCursor: string | null }> {
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) {
    throw new SluiceError('USAGE', `The limit ${limit} is not a whole number from 1 to 1000`)
  }
  const after = /^(\d{1,3}):(\d{1,15})$/.exec(cursor ?? '0:0')
  if (after === null) throw new SluiceError('INVALID_CURSOR', 'The cursor is not one that a list of dead letters gave')
  const from = cursor === null ? [-1, -1] : [Number(after[1]), Number(after[2])]
  const { reason = null, key = null, since = null } = filter
  const rows = await session.query(listStatement, [stream, ...from, limit + 1, pageBytes, reason, key, since])
  const items = rows.slice(0, limit).map(({ found: _, ...letter }) => letter)
  const last = items.at(-1)
  const more = last !== undefined && (rows[0]?.found ?? 0) > items.length
  return { items, nextCursor: more ? `${last.partition}:${last.offset}` : null }
}

export interface FailedAttempt {
  /** RFC 3339. */
  readonly at: string
  /** From 1; begins again with each replay. */
  readonly attempt: number
  readonly reason: string | null
  readonly detail: string | null
}

/** A change of the value. */
export interface RecordEdit {
  readonly at: Date
  readonly by: string
  readonly note: string | null
  /** What it became: JSON text. */
  readonly value: string
}

/** How a record went from one outcome to another, as the ledger has it. */
export interface RecordMove {
  readonly at: Date
  /** Null for how it ended, or began to wait, when its offset was passed. */
  readonly was: string | null
  readonly outcome: string
  readonly reason: string | null
}

export interface DeadLetterDetail extends Omit<DeadLetter, 'since'> {
  /** `dead`; `waiting` or `retry` once it is replayed; then how it ended, as far as it was edited before. */
  readonly state: string
  readonly since: Date | null
  /** The value as it was published. */
  readonly original: string
  /** Of the last 20 failed attempts, the oldest first. */
  readonly errors: readonly FailedAttempt[]
  readonly history: readonly RecordMove[]
  /** The last 8 edits, the oldest first; `edits` says how many there were. */
  readonly changes: readonly RecordEdit[]
  /** Other records of its key that are not ended: dead ones, and those that wait. */
  readonly behind: { readonly dead: number; readonly waiting: number }
}

type Found = Omit<DeadLetterDetail, 'history' | 'changes' | 'behind' | 'original'>

const findStatement = statement<Found>(
  'dead-letters.find',
  `
  select partition, "offset", record_id as "recordId", key, value, state, reason, detail, attempts,
    earlier_attempts as "earlierAttempts", replays, edits, since, errors
  from sluice.stream_waiting where stream = $1 and partition = $2 and "offset" = $3`,
)

const historyStatement = statement<RecordMove & { recordId: string }>(
  'dead-letters.history',
  `
  select at, was, outcome, reason, record_id as "recordId" from sluice.ledger_records
  where stream = $1 and partition = $2 and "offset" = $3 order by at`,
)

const changesStatement = statement<RecordEdit & { edit: number }>(
  'dead-letters.changes',
  `
  select at, by, note, after as value, edit from (
    select * from sluice.record_edits where stream = $1 and partition = $2 and "offset" = $3 order by edit desc limit 8
  ) as last order by edit`,
)

const originalStatement = statement<{ value: string }>(
  'dead-letters.original',
  'select before as value from sluice.record_edits where stream = $1 and partition = $2 and "offset" = $3 and edit = 1',
)

const behindStatement = statement<{ dead: number; waiting: number }>(
  'dead-letters.behind',
  `
  select count(*) filter (where state = 'dead')::int as dead, count(*) filter (where state <> 'dead')::int as waiting
  from sluice.stream_waiting
  where stream = $1 and key = $4 and (partition, "offset") <> ($2, $3)`,
)

/** One dead letter with all that is known of it; undefined when that record is no dead letter and never was edited. */
export async function findDeadLetter(
  session: Session,
  stream: string,
  partition: number,
  offset: number,
): Promise<DeadLetterDetail | undefined> {
  const place = [stream, partition, offset]
  const [found] = await session.query(findStatement, place)
  const changes = await session.query(changesStatement, place)
  if (found === undefined && changes.length === 0) return undefined
  const moves = inCourse(await session.query(historyStatement, place))
  const [original] = await session.query(originalStatement, place)
  const letter = found ?? ended(partition, offset, moves, changes)
  const [behind] = letter.key === null ? [] : await session.query(behindStatement, [...place, letter.key])
  return {
    ...letter,
    original: original?.value ?? letter.value,
    history: moves.map(({ recordId: _, ...move }) => move),
    changes: changes.map(({ edit: _, ...change }) => change),
    behind: behind ?? { dead: 0, waiting: 0 },
  }
}

/** An edited record that has ended. */
function ended(
  partition: number,
  offset: number,
  moves: readonly (RecordMove & { recordId: string })[],
  changes: readonly (RecordEdit & { edit: number })[],
): Found {
  const last = moves.at(-1)
  return {
    ...{ partition, offset, recordId: last?.recordId ?? '', key: null, value: changes.at(-1)!.value },
    ...{ state: last?.outcome ?? 'ended', reason: last?.reason ?? null, detail: null, since: last?.at ?? null },
    ...{ attempts: 0, earlierAttempts: 0, replays: 0, edits: changes.at(-1)!.edit, errors: [] },
  }
}
