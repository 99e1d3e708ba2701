/**
 * The hot tier of logs.
 *
 * 1. A task's chunks are read in the order of (attempt, seq), which its one writer gives out.
 * 2. Chunks of all tasks of a run have no common writer, so they are read in the order of their times, and only those
 *    from before the oldest transaction that is still writing: a chunk that commits late cannot slip in behind a reader.
 */
import { type Session, statement } from '../../ports/database.ts'

/** Chunks of one read at most, and the bytes of their lines beyond which no further chunk is read. */
export const mostChunks = 64
const mostBytes = 4_194_304

export interface LogChunkRow {
  readonly source: string
  readonly attempt: number
  readonly seq: number
  /** RFC 3339 with microseconds. */
  readonly at: string
  readonly lines: string
}

export interface LogChunks {
  readonly chunks: readonly LogChunkRow[]
  /** Whether there may be more: a limit was met. */
  readonly more: boolean
}

interface FoundChunk extends LogChunkRow {
  /** How many chunks were found, those that the limit of bytes leaves out included. */
  readonly found: number
}

function chunksOf(rows: readonly FoundChunk[]): LogChunks {
  const found = rows[0]?.found ?? 0
  return { chunks: rows, more: found > rows.length || found === mostChunks }
}

// The size of a text is known without reading it, so what the limit of bytes leaves out is never read.
const ofSource = statement<FoundChunk>(
  'reading.logs_of_source',
  `select source, attempt, seq, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, lines, found
   from (
     select *, count(*) over () as found,
       sum(octet_length(lines)) over (order by attempt, seq) - octet_length(lines) as before
     from (
       select * from sluice.log_chunks where source = $1 and (attempt, seq) >= ($2, $3) order by attempt, seq limit $4
     ) as next
   ) as sized
   where before < $5 order by attempt, seq`,
)

/** Chunks of one source from (attempt, seq) on. */
export async function readSourceLogs(
  session: Session,
  source: string,
  from: { readonly attempt: number; readonly seq: number },
): Promise<LogChunks> {
  return chunksOf(await session.query(ofSource, [source, from.attempt, from.seq, mostChunks, mostBytes]))
}

// A transaction that has no id yet writes its first chunk later than now. Where tests own the clock nothing is held back.
const horizon = statement<{ at: string }>(
  'reading.logs_horizon',
  `select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at from (
     select case when coalesce(current_setting('sluice.now', true), '') <> '' then sluice.sluice_now() + interval '1 second'
       else least(clock_timestamp(), (
         select min(xact_start) from pg_stat_activity
         where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()
       )) end as at
   ) as bound`,
)

const ofRange = statement<FoundChunk>(
  'reading.logs_of_range',
  `select source, attempt, seq, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, lines, found
   from (
     select *, count(*) over () as found,
       sum(octet_length(lines)) over (order by at, source, attempt, seq) - octet_length(lines) as before
     from (
       select * from sluice.log_chunks
       where source between $1 and $2 and at >= $3::timestamptz and at < $7::timestamptz
         and (at, source, attempt, seq) >= ($3::timestamptz, $4::uuid, $5, $6)
       order by at, source, attempt, seq limit $8
     ) as next
   ) as sized
   where before < $9 order by sized.at, source, attempt, seq`,
)

export interface LogPlace {
  readonly at: string
  readonly source: string
  readonly attempt: number
  readonly seq: number
}

/**
 * Chunks of all sources from `first` to `last` (ids, as of a run's tasks) from a place on. `complete`: nothing is being
 * written to them any more, so that all that is there is read.
 */
export async function readRangeLogs(
  session: Session,
  [first, last]: readonly [string, string],
  from: LogPlace,
  complete: boolean,
): Promise<LogChunks> {
  // Two statements: the second must see whatever committed before the first looked.
  const [bound] = complete ? [{ at: 'infinity' }] : await session.query(horizon)
  const values = [first, last, from.at, from.source, from.attempt, from.seq, bound?.at, mostChunks, mostBytes]
  return chunksOf(await session.query(ofRange, values))
}
