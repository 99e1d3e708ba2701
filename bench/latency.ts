/** How soon a run's task starts when there is little to do: runs of one task at an even pace, as a histogram. */
import { join } from 'node:path'
import { format, histogram, median, quantile, type Report, table } from './measure.ts'
import { type Latencies, paced, pacedCommits } from './paced.ts'
import { startPlatform } from './platform.ts'

const secondsEach = 5

/** @param rates runs started per second */
export async function benchLatency(rounds: number, rates: readonly number[]): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'project'))
  const found = new Map<number, (Latencies & { readonly commits: readonly number[] })[]>(
    rates.map((rate) => [rate, []]),
  )
  try {
    await paced(platform, 50, 100)
    for (let round = 0; round < rounds; round += 1) {
      for (const rate of rates) {
        const commits = await pacedCommits(platform, rate, rate * secondsEach)
        found.get(rate)!.push({ ...(await paced(platform, rate, rate * secondsEach)), commits })
      }
    }
  } finally {
    await platform.stop()
  }
  const lines: string[][] = []
  const bars: string[] = []
  const figures: Record<string, unknown> = {}
  for (const [rate, all] of found) {
    for (const [kind, what] of kinds) {
      const values = all.flatMap((one) => one[kind])
      const medians = all.map((one) => median(one[kind]))
      const shares = [0.5, 0.9, 0.99, 1].map((share) => quantile(values, share))
      const between = `${format(Math.min(...medians), 2)} to ${format(Math.max(...medians), 2)}`
      lines.push([`${rate} runs/s: ${what}`, format(values.length), ...shares.map((v) => format(v, 2)), between])
      bars.push(`${rate} runs/s: ${what}\n\n${histogram(values)}`)
      figures[`${rate} ${kind}`] = {
        runs: values.length,
        p50: shares[0],
        p90: shares[1],
        p99: shares[2],
        max: shares[3],
      }
    }
  }
  const head = ['latency, ms', 'runs', 'p50', 'p90', 'p99', 'max', `p50 of the ${rounds} rounds`]
  return { text: [table(head, lines), ...bars].join('\n\n'), figures }
}

const kinds = [
  ['started', 'run made to task started (rows)'],
  ['begun', 'run made to the function begun (runner)'],
  ['commits', 'limit: three commits of a row, one after another'],
] as const
