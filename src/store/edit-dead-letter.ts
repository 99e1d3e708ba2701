/**
 * Gives a dead letter another value.
 *
 * 1. The record keeps its offset and its id; a value to which the stream gives another id is refused. So the ledger, which
 *    counts records by their place, is not touched.
 * 2. The key may become another: the record leaves those of its old key, which stay as they are.
 * 3. It holds the lock of the shard's row: no replay and no commit is under way for that record.
 * 4. Every value that the record ever had is kept in `record_edits`, with who changed it, when and why.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'

export interface LetterEdit {
  readonly stream: string
  readonly partition: number
  readonly offset: number
  /** JSON text. */
  readonly value: string
  /** What the stream says the value's id and key are. */
  readonly recordId: string
  readonly key: string | null
  readonly by: string
  readonly note: string | null
  /** How many edits the caller has seen; refused when there were others meanwhile. Null: whatever there was. */
  readonly seenEdits: number | null
  readonly distinct: boolean
}

const lockStatement = statement<{ at: Date }>(
  'dead-letters.lock-shard',
  `
  select greatest(sluice.sluice_now(), folded_through) as at from sluice.shards
  where stream = $1 and partition = $2 for no key update`,
)

const readStatement = statement<{ state: string; recordId: string; key: string | null; value: string; edits: number }>(
  'dead-letters.read-for-edit',
  `
  select state, record_id as "recordId", key, value, edits from sluice.stream_waiting
  where stream = $1 and partition = $2 and "offset" = $3`,
)

const noteStatement = statement(
  'dead-letters.note-edit',
  `
  insert into sluice.record_edits (stream, partition, "offset", edit, at, by, note, before, after)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
)

const changeStatement = statement(
  'dead-letters.edit',
  `
  update sluice.stream_waiting set value = $4, key = $5, edits = edits + 1
  where stream = $1 and partition = $2 and "offset" = $3`,
)

/** The key that the record leaves: the next dead record of it is its first, if there is one. */
const inheritStatement = statement(
  'dead-letters.inherit-key',
  `
  with next as (
    select record_id from sluice.stream_waiting
    where stream = $1 and state = 'dead' and key = $2 order by partition, "offset" limit 1
  ), inherited as (
    update sluice.stream_keys k set record_id = next.record_id
    from next where k.stream = $1 and k.key = $2 and k.outcome = 'dead' and k.record_id = $3
  )
  delete from sluice.stream_keys
  where stream = $1 and key = $2 and outcome = 'dead' and record_id = $3 and not exists (select from next)`,
)

/**
 * Part of a transaction. An edit that gives the value which is there changes nothing.
 * @throws SluiceError NOT_FOUND; CONFLICT when it is not dead any more, or was edited meanwhile; INVALID_INPUT when the
 * value has another id
 */
export async function editDeadLetter(session: Session, edit: LetterEdit): Promise<void> {
  const { stream, partition, offset, value, key } = edit
  const name = `${partition}:${offset}`
  const [shard] = await session.query(lockStatement, [stream, partition])
  const [found] = shard === undefined ? [] : await session.query(readStatement, [stream, partition, offset])
  if (found === undefined) throw new SluiceError('NOT_FOUND', `${stream} has no dead letter ${name}`)
  if (found.state !== 'dead') {
    throw new SluiceError('CONFLICT', `The record ${name} of ${stream} was replayed and is not dead any more`)
  }
  if (edit.seenEdits !== null && edit.seenEdits !== found.edits) {
    throw new SluiceError(
      'CONFLICT',
      `The dead letter ${name} was edited meanwhile: ${found.edits} times by now, not ${edit.seenEdits}. Look at it again`,
    )
  }
  if (edit.recordId !== found.recordId) {
    const message = `has the id ${JSON.stringify(edit.recordId)}; the record's id ${JSON.stringify(found.recordId)} must stay. Publish it as another record instead`
    throw new SluiceError('INVALID_INPUT', `The value ${message}`, { faults: [{ where: '/body/value', message }] })
  }
  if (value === found.value) return
  const place = [stream, partition, offset]
  await session.execute(noteStatement, [
    ...place,
    found.edits + 1,
    ...[shard!.at, edit.by, edit.note, found.value, value],
  ])
  await session.execute(changeStatement, [...place, value, key])
  if (edit.distinct && found.key !== null && found.key !== key) {
    await session.execute(inheritStatement, [stream, found.key, found.recordId])
  }
}
