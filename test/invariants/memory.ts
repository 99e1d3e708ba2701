/** What only shows from one check to the next: fences that go back, ends that change, rows that were to stay. */
import { statement } from '../../src/ports/database.ts'
import { defaultHistoryMs, type Invariant, type Snapshot } from './breach.ts'

interface RunRow {
  readonly id: string
  readonly state: string
  readonly epoch: number
  readonly seq: number
  readonly finished: number | null
  /** The number in its log of its last clear. */
  readonly cleared: number | null
}
interface PositionRow {
  readonly name: string
  readonly positions: Readonly<Record<string, number>>
}
interface OwnerRow {
  readonly name: string
  readonly owner: string
  readonly epoch: number
}
interface RetryRow {
  readonly run_id: string
  readonly node: number
  readonly map_index: number
  readonly attempt: number
  readonly retry_at: Date
}
interface HistoryRow {
  readonly name: string
  readonly upto: number
  readonly rows: number
  readonly sum: string
}

/** Given to each check of one database in turn. */
export class Memory {
  runs = new Map<string, RunRow>()
  positions = new Map<string, PositionRow['positions']>()
  /** The last that was seen of each, also when nobody has it any more. */
  readonly owners = new Map<string, OwnerRow>()
  retries = new Map<string, RetryRow>()
  history = new Map<string, HistoryRow>()
  readonly #began = new Map<string, number>()

  /** Where a plan stood when it was first seen, in milliseconds since the epoch. */
  began(plan: string, since: Date): number {
    const known = this.#began.get(plan) ?? since.getTime()
    this.#began.set(plan, known)
    return known
  }
}

export const memoryInvariants: readonly Invariant[] = [
  { number: 3, when: 'always', find: compareRuns },
  { number: 3, when: 'always', find: comparePositions },
  { number: 3, when: 'always', find: compareOwners },
  { number: 10, when: 'always', find: compareRetries },
  { number: 4, when: 'always', find: compareHistory },
]

const runsStatement = statement<RunRow>(
  'invariant.memory.runs',
  `select id, state, epoch, seq, extract(epoch from finished_at)::float8 * 1000 as finished,
     (select max(t.seq) from sluice.transitions t where t.run_id = r.id and t.node = -1 and t.to_state = 'queued')::float8 as cleared
   from sluice.runs r`,
)

/** 1, 3, 4. A run that was there is there, its epoch and number only grow, and its end stays. */
async function compareRuns({
  session,
  options: { memory, historyMs = defaultHistoryMs },
}: Snapshot): Promise<string[]> {
  if (memory === undefined) return []
  const rows = new Map((await session.query(runsStatement)).map((row) => [row.id, row]))
  const found: string[] = []
  for (const before of memory.runs.values()) {
    const after = rows.get(before.id)
    if (after === undefined) {
      const old = before.finished !== null && before.finished < Date.now() - historyMs
      if (!old) found.push(`run ${before.id} was ${before.state}, and is gone`)
    } else if (after.epoch < before.epoch || after.seq < before.seq)
      found.push(
        `run ${before.id} went back from epoch ${before.epoch}, number ${before.seq} to ${after.epoch}, ${after.seq}`,
      )
    else if (
      before.finished !== null &&
      (after.state !== before.state || after.seq !== before.seq) &&
      !((after.cleared ?? 0) > before.seq)
    )
      found.push(
        `run ${before.id} had ended as ${before.state} at number ${before.seq}, and is ${after.state} at ${after.seq}`,
      )
  }
  memory.runs = rows
  return found
}

const positionsStatement = statement<PositionRow>(
  'invariant.memory.positions',
  `select 'shard ' || stream || '/' || partition as name, json_build_object('epoch', epoch, 'offset', committed_offset,
     'folded', case when isfinite(folded_through) then extract(epoch from folded_through) else 0 end) as positions from sluice.shards
   union all
   select 'partition ' || topic || '/' || partition, json_build_object('first', first_offset, 'next', next_offset) from sluice.topic_partitions
   union all
   select 'plan ' || workflow || ' by ' || plan, json_build_object('since', extract(epoch from since)) from sluice.plan_cursors`,
)

/** 3. Epochs, offsets and cursors only grow. */
async function comparePositions({ session, options: { memory } }: Snapshot): Promise<string[]> {
  if (memory === undefined) return []
  const rows = new Map((await session.query(positionsStatement)).map((row) => [row.name, row.positions]))
  const found: string[] = []
  for (const [name, before] of memory.positions) {
    const after = rows.get(name)
    const wrong = Object.keys(before).filter((key) => (after?.[key] ?? -1) < before[key]!)
    if (wrong.length > 0) found.push(`${name} went back: ${JSON.stringify(before)}, then ${JSON.stringify(after)}`)
  }
  memory.positions = rows
  return found
}

const ownersStatement = statement<OwnerRow>(
  'invariant.memory.owners',
  `select 'run ' || id as name, node_id as owner, epoch from sluice.runs where node_id is not null
   union all
   select 'shard ' || stream || '/' || partition, holder, epoch from sluice.shards where holder is not null`,
)

/** 3. Whoever has a run or a shard after another has it under a higher epoch. */
async function compareOwners({ session, options: { memory } }: Snapshot): Promise<string[]> {
  if (memory === undefined) return []
  const found: string[] = []
  for (const now of await session.query(ownersStatement)) {
    const before = memory.owners.get(now.name)
    memory.owners.set(now.name, now)
    if (before !== undefined && now.owner !== before.owner && now.epoch <= before.epoch)
      found.push(
        `${now.name} is ${now.owner}'s under epoch ${now.epoch}, and was ${before.owner}'s under ${before.epoch}`,
      )
  }
  return found
}

const retriesStatement = statement<RetryRow>(
  'invariant.memory.retries',
  `select run_id, node, map_index, attempt, retry_at from sluice.tasks
   where state = 'up_for_retry' or (state = 'deferred' and retry_at is not null)`,
)
const startsStatement = statement<{ run_id: string; node: number; map_index: number; attempt: number; at: Date }>(
  'invariant.memory.starts',
  `select t.run_id, t.node, t.map_index, t.attempt, t.at
   from unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) as w (run_id, node, map_index, attempt)
   join sluice.transitions t on t.run_id = w.run_id and t.node = w.node and t.map_index = w.map_index
     and t.attempt = w.attempt + 1 and (t.to_state = 'running' or (t.to_state = 'deferred' and t.from_state = 'up_for_retry'))`,
)
/** Two clocks of one machine, and what a timer may be early by. */
const toleranceMs = 50

/** 10. No task that waited for its retry, or for its next look, starts before that is due. */
async function compareRetries({ session, options: { memory } }: Snapshot): Promise<string[]> {
  if (memory === undefined) return []
  const keyOf = (row: { run_id: string; node: number; map_index: number }) =>
    `${row.run_id}/${row.node}/${row.map_index}`
  const waited = [...memory.retries.values()]
  const columns = [
    waited.map((row) => row.run_id),
    waited.map((row) => row.node),
    waited.map((row) => row.map_index),
    waited.map((row) => row.attempt),
  ]
  const found: string[] = []
  for (const start of await session.query(startsStatement, columns)) {
    const due = memory.retries.get(keyOf(start))!.retry_at
    if (start.at.getTime() < due.getTime() - toleranceMs)
      found.push(`task ${keyOf(start)} was tried again at ${start.at.toISOString()}, and due at ${due.toISOString()}`)
  }
  memory.retries = new Map((await session.query(retriesStatement)).map((row) => [keyOf(row), row]))
  return found
}

/** The rows of a log up to a number, as one sum. */
const historyStatement = statement<HistoryRow>(
  'invariant.memory.history',
  `with asked as (
     select * from unnest($1::text[], $2::bigint[]) as a (name, upto)
   ), rows as (
     select 'run ' || run_id as name, seq as place, hashtextextended(t::text, 0)::numeric as hash from sluice.transitions t
     union all
     select 'batches ' || stream || '/' || partition, to_offset, hashtextextended(b::text, 0)::numeric from sluice.ledger_batches b
   ), ends as (
     select name, max(place) as upto from rows group by name
   ), bounds as (
     select name, upto from asked union select name, upto from ends
   )
   select b.name, b.upto, count(*)::int as rows, sum(r.hash)::text as sum
   from bounds b join rows r on r.name = b.name and r.place <= b.upto group by b.name, b.upto`,
)

/** 4. What was logged stays as it was. Of what whole days are dropped, nothing more is asked. */
async function compareHistory({ session, options: { memory } }: Snapshot): Promise<string[]> {
  if (memory === undefined) return []
  const before = [...memory.history.values()]
  const rows = await session.query(historyStatement, [before.map(({ name }) => name), before.map(({ upto }) => upto)])
  const asked = new Map(rows.map((row) => [`${row.name} ${row.upto}`, row]))
  const found: string[] = []
  for (const { name, upto, rows: count, sum } of before) {
    const after = asked.get(`${name} ${upto}`)
    if (after === undefined || after.sum === sum) continue
    found.push(`the log of ${name} up to ${upto} was ${count} rows, and is ${after.rows}, or other ones`)
  }
  const latest = new Map<string, HistoryRow>()
  for (const row of rows) if (row.upto >= (latest.get(row.name)?.upto ?? -1)) latest.set(row.name, row)
  memory.history = latest
  return found
}
