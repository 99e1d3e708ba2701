/**
 * Whether a long history slows down what is started today: two platforms side by side, each an engine with its server, one
 * of which gets finished tasks by the million. Measured in turns, before (which shows how alike the two are) and after.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type Database, statement } from '../src/ports/database.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { admitRuns } from '../src/store/admit-runs.ts'
import { readInbox } from '../src/store/inbox.ts'
import { takePlans } from '../src/store/plans.ts'
import { claimRuns, releaseRuns } from '../src/store/runs.ts'
import { pausedWorkflows } from '../src/store/workflows.ts'
import { format, median, type Report, spread, table } from './measure.ts'
import { paced } from './paced.ts'
import { type Platform, startPlatform } from './platform.ts'

const tasksOfRun = 10
const perSecond = 50
const runsOfRound = 150
const timesEach = 50

/** As they would lie there after 25 days: runs in order of time, each task with its two changes in the log. */
const history = [
  `select sluice.ensure_day_partitions('sluice.transitions', current_date - 26, 27)`,
  `create temporary table made as
   select (lpad(to_hex((extract(epoch from at) * 1000)::int8), 12, '0') || '7' || substr(md5(n::text), 2, 3) || '8' || substr(md5(n::text), 6, 15))::uuid as id, at
   from (select n, now() - interval '25 days' * (1 - n / $RUNS::float8) as at from generate_series(1, $RUNS - 1) as n) as numbered`,
  `insert into sluice.runs (id, workflow, version, params, state, node_id, epoch, seq, created_at, started_at, finished_at)
   select id, 'stamped', version, '{}', 'success', $NODE, 1, ${2 + 2 * tasksOfRun}, at, at, at + interval '1 s'
   from made cross join sluice.deployment`,
  `insert into sluice.tasks (run_id, node, map_index, state, attempt, result, started_at, first_started_at, finished_at)
   select id, node, -1, 'success', 1, '{"at":1}', at, at, at from made cross join generate_series(0, ${tasksOfRun - 1}) as node`,
  `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state)
   select id, seq, at,
     case when seq in (2, ${2 + 2 * tasksOfRun}) then -1 else (seq - 1) / 2 end, -1, 1,
     case when seq = 2 then 'queued' when seq % 2 = 1 then 'none' else 'running' end,
     case when seq in (1, 2) or seq % 2 = 1 then 'running' else 'success' end
   from made cross join generate_series(1, ${2 + 2 * tasksOfRun}) as seq`,
  'drop table made',
]

const finished = statement<{ tasks: number; size: string }>(
  'bench.finished_tasks',
  'select count(*)::int as tasks, pg_size_pretty(pg_database_size(current_database())) as size from sluice.tasks',
)

/** What an engine asks for besides what it commits, when it is woken and when it sweeps. */
const asked: readonly (readonly [string, (db: Database, nodeId: string) => Promise<unknown>])[] = [
  ['runs claimed (none is free)', (db, nodeId) => claimRuns(db, nodeId, 200)],
  ['runs of limited workflows admitted', (db) => admitRuns(db)],
  ['inbox read', (db, nodeId) => readInbox(db, nodeId, 0)],
  ['paused workflows read', (db) => pausedWorkflows(db)],
  ['stray runs released', (db, nodeId) => releaseRuns(db, nodeId)],
  ['plans locked', (db) => takePlans(db, [{ workflow: 'stamped', plan: 'none' }])],
]

interface Side {
  readonly platform: Platform
  /** As the engine's own connections are. */
  readonly db: Database
  /** Medians of each round, in milliseconds: without history, and with it on one of the two. */
  readonly begun: { readonly before: number[]; readonly after: number[] }
  readonly started: { readonly before: number[]; readonly after: number[] }
  readonly asked: Map<string, number[]>
}

/** @param tasks finished ones, in the second of the two */
export async function benchHistory(rounds: number, tasks: number): Promise<Report> {
  const sides: Side[] = []
  try {
    for (const _ of ['empty', 'full']) sides.push(await open())
    const [empty, full] = sides as [Side, Side]
    for (const side of sides) await paced(side.platform, perSecond, runsOfRound)
    await measure(sides, 'before', rounds)
    await fill(full.db, tasks)
    for (const side of sides) await paced(side.platform, perSecond, runsOfRound)
    await measure(sides, 'after', rounds)
    for (let round = 0; round < rounds; round += 1) for (const side of turn(sides, round)) await ask(side)
    const [found] = await full.db.query(finished)
    return report(empty, full, rounds, `${format(found!.tasks)} finished tasks, ${found!.size}`)
  } finally {
    for (const { platform, db } of sides) {
      await db.close()
      await platform.stop()
    }
  }
}

async function open(): Promise<Side> {
  const platform = await startPlatform(join(import.meta.dirname, 'project'))
  const db = openDatabase({
    url: platform.databaseUrl,
    applicationName: 'bench',
    max: 1,
    lookupsOnly: true,
    answerTimeoutMs: 900_000,
  })
  const none = () => ({ before: [], after: [] })
  return { platform, db, begun: none(), started: none(), asked: new Map(asked.map(([name]) => [name, []])) }
}

/** Each is the first in every second round. */
const turn = <T>(sides: readonly T[], round: number): readonly T[] => (round % 2 === 0 ? sides : sides.toReversed())

async function measure(sides: readonly Side[], when: 'before' | 'after', rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const { platform, begun, started } of turn(sides, round)) {
      const found = await paced(platform, perSecond, runsOfRound)
      begun[when].push(median(found.begun))
      started[when].push(median(found.started))
    }
  }
}

async function fill(db: Database, tasks: number): Promise<void> {
  const values: Record<string, string> = {
    $RUNS: String(Math.ceil(tasks / tasksOfRun) + 1),
    $NODE: `'${randomUUID()}'`,
  }
  for (const text of history) await db.script(text.replaceAll(/\$RUNS|\$NODE/g, (name) => values[name]!))
  // As autovacuum would leave it.
  for (const name of ['runs', 'tasks', 'transitions']) await db.script(`vacuum analyze sluice.${name}`)
  await db.script('checkpoint')
}

async function ask({ db, asked: kept }: Side): Promise<void> {
  const nodeId = randomUUID()
  for (const [name, work] of asked) {
    const taken: number[] = []
    for (let time = 0; time < timesEach; time += 1) {
      const startedAt = performance.now()
      await work(db, nodeId)
      taken.push(performance.now() - startedAt)
    }
    kept.get(name)!.push(median(taken))
  }
}

function report(empty: Side, full: Side, rounds: number, what: string): Report {
  const rows: string[][] = []
  const figures: Record<string, unknown> = { what }
  for (const [kind, name] of [
    ['begun', 'run made to the function begun'],
    ['started', 'run made to task started (rows)'],
  ] as const) {
    for (const when of ['before', 'after'] as const) {
      const [one, other] = [empty[kind][when], full[kind][when]]
      const label = when === 'before' ? 'both empty' : 'one of them with history'
      rows.push([`${name}, ${label}`, spread(one, 2), spread(other, 2), format(median(other) / median(one), 2)])
      figures[`${kind} ${when}`] = { empty: one, full: other }
    }
  }
  const statements = [...empty.asked].map(([name, one]) => {
    const other = full.asked.get(name)!
    figures[name] = { empty: one, full: other }
    return [name, spread(one, 3), spread(other, 3), format(median(other) / median(one), 2)]
  })
  const middle = `median of the medians of ${rounds} rounds in turns (lowest to highest)`
  const text = [
    `${what}; ${runsOfRound} runs a round, ${perSecond} a second.`,
    table([`ms, ${middle}`, 'empty', 'with history', 'ratio (aim 0.9 to 1.1)'], rows),
    table([`statements on their way, ms, ${middle}`, 'empty', 'with history', 'ratio'], statements),
  ].join('\n\n')
  return { text, figures }
}
