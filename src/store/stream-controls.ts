/**
 * What operators ask of streams: to pause, to drain, to go on. The processes that hold shards are woken, and see it at
 * their next beat at the latest.
 */
import { type Session, statement } from '../ports/database.ts'

/**
 * `running` · `paused`: nobody holds its shards; what was in its steps was ended and committed, or is received again ·
 * `draining`: what was taken in ends, retries and all, and nothing more is read.
 */
export type StreamMode = 'running' | 'paused' | 'draining'

export type StreamAct = 'pause' | 'resume' | 'drain' | 'rewind' | 'scale'

/** Who asks, for the audit. */
export interface Asked {
  /** UUIDv7. */
  readonly id: string
  readonly by: string
  readonly note: string | null
}

export interface StreamControl {
  readonly mode: StreamMode
  /** Ascends with each change of the mode. */
  readonly change: number
}

const controlsStatement = statement<StreamControl & { stream: string }>(
  'stream-controls.modes',
  `select stream, mode, change from sluice.stream_controls where mode <> 'running' and ($1::text[] is null or stream = any ($1))`,
)

/** Of those of the streams (default: of all) that do not simply run. */
export async function streamControls(
  session: Session,
  streams?: readonly string[],
): Promise<Map<string, StreamControl>> {
  const rows = await session.query(controlsStatement, [streams ?? null])
  return new Map(rows.map(({ stream, ...control }) => [stream, control]))
}

/** The modes alone. */
export async function streamModes(session: Session, streams?: readonly string[]): Promise<Map<string, StreamMode>> {
  const controls = await streamControls(session, streams)
  return new Map([...controls].map(([stream, { mode }]) => [stream, mode]))
}

const setStatement = statement<{ changed: boolean }>(
  'stream-controls.set',
  `
  with before as (
    select mode from sluice.stream_controls where stream = $1
  ), changed as (
    insert into sluice.stream_controls as c (stream, mode) values ($1, $2)
    on conflict (stream) do update set mode = excluded.mode, changed_at = sluice.sluice_now(), change = c.change + 1
      where c.mode <> excluded.mode
    returning 1
  )
  select exists (select from changed) and coalesce((select mode from before), 'running') <> $2 as changed,
    pg_notify('sluice_shards', $1)`,
)

const actOf: Readonly<Record<StreamMode, StreamAct>> = { running: 'resume', paused: 'pause', draining: 'drain' }

/** Gives false when it was so already; then nothing is noted. */
export async function setStreamMode(
  session: Session,
  stream: string,
  mode: StreamMode,
  asked: Asked,
): Promise<boolean> {
  const [set] = await session.query(setStatement, [stream, mode])
  if (set!.changed) await noteOperation(session, stream, actOf[mode], asked, {})
  return set!.changed
}

const noteStatement = statement(
  'stream-controls.note',
  `insert into sluice.stream_operations (id, stream, act, by, note, detail) values ($1, $2, $3, $4, $5, $6)`,
)

export async function noteOperation(
  session: Session,
  stream: string,
  act: StreamAct,
  { id, by, note }: Asked,
  detail: object,
): Promise<void> {
  await session.execute(noteStatement, [id, stream, act, by, note, JSON.stringify(detail)])
}

export interface StreamOperation {
  readonly id: string
  readonly act: StreamAct
  readonly by: string
  readonly note: string | null
  /** Of a rewind and of scaling: what it did. */
  readonly detail: Readonly<Record<string, unknown>>
  readonly at: Date
}

const operationsStatement = statement<StreamOperation>(
  'stream-controls.operations',
  `select id, act, by, note, detail, at from sluice.stream_operations
   where stream = $1 and ($2::uuid is null or id < $2) order by id desc limit $3`,
)

/** What was asked of a stream, the latest first; `before` is the id of the last one seen. */
export function streamOperations(
  session: Session,
  stream: string,
  { before, limit }: { readonly before: string | null; readonly limit: number },
): Promise<StreamOperation[]> {
  return session.query(operationsStatement, [stream, before, limit])
}
