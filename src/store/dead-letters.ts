/** Dead letters: records that gave up, kept with their value until they are replayed. */
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'

export interface DeadLetter {
  readonly partition: number
  readonly offset: number
  readonly recordId: string
  readonly key: string | null
  /** JSON text, as it was published. */
  readonly value: string
  readonly reason: string | null
  readonly detail: string | null
  /** Attempts that failed; 0 when it died with the first record of its key. */
  readonly attempts: number
  readonly since: Date
}

/** UTF-8 bytes of the values of one page at most, but for a first one that is longer alone. */
const pageBytes = 8_388_608

const listStatement = statement<DeadLetter & { found: number }>(
  'dead-letters.list',
  `
  select partition, "offset", record_id as "recordId", key, value, reason, detail, attempts, since, found
  from (
    select *, count(*) over () as found,
      sum(octet_length(value)) over (order by partition, "offset" rows unbounded preceding) - octet_length(value) as before
    from (
      select * from sluice.stream_waiting
      where stream = $1 and state = 'dead' and (partition, "offset") > ($2, $3)
      order by partition, "offset" limit $4
    ) as next
  ) as summed
  where before = 0 or before + octet_length(value) <= $5
  order by partition, "offset"`,
)

/**
 * Dead letters after a position (`<partition>:<offset>`, as `nextCursor` says), by partition and offset: 1 to 1,000 of
 * them (default 50), fewer when their values would have over 8 MiB. @throws SluiceError INVALID_CURSOR, USAGE
 */
export async function listDeadLetters(
  session: Session,
  stream: string,
  { cursor = null, limit = 50 }: { readonly cursor?: string | null; readonly limit?: number } = {},
): Promise<{ items: DeadLetter[]; nextCursor: string | null }> {
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) {
    throw new SluiceError('USAGE', `The limit ${limit} is not a whole number from 1 to 1000`)
  }
  const after = /^(\d{1,3}):(\d{1,15})$/.exec(cursor ?? '0:0')
  if (after === null) throw new SluiceError('INVALID_CURSOR', 'The cursor is not one that a list of dead letters gave')
  const from = cursor === null ? [-1, -1] : [Number(after[1]), Number(after[2])]
  const rows = await session.query(listStatement, [stream, ...from, limit + 1, pageBytes])
  const items = rows.slice(0, limit).map(({ found: _, ...letter }) => letter)
  const last = items.at(-1)
  const more = last !== undefined && (rows[0]?.found ?? 0) > items.length
  return { items, nextCursor: more ? `${last.partition}:${last.offset}` : null }
}

const lockStatement = statement<{ partition: number; room: number; at: Date }>(
  'dead-letters.lock-shards',
  `
  select partition, greatest(sluice.sluice_now(), folded_through) as at,
    greatest(0, $2 - (
      select count(*) from sluice.stream_waiting w
      where w.stream = s.stream and w.partition = s.partition and w.state <> 'dead'
    ))::int as room
  from sluice.shards s where stream = $1
  order by partition
  for no key update of s`,
)

const keysStatement = statement<{ key: string }>(
  'dead-letters.keys',
  `
  select distinct key from sluice.stream_waiting
  where stream = $1 and state = 'dead' and key is not null and ($2::text[] is null or record_id = any ($2))`,
)

const forgetKeysStatement = statement(
  'dead-letters.forget-keys',
  `delete from sluice.stream_keys where stream = $1 and outcome = 'dead' and key = any ($2::text[])`,
)

const replayStatement = statement(
  'dead-letters.replay',
  `
  with chosen as (
    select stream, partition, "offset" from sluice.stream_waiting
    where stream = $1 and partition = $2 and state = 'dead'
      and ($3::text[] is null or record_id = any ($3) or key = any ($4::text[]))
    order by "offset" limit $5
  ), replayed as (
    update sluice.stream_waiting w
    set state = 'waiting', attempts = 0, due_at = null, reason = null, detail = null
    from chosen where w.stream = chosen.stream and w.partition = chosen.partition and w."offset" = chosen."offset"
    returning w.*
  ), noted as (
    insert into sluice.ledger_records (stream, partition, "offset", record_id, outcome, was, reason, at)
    select stream, partition, "offset", record_id, 'waiting', 'dead', 'replayed', $6 from replayed
  )
  select pg_notify('sluice_stream', $1 || ':' || $2::text) from replayed`,
)

const countStatement = statement<{ remaining: number }>(
  'dead-letters.count',
  `
  select count(*)::int as remaining from sluice.stream_waiting
  where stream = $1 and state = 'dead' and ($2::text[] is null or record_id = any ($2) or key = any ($3::text[]))`,
)

export interface Replayed {
  /** Records that wait again. */
  readonly replayed: number
  /** Records that were asked for and are still dead: their shards have no room for more waiting records now. */
  readonly remaining: number
}

/**
 * Lets dead letters be tried again: those with the given record ids, or all. In a distinct stream what died with the same
 * key comes along, and ends as its first record ends. Up to `maxWaiting` records per shard wait at once.
 */
export async function replayDeadLetters(
  database: Database,
  stream: string,
  recordIds: readonly string[] | 'all',
  { distinct, maxWaiting = 10_000 }: { readonly distinct: boolean; readonly maxWaiting?: number },
): Promise<Replayed> {
  const ids = recordIds === 'all' ? null : recordIds
  return database.transaction(async (session) => {
    const shards = await session.query(lockStatement, [stream, maxWaiting])
    const keys = distinct ? (await session.query(keysStatement, [stream, ids])).map((row) => row.key) : []
    let replayed = 0
    for (const { partition, room, at } of shards) {
      if (room > 0) replayed += await session.execute(replayStatement, [stream, partition, ids, keys, room, at])
    }
    if (replayed > 0 && keys.length > 0) await session.execute(forgetKeysStatement, [stream, keys])
    const [left] = await session.query(countStatement, [stream, ids, keys])
    return { replayed, remaining: left!.remaining }
  })
}
