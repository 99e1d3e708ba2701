/**
 * Light tasks one after another, and what stands in their way: the statement that ends one and starts the next, and the
 * bare commit of one row, both on the same server in the same rounds.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { Transition } from '../src/core/run-progress.ts'
import { type Database, statement } from '../src/ports/database.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { migrate } from '../src/store/migrate.ts'
import { commitGroup, type RunChange } from '../src/store/transitions.ts'
import { format, median, quantile, type Report, spread, table } from './measure.ts'
import { startPlatform } from './platform.ts'

const commits = 400
const forties = 5

const roundTrip = statement('bench.round_trip', 'select 1')
const bareCommit = statement('bench.bare_commit', 'update bare set n = n + 1 where id = 1')
const makeRun = statement(
  'bench.make_run',
  `insert into sluice.runs (id, workflow, version, params, state, node_id) values ($1, 'chain', 'bench', '{}', 'running', $2)`,
)

export async function benchLight(rounds: number): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'project'))
  let beside: Database | undefined
  const ms = { trip: [], bare: [], hop: [], two: [], chain: [], forty: [], busy: [] } as Record<string, number[]>
  try {
    beside = await openBeside(platform.databaseUrl)
    const db = beside
    await platform.run('chain')
    for (let round = 0; round < rounds; round += 1) {
      ms.trip!.push(await medianOf(commits, () => db.query(roundTrip)))
      ms.bare!.push(await medianOf(commits, () => db.execute(bareCommit)))
      ms.hop!.push(await hops(db, 1))
      ms.two!.push(await hops(db, 2))
      ms.chain!.push((await platform.run('chain')).ranMs / 1_000)
      for (let time = 0; time < forties; time += 1) {
        const { createdMs, ranMs } = await platform.run('forty')
        ms.forty!.push(createdMs)
        ms.busy!.push(ranMs / 40)
      }
    }
  } finally {
    await beside?.close()
    await platform.stop()
  }
  const limit = median(ms.bare!)
  const row = (name: string, values: readonly number[], aim = '') => [
    ...[name, spread(values, 2), format(median(values) / limit, 1), aim],
  ]
  const text = table(
    [
      'light tasks in sequence',
      `ms, median of ${rounds} rounds (lowest to highest)`,
      'ratio to the bare commit',
      'aim',
    ],
    [
      row('40 tasks, from the request to the end', ms.forty!, '< 40'),
      row('the same, from its start to the end, per task', ms.busy!),
      row('chain of 1,000, per hop', ms.chain!, '0.4'),
      row('the statement of a hop alone: one ends, one starts', ms.hop!),
      row('hops of two runs in one statement', ms.two!),
      row('limit: one row changed and committed, with sync', ms.bare!),
      row('an empty round trip to the server', ms.trip!),
    ],
  )
  return { text, figures: { ms, ninetieth: { forty: quantile(ms.forty!, 0.9) } } }
}

/** A database of its own on the same server, so that the engine does not mistake what is in it for its own. */
async function openBeside(url: string): Promise<Database> {
  const own = openDatabase({ url, applicationName: 'bench', max: 1 })
  await own.script('create database beside')
  await own.close()
  const db = openDatabase({
    url: url.replace(/\/\w+(?=\?|$)/, '/beside'),
    applicationName: 'bench',
    max: 1,
    lookupsOnly: true,
  })
  await migrate(db)
  await db.script(`insert into sluice.versions (hash, manifest) values ('bench', '{}');
    select sluice.ensure_day_partitions('sluice.transitions', current_date, 2);
    create table bare (id int primary key, n int) with (fillfactor = 50);
    insert into bare values (1, 0)`)
  return db
}

async function medianOf(times: number, work: (time: number) => Promise<unknown>): Promise<number> {
  const taken: number[] = []
  for (let time = 0; time < times; time += 1) {
    const startedAt = performance.now()
    await work(time)
    taken.push(performance.now() - startedAt)
  }
  return median(taken)
}

/** As the engine commits them, of so many runs at a time. */
async function hops(db: Database, runs: number): Promise<number> {
  const nodeId = randomUUID()
  const ids = Array.from({ length: runs }, () => randomUUID())
  for (const id of ids) await db.execute(makeRun, [id, nodeId])
  const task = { mapIndex: -1, attempt: 1, losses: 0 } as const
  const start = (node: number): Transition => ({ ...task, node, token: node + 1, from: 'none', to: 'running' })
  const end = (node: number): Transition => ({
    ...{ ...task, node, token: node + 1, from: 'running', to: 'success' },
    result: '{"n":1}',
  })
  const changes = (seq: number, ...transitions: Transition[]): RunChange[] =>
    ids.map((runId) => ({ runId, epoch: 0, seq, transitions, expanded: [] }))
  await commitGroup(db, nodeId, changes(0, start(0)))
  return medianOf(commits, (time) => commitGroup(db, nodeId, changes(1 + 2 * time, end(time), start(time + 1))))
}
