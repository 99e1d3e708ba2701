/** Which versions of datasets plans have taken, and those that were written since. */
import type { WrittenVersion } from '../core/dataset-starts.ts'
import { type Session, statement } from '../ports/database.ts'

export interface DatasetPlan {
  readonly workflow: string
  readonly plan: string
  readonly datasets: readonly string[]
}

const beginStatement = statement(
  'plan-datasets.begin',
  `insert into sluice.plan_dataset_cursors (workflow, plan, dataset, version)
   select g.workflow, g.plan, g.dataset,
     coalesce((select max(v.version) from sluice.dataset_versions v where v.dataset = g.dataset), 0)
   from unnest($1::text[], $2::text[], $3::text[]) as g(workflow, plan, dataset)
   on conflict do nothing`,
)

/** A plan that is seen for the first time starts with the versions that come next. */
export async function beginDatasetPlans(session: Session, plans: readonly DatasetPlan[]): Promise<void> {
  const rows = plans.flatMap(({ workflow, plan, datasets }) => datasets.map((dataset) => [workflow, plan, dataset]))
  await session.execute(
    beginStatement,
    [0, 1, 2].map((column) => rows.map((row) => row[column])),
  )
}

const takeStatement = statement<{ dataset: string; version: number; paused: boolean }>(
  'plan-datasets.take',
  `select c.dataset, c.version::float8 as version,
     coalesce((select w.paused from sluice.workflows w where w.name = c.workflow), false) as paused
   from sluice.plan_dataset_cursors c
   where c.workflow = $1 and c.plan = $2 and c.dataset = any ($3::text[])
   order by c.dataset for update`,
)

const readStatement = statement<Omit<WrittenVersion, 'at'> & { at: Date }>(
  'plan-datasets.read',
  `select v.dataset, v.version::float8 as version, v.at,
     (select r.workflow from sluice.runs r where r.id = v.run_id) as workflow
   from unnest($1::text[], $2::bigint[]) as c(dataset, version)
   cross join lateral (
     select n.dataset, n.version, n.at, n.run_id from sluice.dataset_versions n
     where n.dataset = c.dataset and n.version > c.version order by n.version limit $3
   ) as v
   order by v.at, v.dataset, v.version`,
)

const newestStatement = statement<Omit<WrittenVersion, 'at'> & { at: Date }>(
  'plan-datasets.newest',
  `select v.dataset, v.version::float8 as version, v.at,
     (select r.workflow from sluice.runs r where r.id = v.run_id) as workflow
   from unnest($1::text[], $2::bigint[]) as c(dataset, version)
   cross join lateral (
     select n.dataset, n.version, n.at, n.run_id from sluice.dataset_versions n
     where n.dataset = c.dataset and n.version > c.version order by n.version desc limit $3
   ) as v`,
)

const moveStatement = statement(
  'plan-datasets.move',
  `update sluice.plan_dataset_cursors c set version = m.version
   from unnest($3::text[], $4::bigint[]) as m(dataset, version)
   where c.workflow = $1 and c.plan = $2 and c.dataset = m.dataset`,
)

/**
 * Locks a plan's cursors until the transaction ends and reads what was written since, `limit` versions of each dataset at
 * most: the first of them, or the newest. `full` says that there may be more.
 */
export async function takeVersions(
  session: Session,
  { workflow, plan, datasets }: DatasetPlan,
  which: 'first' | 'newest',
  limit: number,
): Promise<{ readonly written: WrittenVersion[]; readonly paused: boolean; readonly full: boolean }> {
  const cursors = await session.query(takeStatement, [workflow, plan, datasets])
  const rows = await session.query(which === 'first' ? readStatement : newestStatement, [
    cursors.map((cursor) => cursor.dataset),
    cursors.map((cursor) => cursor.version),
    limit,
  ])
  const written = rows.map((row) => ({ ...row, at: row.at.getTime() }))
  return { written, paused: cursors[0]?.paused ?? false, full: written.length >= limit }
}

/** @param cursors by dataset, the last version that is done with. */
export async function moveDatasetCursors(
  session: Session,
  { workflow, plan }: DatasetPlan,
  cursors: ReadonlyMap<string, number>,
): Promise<void> {
  if (cursors.size === 0) return
  await session.execute(moveStatement, [workflow, plan, [...cursors.keys()], [...cursors.values()]])
}
