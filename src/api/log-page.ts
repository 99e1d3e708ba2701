/** Lines of log chunks as pages. A cursor names a chunk and how many of its lines were given; what comes later is read from there. */
import { taskIdRange } from '../core/ids.ts'
import type { Session } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { type LogChunkRow, type LogChunks, readRangeLogs, readSourceLogs } from '../store/reading/logs.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'

/** A chunk, and how many of its lines were given. `at` only counts among chunks of several sources. */
export interface LogPosition {
  readonly at: string
  readonly source: string
  readonly attempt: number
  readonly seq: number
  readonly line: number
}

export interface LogPage {
  /** Each as it was written, with the task and the attempt it comes from. */
  readonly items: readonly object[]
  readonly position: LogPosition
  /** Whether more was there already. */
  readonly more: boolean
}

/** `complete`: whoever writes the log has ended. */
export type ReadLogs = (from: LogPosition, limit: number, complete: boolean) => Promise<LogPage>

const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
// PostgreSQL has no year 0.
const position = z.tuple([z.iso.datetime({ precision: 6 }).regex(/^(?!0000)/), z.uuid(), count, count, count])

export function firstPosition(source: string): LogPosition {
  return { at: '0001-01-01T00:00:00.000000Z', source, attempt: 0, seq: 0, line: 0 }
}

/** @param id of the run or task whose log it is. @throws SluiceError INVALID_CURSOR */
export function logPosition(id: string, cursor: string): LogPosition {
  const [at, source, attempt, seq, line] = decodeCursor(`logs ${id}`, position, cursor)
  return { at, source, attempt, seq, line }
}

export function logCursor(id: string, { at, source, attempt, seq, line }: LogPosition): string {
  return encodeCursor(`logs ${id}`, [at, source, attempt, seq, line])
}

/** Lines of one task (or process), in the order in which it wrote them. */
export function sourceLogs(session: Session, source: string): ReadLogs {
  return async (from, limit) => pageOf(await readSourceLogs(session, source, from), from, limit)
}

/** Lines of all tasks of a run, in the order of their times. */
export function runLogs(session: Session, runId: string): ReadLogs {
  const range = taskIdRange(runId)
  return async (from, limit, complete) => pageOf(await readRangeLogs(session, range, from, complete), from, limit)
}

/** The lines after a position; the first chunk may be the one it stands in. */
export function pageOf({ chunks, more }: LogChunks, from: LogPosition, limit: number): LogPage {
  const items: object[] = []
  let at = from
  for (const chunk of chunks) {
    const same = chunk.source === from.source && chunk.attempt === from.attempt && chunk.seq === from.seq
    const given = same ? from.line : 0
    const lines = chunk.lines.split('\n').filter((line) => line !== '')
    const taken = lines.slice(given, given + limit - items.length)
    for (const line of taken) items.push(lineOf(line, chunk))
    at = { ...chunk, line: given + taken.length }
    if (given + taken.length < lines.length) return { items, position: at, more: true }
  }
  return { items, position: at, more }
}

function lineOf(line: string, { source, attempt }: LogChunkRow): object {
  const written: unknown = parsed(line)
  const fields = typeof written === 'object' && written !== null ? written : { message: line }
  return { ...fields, source, attempt }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
