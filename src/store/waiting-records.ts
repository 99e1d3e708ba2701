/**
 * The durable table of a shard's records that wait, as its holder finds them: by time, and by key.
 *
 * What holds: a record that is marked `behind` has an earlier record of its key in the table, whose end takes the mark
 * away; so whoever loads what is due, and again after each mark that was taken away, leaves none out.
 *
 * A key is asked for as `>=` and `<=`, in the order of key and offset, which the index of keys alone has: for an equal key
 * a server that has no statistics yet reads all waiting records in the order of their offsets instead (3 s for 3,000).
 */
import { type Session, statement } from '../ports/database.ts'
import type { OpenRecord } from '../ports/source.ts'
import type { ShardId } from './shards.ts'

export interface DueRecord {
  readonly offset: number
  readonly recordId: string
  readonly key: string | null
  readonly value: string
  /** Attempts that failed. */
  readonly attempts: number
  readonly dueAt: Date | null
  /** The offset of the record of its key before it in the table; null when there is none, or no key. */
  readonly before: number | null
}

const dueStatement = statement<DueRecord>(
  'waiting-records.due',
  `
  select w."offset", w.record_id as "recordId", w.key, w.value, w.attempts, w.due_at as "dueAt",
    (select p."offset" from sluice.stream_waiting p
      where p.stream = $1 and p.partition = $2 and p.key >= w.key and (p.key, p."offset") < (w.key, w."offset") and p.state <> 'dead'
      order by p.key desc, p."offset" desc limit 1) as before
  from sluice.stream_waiting w
  where w.stream = $1 and w.partition = $2 and w.state <> 'dead' and not w.behind
    and coalesce(w.due_at, '-infinity'::timestamptz) <= $3 and w."offset" <> all ($4::bigint[])
  order by w.stream, w.partition, coalesce(w.due_at, '-infinity'::timestamptz), w."offset"
  limit $5`,
)

/** Up to `limit` records that may go on by now, but for those that are known; the ones that are due first. */
export function loadDue(
  session: Session,
  { stream, partition }: ShardId,
  { by, known, limit }: { readonly by: Date; readonly known: readonly number[]; readonly limit: number },
): Promise<DueRecord[]> {
  return session.query(dueStatement, [stream, partition, by, known, limit])
}

const outlookStatement = statement<{ dueAt: number | null; behind: boolean }>(
  'waiting-records.outlook',
  `
  select
    (select greatest(0, extract(epoch from coalesce(due_at, '1970-01-01Z')) * 1000)::float8 from sluice.stream_waiting
      where stream = $1 and partition = $2 and state <> 'dead' and not behind and "offset" <> all ($3::bigint[])
      order by stream, partition, coalesce(due_at, '-infinity'::timestamptz) limit 1) as "dueAt",
    exists (
      select from sluice.stream_waiting where stream = $1 and partition = $2 and behind and state <> 'dead') as behind`,
)

export interface Outlook {
  /** When the first is due, in milliseconds since the epoch; null when there is none. */
  readonly dueAt: number | null
  /** Whether there are others, which wait behind their key. */
  readonly behind: boolean
}

/** What the table has besides the records that are known. */
export async function outlook(
  session: Session,
  { stream, partition }: ShardId,
  known: readonly number[],
): Promise<Outlook> {
  const [row] = await session.query(outlookStatement, [stream, partition, known])
  return row!
}

const openStatement = statement<OpenRecord>(
  'waiting-records.open',
  `select "offset", key from sluice.stream_waiting where stream = $1 and partition = $2 and state <> 'dead' order by "offset"`,
)

/** All records of a shard that the offset has passed and that have not ended, by place and key. */
export function openRecords(session: Session, { stream, partition }: ShardId): Promise<OpenRecord[]> {
  return session.query(openStatement, [stream, partition])
}

const lastStatement = statement<{ key: string; offset: number }>(
  'waiting-records.last-of-keys',
  `
  select asked.key, last."offset"
  from unnest($3::text[]) as asked (key)
  cross join lateral (
    select "offset" from sluice.stream_waiting w
    where w.stream = $1 and w.partition = $2 and w.key >= asked.key and w.key <= asked.key and w.state <> 'dead'
    order by w.key desc, "offset" desc limit 1
  ) last`,
)

/** Of each key that has records in the table, the offset of the last. */
export async function lastOfKeys(
  session: Session,
  { stream, partition }: ShardId,
  keys: Iterable<string>,
): Promise<Map<string, number>> {
  const wanted = [...new Set(keys)]
  if (wanted.length === 0) return new Map()
  const rows = await session.query(lastStatement, [stream, partition, wanted])
  return new Map(rows.map((row) => [row.key, row.offset]))
}

const parkStatement = statement(
  'waiting-records.park',
  `
  update sluice.stream_waiting w set behind = true
  where stream = $1 and partition = $2 and "offset" = any ($3::bigint[]) and w."offset" > (
    select p."offset" from sluice.stream_waiting p
    where p.stream = $1 and p.partition = $2 and p.key >= w.key and p.key <= w.key and p.state <> 'dead'
    order by p.key, p."offset" limit 1)`,
)

/** Marks those that wait behind a record of their key. Part of a commit, after its other rows. */
export async function park(
  session: Session,
  { stream, partition }: ShardId,
  offsets: readonly number[],
): Promise<void> {
  await session.execute(parkStatement, [stream, partition, offsets])
}

/** Of one key as many go on at a time: repeats end together, and others park in memory. */
const wokenOfKey = 200

const wakeStatement = statement(
  'waiting-records.wake',
  `
  update sluice.stream_waiting set behind = false
  where ctid = any (array (
    select next.ctid
    from unnest($3::text[]) as ended (key)
    cross join lateral (
      select n.ctid from sluice.stream_waiting n
      where n.stream = $1 and n.partition = $2 and n.key >= ended.key and n.key <= ended.key and n.behind and n.state <> 'dead'
      order by n.key, n."offset" limit $4
    ) next))`,
)

/** Lets the next records of keys go on. Part of the commit that ends the ones before them. Gives how many there are. */
export function wakeNext(session: Session, { stream, partition }: ShardId, keys: Iterable<string>): Promise<number> {
  return session.execute(wakeStatement, [stream, partition, [...new Set(keys)], wokenOfKey])
}
