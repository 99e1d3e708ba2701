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
