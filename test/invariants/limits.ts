/**
 * Whether limits held at every instant: every start and every end of the log is gone through in the order of time, and what
 * was under way after each start is counted, by what manifests and rows of limits say now.
 *
 * An attempt whose engine died ends in the log when another takes its run; it had ended when the lease of the engine lapsed
 * (runners see to that). Which moment that was the log does not say, so it counts up to its run's last word before. So does
 * one of which no end is told yet: it may be at work, or its engine may have ended it in doubt of its lease, have gone on and
 * not have said so yet. When its end is told, it is judged again; an excess of which all the rest is lost with its engine is
 * not seen.
 * Of a limit that a person has changed, only starts after that are judged.
 */
import { statement } from '../../src/ports/database.ts'
import type { Invariant, Snapshot } from './breach.ts'

interface LimitedNode {
  readonly over?: unknown
  readonly limits?: {
    readonly pool?: { readonly name: string; readonly slots: number }
    readonly key?: { readonly name: string; readonly parts: readonly unknown[] }
    readonly rate?: { readonly name: string }
  }
}
interface LimitedWorkflow {
  readonly name: string
  readonly workers?: number
  readonly nodes: readonly LimitedNode[]
}

interface LimitRow {
  readonly kind: string
  readonly name: string
  readonly slots: number | null
  readonly per_ms: number | null
  readonly burst: number | null
  readonly set_at: number | null
}

interface AttemptRow {
  readonly run_id: string
  readonly node: number
  readonly map_index: number
  readonly workflow: string
  readonly version: string
  readonly params: unknown
  readonly started: number
  readonly ended: number | null
}

const versionsStatement = statement<{ hash: string; manifest: { workflows: readonly LimitedWorkflow[] } }>(
  'invariant.limits.versions',
  'select hash, manifest from sluice.versions v where exists (select from sluice.runs r where r.version = v.hash)',
)

const limitsStatement = statement<LimitRow>(
  'invariant.limits.rows',
  `select kind, name, coalesce(override, declared) as slots, case when override is null then per_ms else override_per_ms end as per_ms,
     case when override is null then burst else override_burst end as burst, extract(epoch from set_at)::float8 * 1000 as set_at
   from sluice.limits`,
)

const attemptsStatement = statement<AttemptRow>(
  'invariant.limits.attempts',
  `with told as (
     select t.*, lag(t.at) over (partition by t.run_id order by t.seq) as before,
       lead(t.at) over task as next_at, lead(t.detail) over task as next_detail, lead(t.seq) over task as next_seq
     from sluice.transitions t where t.node >= 0
     window task as (partition by t.run_id, t.node, t.map_index order by t.seq)
   )
   select s.run_id, s.node, s.map_index, r.workflow, r.version, r.params, extract(epoch from s.at)::float8 * 1000 as started,
     extract(epoch from case when s.next_detail = 'RUNNER_LOST: its engine ended' then (
       select max(b.at) from sluice.transitions b where b.run_id = s.run_id and b.seq < s.next_seq
         and coalesce(b.detail, '') <> 'RUNNER_LOST: its engine ended')
     when s.next_at is null then (select max(b.at) + interval '1 microsecond' from sluice.transitions b where b.run_id = s.run_id)
     else s.next_at end)::float8 * 1000 as ended
   from told s join sluice.runs r on r.id = s.run_id
   where s.to_state = 'running'`,
)

const resultsStatement = statement<{ run_id: string; node: number; map_index: number; result: string | null }>(
  'invariant.limits.results',
  'select run_id, node, map_index, result from sluice.tasks where run_id = any ($1::uuid[])',
)

const runsStatement = statement<{ id: string; workflow: string; started: number; ended: number | null }>(
  'invariant.limits.runs',
  `select r.id, r.workflow, extract(epoch from t.at)::float8 * 1000 as started,
     (select extract(epoch from min(e.at))::float8 * 1000 from sluice.transitions e
      where e.run_id = t.run_id and e.node = -1 and e.from_state = 'running' and e.seq > t.seq) as ended
   from sluice.transitions t join sluice.runs r on r.id = t.run_id
   where t.node = -1 and t.to_state = 'running' and r.lane = 'default'
     and exists (select from sluice.limits l where l.kind = 'runs' and l.name = r.workflow)`,
)

/** 6. Limits hold at every instant. */
export const limitInvariants: readonly Invariant[] = [{ number: 6, when: 'always', find: judgeLimits }]

interface Use {
  readonly limit: string
  readonly amount: number
  readonly started: number
  readonly ended: number | null
  readonly who: string
}

async function judgeLimits({ session }: Snapshot): Promise<string[]> {
  const rows = await session.query(limitsStatement)
  if (rows.length === 0) return []
  const limits = new Map(rows.map((row) => [`${row.kind}:${row.name}`, row]))
  const versions = new Map((await session.query(versionsStatement)).map((row) => [row.hash, row.manifest.workflows]))
  const attempts = (await session.query(attemptsStatement)).flatMap((row) => {
    const workflow = versions.get(row.version)?.find(({ name }) => name === row.workflow)
    const node = workflow?.nodes[row.node]
    return workflow && node && (workflow.workers !== undefined || node.limits) ? [{ row, workflow, node }] : []
  })
  const keyed = [...new Set(attempts.flatMap(({ row, node }) => (node.limits?.key ? [row.run_id] : [])))]
  const results = Map.groupBy(await session.query(resultsStatement, [keyed]), (row) => row.run_id)
  const uses: Use[] = []
  for (const { row, workflow, node } of attempts) {
    const who = `task ${row.run_id}/${row.node}/${row.map_index}`
    const use = (limit: string, amount = 1) => uses.push({ limit, amount, started: row.started, ended: row.ended, who })
    const { pool, key, rate } = node.limits ?? {}
    if (workflow.workers !== undefined) use(`workers:${workflow.name}`)
    if (pool) use(`pool:${pool.name}`, pool.slots)
    if (rate) use(`rate:${rate.name}`)
    if (!key) continue
    const value = (part: unknown) => whatIs(part, row, node, results.get(row.run_id) ?? [])
    use(`key:${key.name}:${JSON.stringify(key.parts.map(value))}`)
  }
  for (const run of await session.query(runsStatement))
    uses.push({ ...run, limit: `runs:${run.workflow}`, amount: 1, who: `run ${run.id}` })
  return [...Map.groupBy(uses, ({ limit }) => limit)].flatMap(([limit, used]) => {
    const row = limits.get(limit.split(':').slice(0, 2).join(':'))
    return row ? judge(limit, row, used) : [`${limit} is used and has no row`]
  })
}

/** An engine goes on with what it was granted until it hears that a person has set less. */
const heardMs = 2_000

function judge(limit: string, { slots, per_ms, burst, set_at }: LimitRow, uses: readonly Use[]): string[] {
  if (slots === null) return []
  if (limit.startsWith('rate:'))
    return per_ms === null || burst === null ? [] : judgeRate(limit, slots / per_ms, burst, uses, set_at)
  const events = uses.flatMap(({ amount, started, ended, who }) => [
    { at: started, amount, who },
    ...(ended === null ? [] : [{ at: Math.max(started, ended), amount: -amount, who }]),
  ])
  // Ends before starts: what ended at that moment is free.
  events.sort((one, other) => one.at - other.at || one.amount - other.amount)
  let held = 0
  const found: string[] = []
  for (const { at, amount, who } of events) {
    held += amount
    if (amount > 0 && held > slots && at > (set_at ?? 0) + heardMs) {
      found.push(`${limit} has ${slots} and ${held} were held when ${who} started at ${new Date(at).toISOString()}`)
    }
  }
  return found
}

/** A bucket that is full at first. */
function judgeRate(limit: string, perMs: number, burst: number, uses: readonly Use[], since: number | null): string[] {
  const found: string[] = []
  let level = burst
  let last = 0
  for (const { started, who } of [...uses].sort((one, other) => one.started - other.started)) {
    if (started <= (since ?? 0)) continue
    level = Math.min(burst, level + (started - last) * perMs) - 1
    last = started
    // Times have microseconds.
    if (level < -0.001 * perMs - 1e-6) found.push(`${limit} was exceeded by ${(-level).toFixed(6)} when ${who} started`)
  }
  return found
}

type Result = { readonly node: number; readonly map_index: number; readonly result: string | null }

/** What a part of a key comes to, told by its template. */
function whatIs(part: unknown, row: AttemptRow, node: LimitedNode, results: readonly Result[]): unknown {
  if (typeof part !== 'object' || part === null) return part
  if ('$text' in part) {
    const texts = (part.$text as readonly unknown[]).map((one) => whatIs(one, row, node, results) ?? '')
    return texts.map((text) => (typeof text === 'string' ? text : JSON.stringify(text))).join('')
  }
  if (!('$ref' in part)) return part
  const ref = part.$ref as { from: string; node?: number; path: readonly string[] }
  let value: unknown = row.params
  if (ref.from === 'item') value = (whatIs(node.over, row, node, results) as readonly unknown[])?.[row.map_index]
  if (ref.from === 'node') {
    const ofNode = results.filter((one) => one.node === ref.node)
    const parsed = ofNode.sort((a, b) => a.map_index - b.map_index).map(({ result }) => JSON.parse(result ?? 'null'))
    value = ofNode[0]?.map_index === -1 ? parsed[0] : parsed
  }
  for (const key of ref.path) value = (value as Record<string, unknown> | null | undefined)?.[key]
  if (Array.isArray(node.over) && ref.from === 'item' && ref.path.length === 0) return node.over[row.map_index]
  return value
}
