/** Backfills as lists and details show them, and what is known of ticks before any of them runs again. */
import type { ChosenVerdict, LatestRun, TickFacts } from '../../core/backfill.ts'
import type { RunState } from '../../core/run-state.ts'
import { type Session, statement } from '../../ports/database.ts'

export interface Backfill {
  readonly id: string
  readonly workflow: string
  readonly plan: string
  readonly version: string
  readonly from: Date
  readonly to: Date
  readonly reasons: readonly ChosenVerdict[]
  readonly order: 'oldest' | 'newest'
  readonly maxActive: number
  readonly params: unknown
  readonly by: string
  readonly note: string | null
  readonly state: 'submitting' | 'running' | 'done' | 'cancelled' | 'failed'
  readonly paused: boolean
  readonly error: string | null
  /** How many ticks the plan has in that time, and how many were looked at. */
  readonly ticks: number
  readonly examined: number
  readonly createdAt: Date
  readonly endedAt: Date | null
}

const one = statement<Backfill>(
  'reading.backfill',
  `select id, workflow, plan, version, from_time as "from", to_time as "to", reasons,
     case when newest_first then 'newest' else 'oldest' end as "order", max_active as "maxActive", params,
     requested_by as "by", note, state, paused, error, ticks, examined, created_at as "createdAt", ended_at as "endedAt"
   from sluice.backfills where id = $1`,
)

export async function findBackfill(session: Session, id: string): Promise<Backfill | undefined> {
  return (await session.query(one, [id]))[0]
}

const list = statement<Backfill>(
  'reading.backfills',
  `select id, workflow, plan, version, from_time as "from", to_time as "to", reasons,
     case when newest_first then 'newest' else 'oldest' end as "order", max_active as "maxActive", params,
     requested_by as "by", note, state, paused, error, ticks, examined, created_at as "createdAt", ended_at as "endedAt"
   from sluice.backfills
   where id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and ($3::text is null or workflow = $3)
   order by id desc limit $2`,
)

/** Newest first; only ids below `before`. */
export function listBackfills(
  session: Session,
  { before, limit, workflow }: { before?: string | undefined; limit: number; workflow?: string | undefined },
): Promise<Backfill[]> {
  return session.query(list, [before ?? null, limit, workflow ?? null])
}

export interface BackfillFigures {
  /** Runs that it made and that are kept. */
  readonly total: number
  readonly states: Readonly<Partial<Record<RunState, number>>>
  readonly reasons: Readonly<Partial<Record<ChosenVerdict, number>>>
}

/** Measured: an index alone answers, 30 ms for 100,000 runs. */
const figures = statement<{ id: string; state: RunState; reason: ChosenVerdict; count: number }>(
  'reading.backfill_figures',
  `select backfill_id as id, state, backfill_reason as reason, count(*)::int as count
   from sluice.runs where backfill_id = any ($1::uuid[]) and backfill_id is not null group by 1, 2, 3`,
)

/** Counted from the rows of the runs; of those that have none, zeros. */
export async function readFigures(session: Session, ids: readonly string[]): Promise<Map<string, BackfillFigures>> {
  const rows = Map.groupBy(await session.query(figures, [ids]), ({ id }) => id)
  return new Map(
    ids.map((id) => {
      const own = rows.get(id) ?? []
      return [id, { total: sum(own), states: by(own, 'state'), reasons: by(own, 'reason') }]
    }),
  )
}

const sum = (rows: readonly { count: number }[]) => rows.reduce((total, { count }) => total + count, 0)

function by<Key extends 'state' | 'reason'>(
  rows: readonly { state: string; reason: string; count: number }[],
  key: Key,
) {
  return Object.fromEntries([...Map.groupBy(rows, (row) => row[key])].map(([name, own]) => [name, sum(own)]))
}

/** The newest run of each logical time, by the plan or a backfill of it. */
const latest = statement<LatestRun & { logicalTime: Date }>(
  'reading.latest_runs_of_ticks',
  `select distinct on (logical_time) id, logical_time as "logicalTime", state, version
   from sluice.runs
   where workflow = $1 and logical_time between $3 and $4 and plan in ($2, $2 || '#' || backfill_id)
   order by logical_time, id desc`,
)

const stands = statement<{ since: Date }>(
  'reading.plan_stands',
  'select since from sluice.plan_cursors where workflow = $1 and plan = $2',
)

const fingerprints = statement<{ hash: string; fingerprint: string | null }>(
  'reading.fingerprints',
  `select v.hash, w ->> 'fingerprint' as fingerprint
   from sluice.versions v, json_array_elements(v.manifest -> 'workflows') w
   where v.hash = any ($2::text[]) and w ->> 'name' = $1`,
)

export interface TicksWanted {
  readonly workflow: string
  readonly plan: string
  readonly fingerprint: string | undefined
  /** Consecutive, in either order. */
  readonly ticks: readonly number[]
  /** What is known of versions, kept from call to call: they never change. */
  readonly known: Map<string, string | undefined>
}

/** What is known of ticks of a plan. */
export async function readTickFacts(session: Session, wanted: TicksWanted): Promise<TickFacts> {
  const { workflow, plan, fingerprint, ticks, known } = wanted
  const ends = [ticks[0] ?? 0, ticks.at(-1) ?? 0]
  const span = [new Date(Math.min(...ends)), new Date(Math.max(...ends))]
  const rows = await session.query(latest, [workflow, plan, ...span])
  const [plans] = await session.query(stands, [workflow, plan])
  const unknown = [...new Set(rows.map((row) => row.version))].filter((version) => !known.has(version))
  if (unknown.length > 0) {
    for (const version of unknown) known.set(version, undefined)
    for (const row of await session.query(fingerprints, [workflow, unknown])) {
      known.set(row.hash, row.fingerprint ?? undefined)
    }
  }
  const succeeded = rows.filter((row) => row.state === 'success').map((row) => row.id)
  return {
    ticks,
    runs: new Map(rows.map((row) => [row.logicalTime.getTime(), row])),
    fingerprint,
    fingerprints: new Map([...known].filter((entry): entry is [string, string] => entry[1] !== undefined)),
    staleRuns: await readStaleRuns(session, workflow, succeeded),
    planStands: plans?.since.getTime(),
  }
}

/**
 * What the last attempt of each task read is compared with the newest version that another workflow wrote: what a workflow
 * writes itself, day by day, does not make its earlier days stale, and neither does a version with the same hash.
 */
const stale = statement<{ id: string }>(
  'reading.stale_runs',
  `with reads as (
     select l.run_id, l.dataset, l.version, l.hash
     from sluice.lineage l
     join sluice.tasks t on t.run_id = l.run_id and t.node = l.node and t.map_index = l.map_index and t.attempt = l.attempt
     where l.run_id = any ($2::uuid[]) and l.kind = 'read' and l.what = 'dataset'
   ), newest as (
     select d.dataset, v.version, v.hash
     from (select dataset, min(version) as oldest_read from reads group by dataset) as d, lateral (
       select version, hash from sluice.dataset_versions v
       where v.dataset = d.dataset and v.version > d.oldest_read
         and not exists (select from sluice.runs w where w.id = v.run_id and w.workflow = $1)
       order by v.version desc limit 1
     ) as v
   )
   select distinct r.run_id as id from reads r join newest n using (dataset)
   where n.version > r.version and (n.hash is null or n.hash is distinct from r.hash)`,
)

async function readStaleRuns(session: Session, workflow: string, runs: readonly string[]): Promise<Set<string>> {
  if (runs.length === 0) return new Set()
  return new Set((await session.query(stale, [workflow, runs])).map(({ id }) => id))
}

const durations = statement<{ ms: number }>(
  'reading.durations',
  `select (extract(epoch from finished_at - started_at) * 1000)::float8 as ms
   from (
     select id, state, started_at, finished_at from sluice.runs where workflow = $1 order by id desc limit 10000
   ) as recent
   where state = 'success' and started_at is not null order by id desc limit 100`,
)

/** Milliseconds that the last 100 successful runs of a workflow took, among its last 10,000. */
export async function readDurations(session: Session, workflow: string): Promise<number[]> {
  return (await session.query(durations, [workflow])).map((row) => row.ms)
}
