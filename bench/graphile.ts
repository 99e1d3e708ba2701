/**
 * The peer: graphile-worker at its best on the same server. Jobs without graph or results, run in one process, with its
 * local queue and batched completion, which is how its own benchmark gets its highest figure.
 */
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'

/** Seconds that graphile-worker takes for `jobs` jobs that do nothing, inserted beforehand. */
export async function graphileSeconds(connectionString: string, jobs: number): Promise<number> {
  const pool = new pg.Pool({ connectionString, max: 10 })
  const utils = await makeWorkerUtils({ pgPool: pool })
  try {
    await utils.migrate()
    await pool.query('truncate graphile_worker._private_jobs')
    await pool.query(
      "select graphile_worker.add_job('noop', json_build_object('n', n)) from generate_series(1, $1) n",
      [jobs],
    )
    await pool.query('vacuum analyze graphile_worker._private_jobs')
    let done = 0
    const finished = Promise.withResolvers<void>()
    const startedAt = performance.now()
    const runner = await run({
      pgPool: pool,
      noHandleSignals: true,
      logger: quietLogger(),
      preset: {
        worker: {
          concurrentJobs: 24,
          maxPoolSize: 10,
          pollInterval: 2_000,
          localQueue: { size: 500, refetchDelay: { durationMs: 0 } },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
      taskList: {
        noop: () => {
          done += 1
          if (done === jobs) finished.resolve()
        },
      },
    } as Parameters<typeof run>[0])
    await finished.promise
    // Its last completions are still being written.
    await runner.stop()
    return (performance.now() - startedAt) / 1_000
  } finally {
    await utils.release()
    await pool.end()
  }
}

function quietLogger() {
  return new Logger(() => () => {})
}
