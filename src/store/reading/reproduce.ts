/** What was noted of a run, for running its tasks again. */
import type { RunState } from '../../core/run-state.ts'
import { type Session, statement } from '../../ports/database.ts'
import type { LineageKind } from '../lineage.ts'

export interface PastRun {
  readonly id: string
  readonly workflow: string
  readonly version: string
  /** JSON text. */
  readonly params: string
  readonly state: RunState
  readonly createdAt: Date
  readonly logicalTime: Date | null
}

const run = statement<PastRun>(
  'reproduce.run',
  `select id, workflow, version, params::text as params, state, created_at as "createdAt",
     logical_time as "logicalTime" from sluice.runs where id = $1`,
)

export async function readPastRun(session: Session, id: string): Promise<PastRun | undefined> {
  return (await session.query(run, [id]))[0]
}

export interface PastNote {
  readonly node: number
  readonly mapIndex: number
  readonly kind: LineageKind
  readonly what: string
  readonly name: string
  readonly version: number | null
  readonly hash: string | null
}

const notes = statement<PastNote>(
  'reproduce.notes',
  `select l.node, l.map_index as "mapIndex", l.kind, l.what, l.dataset as name, l.version, l.hash
   from sluice.lineage l
   join sluice.tasks t on t.run_id = l.run_id and t.node = l.node and t.map_index = l.map_index and t.attempt = l.attempt
   where l.run_id = $1 and l.attempt > 0
   order by l.node, l.map_index, l.nth`,
)

/** What the last attempt of each task read and wrote. */
export function lastNotes(session: Session, runId: string): Promise<PastNote[]> {
  return session.query(notes, [runId])
}

export interface PastWrite {
  readonly node: number
  readonly mapIndex: number
  readonly dataset: string
  readonly hash: string | null
  readonly rows: number | null
  /** JSON text. */
  readonly metadata: string | null
}

const writes = statement<PastWrite>(
  'reproduce.dataset_writes',
  `select w.node, w.map_index as "mapIndex", w.dataset, w.hash, w.row_count as rows, w.metadata::text as metadata
   from (
     select run_id, node, map_index, attempt, position, dataset, hash, row_count, metadata from sluice.dataset_writes
     where run_id = $1
     union all
     select run_id, node, map_index, attempt, position, dataset, hash, row_count, metadata from sluice.dataset_versions
     where run_id = $1
   ) as w
   join sluice.tasks t on t.run_id = w.run_id and t.node = w.node and t.map_index = w.map_index and t.attempt = w.attempt
   order by w.node, w.map_index, w.position`,
)

/** What the last attempt of each task wrote to datasets, in the order of its writing. */
export function lastDatasetWrites(session: Session, runId: string): Promise<PastWrite[]> {
  return session.query(writes, [runId])
}

const missing = statement<{ name: string; version: number }>(
  'reproduce.missing_versions',
  `select g.name, g.version from unnest($1::text[], $2::int8[]) as g(name, version)
   where not exists (select from sluice.dataset_versions v where v.dataset = g.name and v.version = g.version)`,
)

/** Which of these versions of datasets are gone. */
export function missingVersions(
  session: Session,
  versions: readonly { readonly name: string; readonly version: number }[],
): Promise<{ name: string; version: number }[]> {
  return session.query(missing, [versions.map(({ name }) => name), versions.map(({ version }) => version)])
}
