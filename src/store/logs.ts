/** The hot tier of logs: chunks of lines keyed by (source, attempt, sequence). A line is one JSON object. */
import { type Session, statement } from '../ports/database.ts'

export interface LogChunk {
  /** The id of a task, or of a process. */
  readonly source: string
  readonly attempt: number
  readonly seq: number
  /** Lines, each ended by LF. */
  readonly lines: string
}

const append = statement(
  'logs.append',
  `with chunks as (
     insert into sluice.log_chunks (source, attempt, seq, lines)
     select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[]) returning source
   )
   select count(pg_notify('sluice_logs', source::text)) from (select distinct source from chunks) s`,
)

export async function appendLogs(session: Session, chunks: readonly LogChunk[]): Promise<void> {
  if (chunks.length === 0) return
  await session.execute(append, [
    chunks.map((chunk) => chunk.source),
    chunks.map((chunk) => chunk.attempt),
    chunks.map((chunk) => chunk.seq),
    chunks.map((chunk) => chunk.lines),
  ])
}
