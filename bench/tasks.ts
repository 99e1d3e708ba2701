/** What a task costs that does nothing, against graphile-worker on the same server in the same run. */
import { join } from 'node:path'
import { graphileSeconds } from './graphile.ts'
import { format, median, quantile, spread, table } from './measure.ts'
import { paced } from './paced.ts'
import { startPlatform } from './platform.ts'

const peerJobs = 20_000
const pacedPerSecond = 200
const pacedRuns = 1_000

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
    const { started } = await paced(platform, pacedPerSecond, pacedRuns)
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
          [`run made to its task started, ${pacedPerSecond} runs/s, p50`, format(quantile(started, 0.5), 2)],
          [`the same, p99`, format(quantile(started, 0.99), 2)],
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
