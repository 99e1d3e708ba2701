/** What a task costs that does nothing, against graphile-worker on the same server in the same run. */
import { join } from 'node:path'
import { type Database, statement } from '../src/ports/database.ts'
import { graphileSeconds } from './graphile.ts'
import { format, median, quantile, spread, table } from './measure.ts'
import { startPlatform } from './platform.ts'

const peerJobs = 20_000
const pacedPerSecond = 200
const pacedRuns = 1_000

/** From the statement that made a run to the one that started its only task, by the server's clock. */
const startLatency = statement<{ ms: number }>(
  'bench.start_latency',
  `select extract(epoch from t.started_at - r.created_at)::float8 * 1000 as ms
   from sluice.runs r join sluice.tasks t on t.run_id = r.id where r.workflow = 'single'`,
)

export async function benchTasks(rounds: number): Promise<string> {
  const platform = await startPlatform(join(import.meta.dirname, 'project'))
  try {
    const rates = { chain: [] as number[], stages: [] as number[], fan: [] as number[], peer: [] as number[] }
    const forty: number[] = []
    await platform.run('chain')
    for (let round = 0; round < rounds; round += 1) {
      rates.stages.push(await rateOf(platform, 'stages', {}, 10_000))
      rates.peer.push(peerJobs / (await graphileSeconds(platform.databaseUrl, peerJobs)))
      rates.fan.push(await rateOf(platform, 'fan', { size: 10_000 }, 10_001))
      rates.chain.push(await rateOf(platform, 'chain', {}, 1_000))
      forty.push((await platform.run('forty')).createdMs)
    }
    const peer = median(rates.peer)
    const row = (name: string, values: readonly number[]) => [name, spread(values), format(median(values) / peer, 2)]
    const latencies = await paced(platform.db, () => platform.start('single'))
    return [
      table(
        ['no-op tasks per second', `median of ${rounds} rounds (lowest to highest)`, 'ratio to graphile-worker'],
        [
          row('graphile-worker at its best, no graph, no results', rates.peer),
          row('100 stages of 100', rates.stages),
          row('fan of 10,000', rates.fan),
          row('chain of 1,000', rates.chain),
        ],
      ),
      table(
        ['latency', 'ms'],
        [
          ['chain, per hop (median)', format(1_000 / median(rates.chain), 2)],
          ['40 tasks in sequence, from the request to the end (median)', format(median(forty), 1)],
          [`run made to its task started, ${pacedPerSecond} runs/s, p50`, format(quantile(latencies, 0.5), 2)],
          [`the same, p99`, format(quantile(latencies, 0.99), 2)],
        ],
      ),
    ].join('\n\n')
  } finally {
    await platform.stop()
  }
}

async function rateOf(
  platform: Awaited<ReturnType<typeof startPlatform>>,
  workflow: string,
  params: unknown,
  tasks: number,
) {
  const run = await platform.run(workflow, params)
  if (run.state !== 'success') throw new Error(`${workflow} ended as ${run.state}`)
  return tasks / (run.ranMs / 1_000)
}

/** Starts runs at an even pace and gives the latencies of all their starts. */
async function paced(db: Database, start: () => Promise<string>): Promise<number[]> {
  const begun: Promise<string>[] = []
  const startedAt = performance.now()
  for (let run = 0; run < pacedRuns; run += 1) {
    const wait = startedAt + (run * 1_000) / pacedPerSecond - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    begun.push(start())
  }
  await Promise.all(begun)
  for (;;) {
    const rows = await db.query(startLatency)
    if (rows.length >= pacedRuns) return rows.map((row) => row.ms)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
