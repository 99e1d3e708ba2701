/** Datasets, their versions, and what came from what, as lists and graphs show them. */
import { type Session, statement } from '../../ports/database.ts'
import type { LineageKind, LineageWhat } from '../lineage.ts'

export interface DatasetSummary {
  readonly name: string
  readonly doc: string | null
  /** The latest. */
  readonly version: number
  readonly sha256: string | null
  readonly rows: number | null
  readonly runId: string
  readonly at: Date
}

const datasets = statement<DatasetSummary>(
  'reading.datasets',
  `select d.name, d.doc, v.version, v.hash as sha256, v.row_count as rows, v.run_id as "runId", v.at
   from sluice.datasets d join sluice.dataset_versions v on v.dataset = d.name and v.version = d.last_version
   where d.name > $1 collate "C" order by d.name collate "C" limit $2`,
)

/** By name, after a name. */
export function listDatasets(session: Session, after: string, limit: number): Promise<DatasetSummary[]> {
  return session.query(datasets, [after, limit])
}

const known = statement('reading.dataset', 'select from sluice.datasets where name = $1')

export async function isDataset(session: Session, name: string): Promise<boolean> {
  return (await session.execute(known, [name])) === 1
}

export interface VersionSummary {
  readonly version: number
  readonly sha256: string | null
  readonly objects: readonly string[]
  readonly rows: number | null
  readonly metadata: unknown
  readonly runId: string
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly at: Date
  /** Of the run; null when it is no longer kept. */
  readonly workflow: string | null
  readonly codeVersion: string | null
}

const versions = statement<VersionSummary>(
  'reading.dataset_versions',
  `select v.version, v.hash as sha256, v.objects, v.row_count as rows, v.metadata, v.run_id as "runId", v.node,
     v.map_index as "mapIndex", v.attempt, v.at, r.workflow, r.version as "codeVersion"
   from sluice.dataset_versions v left join sluice.runs r on r.id = v.run_id
   where v.dataset = $1 and v.version < $2 order by v.version desc limit $3`,
)

/** Newest first, below a version. */
export function listVersions(session: Session, name: string, before: number, limit: number): Promise<VersionSummary[]> {
  return session.query(versions, [name, before, limit])
}

/** A place in the order of a run's lineage. */
export type LineagePlace = readonly [node: number, mapIndex: number, attempt: number, nth: number]

export interface LineageEntry {
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly nth: number
  readonly kind: LineageKind
  readonly what: LineageWhat
  readonly name: string
  readonly version: number | null
  readonly hash: string | null
}

const ofRun = statement<LineageEntry>(
  'reading.lineage_of_run',
  `select node, map_index as "mapIndex", attempt, nth, kind, what, dataset as name, version, hash
   from sluice.lineage where run_id = $1 and (node, map_index, attempt, nth) > ($2, $3, $4, $5)
   order by node, map_index, attempt, nth limit $6`,
)

/** What the tasks of a run read and wrote, by task and attempt. */
export function lineageOfRun(
  session: Session,
  runId: string,
  after: LineagePlace,
  limit: number,
): Promise<LineageEntry[]> {
  return session.query(ofRun, [runId, ...after, limit])
}

const environments = statement<{ environment: string }>(
  'reading.run_environments',
  'select environment from sluice.run_environments where run_id = $1 order by environment',
)

/** In what a run was executed, as JSON texts; none when that is not known. */
export async function environmentsOfRun(session: Session, runId: string): Promise<string[]> {
  return (await session.query(environments, [runId])).map(({ environment }) => environment)
}

/** Something with a name that data is read from or written to. */
export interface NamedThing {
  readonly what: 'dataset' | 'documents' | 'topic' | 'file'
  readonly name: string
}

/** Runs of a workflow have read one and written the other; never the same, which a run may well have read that wrote it. */
export interface LineageEdge {
  readonly from: NamedThing
  readonly to: NamedThing
  readonly workflow: string
  readonly lastRunId: string
}

/** Of each thing so many of its latest runs are looked at. */
const runsLookedAt = 200

const down = statement<LineageEdge>(
  'reading.lineage_down',
  `select distinct on (f.what, f.dataset, w.what, w.dataset, r.workflow)
     json_build_object('what', f.what, 'name', f.dataset) as "from",
     json_build_object('what', w.what, 'name', w.dataset) as "to", r.workflow, r.id as "lastRunId"
   from unnest($1::text[], $2::text[]) as f(what, dataset), lateral (
     select distinct l.run_id from sluice.lineage l
     where l.what in ('dataset', 'documents', 'topic', 'file') and l.what = f.what and l.dataset = f.dataset and l.kind = 'read'
     order by l.run_id desc limit $3
   ) as seen
   join sluice.lineage w on w.run_id = seen.run_id and w.kind = 'write' and w.what in ('dataset', 'documents', 'topic', 'file')
   join sluice.runs r on r.id = seen.run_id
   where (w.what, w.dataset) <> (f.what, f.dataset)
   order by f.what, f.dataset, w.what, w.dataset, r.workflow, r.id desc
   limit $4`,
)
const up = statement<LineageEdge>(
  'reading.lineage_up',
  `select distinct on (f.what, f.dataset, w.what, w.dataset, r.workflow)
     json_build_object('what', w.what, 'name', w.dataset) as "from",
     json_build_object('what', f.what, 'name', f.dataset) as "to", r.workflow, r.id as "lastRunId"
   from unnest($1::text[], $2::text[]) as f(what, dataset), lateral (
     select distinct l.run_id from sluice.lineage l
     where l.what in ('dataset', 'documents', 'topic', 'file') and l.what = f.what and l.dataset = f.dataset and l.kind = 'write'
     order by l.run_id desc limit $3
   ) as seen
   join sluice.lineage w on w.run_id = seen.run_id and w.kind = 'read' and w.what in ('dataset', 'documents', 'topic', 'file')
   join sluice.runs r on r.id = seen.run_id
   where (w.what, w.dataset) <> (f.what, f.dataset)
   order by f.what, f.dataset, w.what, w.dataset, r.workflow, r.id desc
   limit $4`,
)

/** One step from these things: to what runs made of them, or to what runs made them of; `limit` edges at most. */
export function lineageStep(
  session: Session,
  direction: 'up' | 'down',
  things: readonly NamedThing[],
  limit: number,
): Promise<LineageEdge[]> {
  const values = [things.map(({ what }) => what), things.map(({ name }) => name), runsLookedAt, limit]
  return session.query(direction === 'up' ? up : down, values)
}

const isRead = statement<{ known: boolean }>(
  'reading.is_in_lineage',
  `select exists (
     select from sluice.lineage l
     where l.what in ('dataset', 'documents', 'topic', 'file') and l.what = $1 and l.dataset = $2) as known`,
)

/** Whether a kept run has read or written it. */
export async function isInLineage(session: Session, { what, name }: NamedThing): Promise<boolean> {
  return (await session.query(isRead, [what, name]))[0]!.known
}
