/**
 * What attempts read and wrote, and the versions of datasets.
 *
 * 1. An attempt notes and writes under its token, as whatever it writes itself; each may be done twice and counts once.
 * 2. What it wrote to a dataset waits in `dataset_writes`. It becomes a version when its attempt has succeeded, and never
 *    otherwise: publishing asks the committed rows, moves what is due in one statement, and may be done by anybody at any time.
 *    Whoever reads a dataset publishes first, so that a task sees what the tasks before it have written.
 * 3. Versions of a dataset count from 1 without gaps: publishers of one dataset come one after the other by the lock of its row.
 *    They lock writes in the order of their key, then datasets in the order of their names.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { type ObjectReference, referToObjects, releaseObjects } from './objects.ts'
import type { AttemptKey } from './tasks.ts'

export type LineageKind = 'read' | 'write'
export type LineageWhat =
  | 'dataset'
  | 'latest'
  | 'object'
  | 'documents'
  | 'topic'
  | 'file'
  | 'connection'
  | 'secret'
  | 'step'
  | 'program'
  | 'clock'
  | 'random'
  | 'more'

/** One thing that an attempt read or wrote; the columns of `sluice.lineage` say what is in `version` and `hash`. */
export interface LineageNote {
  readonly kind: LineageKind
  readonly what: LineageWhat
  readonly name: string
  readonly version: number | null
  readonly hash: string | null
}

export interface AttemptNotes {
  readonly key: AttemptKey
  readonly notes: readonly LineageNote[]
}

const note = statement<{ nth: number }>(
  'lineage.note',
  `with live as (
     select g.nth, t.run_id, t.node, t.map_index, t.attempt
     from unnest($1::uuid[], $2::int[], $3::int[], $4::int8[]) with ordinality as g(run_id, node, map_index, token, nth)
     join sluice.tasks t on t.run_id = g.run_id and t.node = g.node and t.map_index = g.map_index and t.token = g.token
     where t.state = 'running'
   ), before as (
     delete from sluice.lineage l using live
     where l.run_id = live.run_id and l.node = live.node and l.map_index = live.map_index and l.attempt = live.attempt
   ), noted as (
     insert into sluice.lineage (run_id, node, map_index, attempt, kind, what, dataset, version, hash)
     select live.run_id, live.node, live.map_index, live.attempt, e.kind, e.what, e.name, e.version, e.hash
     from unnest($5::int[], $6::text[], $7::text[], $8::text[], $9::int8[], $10::text[])
       as e(nth, kind, what, name, version, hash)
     join live on live.nth = e.nth
   )
   select nth::int as nth from live`,
)

/**
 * Notes what attempts did, of those that are live; gives which of them are, in the order given. It locks none of them: one that
 * ends at that moment has done it all the same, and the owner's commit, which ends many, must not meet with it crosswise.
 */
export async function noteLineage(session: Session, attempts: readonly AttemptNotes[]): Promise<boolean[]> {
  const notes = attempts.flatMap((attempt, index) => attempt.notes.map((one) => ({ nth: index + 1, ...one })))
  const rows = await session.query(note, [
    attempts.map(({ key }) => key.runId),
    attempts.map(({ key }) => key.node),
    attempts.map(({ key }) => key.mapIndex),
    attempts.map(({ key }) => key.token),
    notes.map(({ nth }) => nth),
    notes.map(({ kind }) => kind),
    notes.map(({ what }) => what),
    notes.map(({ name }) => name.replaceAll('\0', '')),
    notes.map(({ version }) => version),
    notes.map(({ hash }) => hash),
  ])
  const live = new Set(rows.map(({ nth }) => nth))
  return attempts.map((_, index) => live.has(index + 1))
}

/** What an attempt writes to a dataset; `hash` and `objects` in hex, `metadata` JSON text. */
export interface DatasetWrite {
  readonly dataset: string
  readonly doc: string | null
  /** Counts from 0 within the attempt. */
  readonly position: number
  readonly hash: string | null
  readonly objects: readonly string[]
  readonly rows: number | null
  readonly metadata: string | null
}

interface WriteKey {
  readonly run_id: string
  readonly node: number
  readonly map_index: number
  readonly attempt: number
  readonly position: number
}

const referrerKind = 'dataset'
const referrerOf = (key: WriteKey) => `${key.run_id}:${key.node}:${key.map_index}:${key.attempt}:${key.position}`

const attemptOf = statement<{ attempt: number }>(
  'lineage.attempt',
  'select attempt from sluice.tasks where run_id = $1 and node = $2 and map_index = $3 and token = $4',
)
const isKept = statement('lineage.is_kept', `select from sluice.object_refs where sha256 = decode($1, 'hex') limit 1`)
const write = statement(
  'lineage.write_dataset',
  `insert into sluice.dataset_writes
     (run_id, node, map_index, attempt, position, dataset, doc, hash, objects, row_count, metadata)
   values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::json, $10, $11::text::json)
   on conflict do nothing`,
)

/**
 * Writes to a dataset; nobody sees it until the attempt has succeeded. To be called in a transaction after `guardAttempt`.
 * Its objects are kept from now on; a hash without objects that is the hash of a kept object means that object.
 * @throws SluiceError OBJECT_NOT_FOUND
 */
export async function writeDataset(
  session: Session,
  claimant: string,
  key: AttemptKey,
  given: DatasetWrite,
): Promise<void> {
  const [row] = await session.query(attemptOf, [key.runId, key.node, key.mapIndex, key.token])
  if (!row) throw new SluiceError('FENCED', 'this attempt is no longer the live one of its task')
  const { position, hash } = given
  const at = { run_id: key.runId, node: key.node, map_index: key.mapIndex, attempt: row.attempt, position }
  const single = given.objects.length === 0 && hash !== null && (await session.execute(isKept, [hash])) > 0
  const objects = single ? [hash] : given.objects
  const references = objects.map((sha256): ObjectReference => ({ sha256, kind: referrerKind, id: referrerOf(at) }))
  await referToObjects(session, claimant, references)
  await session.execute(write, [
    ...[at.run_id, at.node, at.map_index, at.attempt, position],
    ...[given.dataset, given.doc, hash, JSON.stringify(objects), given.rows, given.metadata],
  ])
}

export interface Published {
  readonly dataset: string
  readonly version: number
}

/** A success that was cleared before it was published has still been: the log knows. */
const publish = statement<Published>(
  'lineage.publish',
  `with due as materialized (
     select p.* from sluice.dataset_writes p
     where ($1::text is null or p.dataset = $1)
       and (exists (
         select from sluice.tasks t
         where t.run_id = p.run_id and t.node = p.node and t.map_index = p.map_index
           and t.state = 'success' and t.attempt = p.attempt
       ) or (not exists (
         select from sluice.tasks t
         where t.run_id = p.run_id and t.node = p.node and t.map_index = p.map_index
           and t.state = 'running' and t.attempt = p.attempt
       ) and exists (
         select from sluice.transitions x
         where x.run_id = p.run_id and x.node = p.node and x.map_index = p.map_index and x.attempt = p.attempt
           and x.to_state = 'success'
       )))
     order by p.run_id, p.node, p.map_index, p.attempt, p.position
     limit 1000
     for update of p
   ), counts as (
     select dataset, count(*) as n, (array_agg(doc order by at desc))[1] as doc from due group by dataset
   ), bumped as (
     insert into sluice.datasets as d (name, doc, last_version)
     select dataset, doc, n from counts order by dataset
     on conflict (name) do update
       set last_version = d.last_version + excluded.last_version, doc = coalesce(excluded.doc, d.doc)
     returning name, last_version
   ), gone as (
     delete from sluice.dataset_writes p using due
     where p.run_id = due.run_id and p.node = due.node and p.map_index = due.map_index
       and p.attempt = due.attempt and p.position = due.position
   ), published as (
     insert into sluice.dataset_versions
       (dataset, version, hash, run_id, node, map_index, attempt, position, objects, row_count, metadata)
     select due.dataset,
       bumped.last_version - counts.n
         + row_number() over (partition by due.dataset order by due.at, due.run_id, due.node, due.map_index, due.position),
       due.hash, due.run_id, due.node, due.map_index, due.attempt, due.position, due.objects, due.row_count, due.metadata
     from due join counts using (dataset) join bumped on bumped.name = due.dataset
     returning dataset, version, hash, run_id, node, map_index, attempt
   ), noted as (
     insert into sluice.lineage (run_id, node, map_index, attempt, kind, what, dataset, version, hash)
     select run_id, node, map_index, attempt, 'write', 'dataset', dataset, version, hash from published
   ), told as (select pg_notify('sluice_datasets', dataset) from counts)
   select dataset, version from published, (select count(*) from told) as t`,
)

/** Makes versions of what succeeded attempts wrote, to one dataset or to all; tells the channel `sluice_datasets` their names. */
export async function publishDatasets(session: Session, dataset?: string): Promise<Published[]> {
  const all: Published[] = []
  for (;;) {
    const some = await session.query(publish, [dataset ?? null])
    all.push(...some)
    if (some.length < 1_000) return all
  }
}

const waiting = statement<{ nth: number }>(
  'lineage.waiting_writes',
  `select g.nth::int as nth
   from unnest($1::uuid[], $2::int[], $3::int[]) with ordinality as g(run_id, node, map_index, nth)
   where exists (
     select from sluice.dataset_writes p
     where p.run_id = g.run_id and p.node = g.node and p.map_index = g.map_index)`,
)

/** Of which of these tasks something waits to be published or dropped. */
export async function tasksWithWrites(
  session: Session,
  tasks: readonly Pick<AttemptKey, 'runId' | 'node' | 'mapIndex'>[],
): Promise<boolean[]> {
  const rows = await session.query(waiting, [
    tasks.map(({ runId }) => runId),
    tasks.map(({ node }) => node),
    tasks.map(({ mapIndex }) => mapIndex),
  ])
  const found = new Set(rows.map(({ nth }) => nth))
  return tasks.map((_, index) => found.has(index + 1))
}

const drop = statement<WriteKey>(
  'lineage.drop_writes',
  `with vain as (
     select p.run_id, p.node, p.map_index, p.attempt, p.position from sluice.dataset_writes p
     where not exists (
         select from sluice.tasks t
         where t.run_id = p.run_id and t.node = p.node and t.map_index = p.map_index
           and t.attempt = p.attempt and t.state in ('running', 'success')
       ) and not exists (
         select from sluice.transitions x
         where x.run_id = p.run_id and x.node = p.node and x.map_index = p.map_index and x.attempt = p.attempt
           and x.to_state = 'success'
       )
     order by p.run_id, p.node, p.map_index, p.attempt, p.position
     limit 1000
     for update skip locked
   )
   delete from sluice.dataset_writes p using vain v
   where p.run_id = v.run_id and p.node = v.node and p.map_index = v.map_index
     and p.attempt = v.attempt and p.position = v.position
   returning p.run_id, p.node, p.map_index, p.attempt, p.position`,
)

/** Forgets what attempts wrote that ended otherwise than with success; to be called in a transaction. Gives their number. */
export async function dropVainWrites(session: Session): Promise<number> {
  const gone = await session.query(drop)
  await releaseObjects(session, referrerKind, gone.map(referrerOf))
  return gone.length
}

export interface DatasetVersionRow {
  readonly version: number
  readonly hash: string | null
  readonly objects: readonly string[]
  readonly rows: number | null
  readonly metadata: unknown
}

const read = statement<DatasetVersionRow>(
  'lineage.read_version',
  `select version, hash, objects, row_count as rows, metadata from sluice.dataset_versions
   where dataset = $1 and version = coalesce($2::int8, version) order by version desc limit 1`,
)

/** One version, or the latest. */
export async function readVersionOf(
  session: Session,
  dataset: string,
  version: number | null,
): Promise<DatasetVersionRow | undefined> {
  return (await session.query(read, [dataset, version]))[0]
}

const ran = statement(
  'lineage.note_environment',
  `insert into sluice.run_environments (run_id, environment) select run_id, $2 from unnest($1::uuid[]) as run_id
   on conflict do nothing`,
)

/** Notes in what runs were executed. */
export async function noteEnvironment(session: Session, runs: readonly string[], environment: string): Promise<void> {
  await session.execute(ran, [runs, environment])
}

/**
 * Versions leave when their run has left and they are needed no more: the latest of a dataset stays, and so do those that a
 * run which is kept has read.
 */
const deleteVersions = statement<WriteKey>(
  'lineage.delete_versions',
  `with old as (
     select v.dataset, v.version from sluice.dataset_versions v
     where v.at < $1
       and v.version < (select d.last_version from sluice.datasets d where d.name = v.dataset)
       and not exists (select from sluice.runs r where r.id = v.run_id)
       and not exists (
         select from sluice.lineage l
         where l.what = 'dataset' and l.dataset = v.dataset and l.version = v.version and l.kind = 'read')
     order by v.at limit $2 for update skip locked
   )
   delete from sluice.dataset_versions v using old where v.dataset = old.dataset and v.version = old.version
   returning v.run_id, v.node, v.map_index, v.attempt, v.position`,
)

/** Deletes up to `limit` versions from before a time, and lets go of their objects; to be called in a transaction. */
export async function deleteOldDatasetVersions(session: Session, before: Date, limit: number): Promise<number> {
  const gone = await session.query(deleteVersions, [before, limit])
  await releaseObjects(session, referrerKind, gone.map(referrerOf))
  return gone.length
}
