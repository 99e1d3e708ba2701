/** How long `sluice dev` takes until it is ready, and what all its processes then weigh. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startDev } from './dev-process.ts'
import { spread, table } from './measure.ts'
import { memoryOf } from './process-memory.ts'

export async function benchStartup(rounds: number): Promise<string> {
  const first: number[] = []
  const second: number[] = []
  const memory: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const home = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
    first.push((await startAndStop(home)).seconds)
    const again = await startAndStop(home)
    second.push(again.seconds)
    memory.push(again.pssMb)
    await rm(home, { recursive: true, force: true })
  }
  return table(
    ['`sluice dev` with the image application', `median of ${rounds} rounds (lowest to highest)`],
    [
      ['first start (initdb, build, migrations) to ready, s', spread(first, 2)],
      ['second start to ready, s', spread(second, 2)],
      ['idle memory of all processes, PostgreSQL included (PSS), MB', spread(memory)],
    ],
  )
}

async function startAndStop(home: string): Promise<{ seconds: number; pssMb: number }> {
  const dev = await startDev(home)
  // What the start needed is given back by then.
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const { sluiceKb, postgresKb } = await memoryOf(dev.pid, home)
  await dev.stop()
  return { seconds: dev.seconds, pssMb: (sluiceKb + postgresKb) / 1_024 }
}
