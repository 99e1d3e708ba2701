/** Runs of one task, started at an even pace: what passes between the statement that makes a run and its task's start. */
import { statement } from '../src/ports/database.ts'
import type { Platform } from './platform.ts'

export interface Latencies {
  /** Milliseconds from the run made to its task started, by the times in the rows: the server's clock. */
  readonly started: readonly number[]
  /** The same until the author's function began, by what it says itself: commit and trip to the runner included. */
  readonly begun: readonly number[]
}

/** The server and the runners share one clock, that of this machine. */
const latencies = statement<{ started: number; begun: number }>(
  'bench.latencies',
  `select extract(epoch from t.started_at - r.created_at)::float8 * 1000 as started,
     (t.result::json ->> 'at')::float8 - extract(epoch from r.created_at)::float8 * 1000 as begun
   from sluice.runs r join sluice.tasks t on t.run_id = r.id
   where r.id = any($1::uuid[]) and t.state = 'success'`,
)

export async function paced(platform: Platform, perSecond: number, runs: number): Promise<Latencies> {
  const begun: Promise<string>[] = []
  const startedAt = performance.now()
  for (let run = 0; run < runs; run += 1) {
    const wait = startedAt + (run * 1_000) / perSecond - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    begun.push(platform.start('stamped'))
  }
  const ids = await Promise.all(begun)
  for (;;) {
    const rows = await platform.db.query(latencies, [ids])
    if (rows.length >= runs)
      return { started: rows.map(({ started }) => started), begun: rows.map(({ begun }) => begun) }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

const makeTable = `create schema if not exists bench_paced; drop table if exists bench_paced.rows;
  create table bench_paced.rows (id bigint primary key, change int not null)`
const insert = statement('bench.paced_insert', 'insert into bench_paced.rows (id, change) values ($1, 0)')
const update = statement('bench.paced_update', 'update bench_paced.rows set change = change + 1 where id = $1')

/**
 * The limit: what three commits one after another take at this pace, on the same server with nothing else to do, of one row
 * each. As many are between a run that is made and its task's start: the run, its claim, the start. Milliseconds.
 */
export async function pacedCommits({ db }: Platform, perSecond: number, count: number): Promise<number[]> {
  await db.script(makeTable)
  const startedAt = performance.now()
  const under: Promise<number>[] = []
  const commits = async (id: number) => {
    const from = performance.now()
    await db.execute(insert, [id])
    await db.execute(update, [id])
    await db.execute(update, [id])
    return performance.now() - from
  }
  for (let id = 0; id < count; id += 1) {
    const wait = startedAt + (id * 1_000) / perSecond - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    under.push(commits(id))
  }
  return Promise.all(under)
}
