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

const appendAgain = statement(
  'logs.append_again',
  `with chunks as (
     insert into sluice.log_chunks (source, attempt, seq, lines)
     select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[]) as given (source, attempt, seq, lines)
     where not exists (
       select from sluice.log_chunks c
       where c.source = given.source and c.attempt = given.attempt and c.seq = given.seq)
     returning source
   )
   select count(pg_notify('sluice_logs', source::text)) from (select distinct source from chunks) s`,
)

/** `again`: an earlier try was not answered, and may have written some or all of them; they are not written twice. */
export async function appendLogs(session: Session, chunks: readonly LogChunk[], again = false): Promise<void> {
  if (chunks.length === 0) return
  await session.execute(again ? appendAgain : append, [
    chunks.map((chunk) => chunk.source),
    chunks.map((chunk) => chunk.attempt),
    chunks.map((chunk) => chunk.seq),
    chunks.map((chunk) => chunk.lines),
  ])
}
