/**
 * Lets dead letters be tried again.
 *
 * 1. The transaction first locks the rows of all shards of the stream, in order: no commit of a shard, no edit and no
 *    other replay is under way then, so what is dead now is dead until the replay has it.
 * 2. The ledger has a row for each record that moves from dead to waiting; the record keeps its offset and its id.
 */
import { type Database, type Session, statement } from '../ports/database.ts'
import type { DeadLetterFilter } from './dead-letters.ts'

/** Of the dead letters that fit the filter, these only. */
export interface ReplaySelection extends DeadLetterFilter {
  /** Record ids. */
  readonly ids?: readonly string[] | undefined
  /** Places, as `<partition>:<offset>`. */
  readonly letters?: readonly string[] | undefined
}

export interface Replayed {
  /** Records that wait again. */
  readonly replayed: number
  /** Records that were asked for and are still dead: more than one replay takes. */
  readonly remaining: number
  /** Of the ids and letters that were named: those that are no dead letters, or not any more. */
  readonly notDead: readonly string[]
}

const lockStatement = statement<{ partition: number; at: Date }>(
  'dead-letters.lock-shards',
  `
  select partition, greatest(sluice.sluice_now(), folded_through) as at
  from sluice.shards where stream = $1
  order by partition
  for no key update`,
)

const notDeadStatement = statement<{ name: string }>(
  'dead-letters.not-dead',
  `
  select name from unnest($2::text[]) as given (name)
  where not exists (
    select from sluice.stream_waiting w where w.stream = $1 and w.state = 'dead' and w.record_id = name)
  union all
  select name from unnest($3::text[]) as given (name)
  where not exists (
    select from sluice.stream_waiting w where w.stream = $1 and w.state = 'dead'
      and w.partition = split_part(name, ':', 1)::int and w."offset" = split_part(name, ':', 2)::bigint)`,
)

const keysStatement = statement<{ key: string }>(
  'dead-letters.keys',
  `
  select distinct key from sluice.stream_waiting
  where stream = $1 and state = 'dead' and key is not null
    and ($2::text[] is null or record_id = any ($2)) and ($3::text[] is null or partition || ':' || "offset" = any ($3))
    and ($4::text is null or reason = $4) and ($5::text is null or key = $5) and ($6::timestamptz is null or since >= $6)`,
)

const forgetKeysStatement = statement(
  'dead-letters.forget-keys',
  `delete from sluice.stream_keys where stream = $1 and outcome = 'dead' and key = any ($2::text[])`,
)

const replayStatement = statement<{ replayed: number; keys: string[] }>(
  'dead-letters.replay',
  `
  with chosen as (
    select stream, partition, "offset" from sluice.stream_waiting
    where stream = $1 and partition = $8 and state = 'dead' and (
      key = any ($7::text[]) or
      ($2::text[] is null or record_id = any ($2)) and ($3::text[] is null or partition || ':' || "offset" = any ($3))
      and ($4::text is null or reason = $4) and ($5::text is null or key = $5) and ($6::timestamptz is null or since >= $6))
    order by "offset" limit $9
  ), replayed as (
    update sluice.stream_waiting w
    set state = 'waiting', earlier_attempts = w.earlier_attempts + w.attempts, attempts = 0, replays = w.replays + 1,
      due_at = null, reason = null, detail = null, behind = false, since = $10
    from chosen where w.stream = chosen.stream and w.partition = chosen.partition and w."offset" = chosen."offset"
    returning w.*
  ), noted as (
    insert into sluice.ledger_records (stream, partition, "offset", record_id, outcome, was, reason, at)
    select stream, partition, "offset", record_id, 'waiting', 'dead', 'replayed', $10 from replayed
  )
  select count(*)::int as replayed, coalesce(array_agg(distinct key) filter (where key is not null), '{}') as keys,
    pg_notify('sluice_stream', $1 || ':' || $8::text)
  from replayed`,
)

const countStatement = statement<{ remaining: number }>(
  'dead-letters.count',
  `
  select count(*)::int as remaining from sluice.stream_waiting
  where stream = $1 and state = 'dead' and (
    key = any ($7::text[]) or
    ($2::text[] is null or record_id = any ($2)) and ($3::text[] is null or partition || ':' || "offset" = any ($3))
    and ($4::text is null or reason = $4) and ($5::text is null or key = $5) and ($6::timestamptz is null or since >= $6))`,
)

export interface ReplayOptions {
  /** In a distinct stream what died with the same key comes along, and ends as its first record ends. */
  readonly distinct: boolean
  /** Letters of one shard that one replay takes at most, for its transaction holds up the shards; default 10,000. */
  readonly maxOfShard?: number
}

/** Replays in a transaction of its own. */
export function replayDeadLetters(
  database: Database,
  stream: string,
  selection: ReplaySelection,
  options: ReplayOptions,
): Promise<Replayed> {
  return database.transaction((session) => replayWithin(session, stream, selection, options))
}

/** Replays in the transaction of the caller, which commits at once: it holds all shards of the stream. */
export async function replayWithin(
  session: Session,
  stream: string,
  { ids, letters, reason, key, since }: ReplaySelection,
  { distinct, maxOfShard = 10_000 }: ReplayOptions,
): Promise<Replayed> {
  const shards = await session.query(lockStatement, [stream])
  const wanted = [stream, ids ?? null, letters ?? null, reason ?? null, key ?? null, since ?? null]
  const notDead = await session.query(notDeadStatement, [stream, ids ?? [], letters ?? []])
  const alongKeys = distinct ? (await session.query(keysStatement, wanted)).map((row) => row.key) : []
  const replayedKeys: string[] = []
  let replayed = 0
  for (const { partition, at } of shards) {
    const [done] = await session.query(replayStatement, [...wanted, alongKeys, partition, maxOfShard, at])
    replayed += done!.replayed
    replayedKeys.push(...done!.keys)
  }
  if (distinct && replayedKeys.length > 0) await session.execute(forgetKeysStatement, [stream, replayedKeys])
  const [left] = await session.query(countStatement, [...wanted, alongKeys])
  return { replayed, remaining: left!.remaining, notDead: notDead.map((row) => row.name) }
}
