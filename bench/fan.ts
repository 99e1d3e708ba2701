/** Mapped tasks: what one costs in a small and in a large fan, and what a large one takes of the engine's memory. */
import { join } from 'node:path'
import { format, median, type Report, spread, table } from './measure.ts'
import { startPlatform } from './platform.ts'
import { memoryBelow, memoryOfProcess } from './process-memory.ts'

const everyMs = 200
const kbOfMb = 1_024

interface Fan {
  /** Microseconds of each round. */
  readonly perTask: number[]
  /** Megabytes over idle at the highest, of each round: the engine's process; it and its runners. */
  readonly engine: number[]
  readonly withRunners: number[]
}

export async function benchFan(rounds: number, sizes: readonly number[]): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'project'))
  const fans = new Map<number, Fan>(sizes.map((size) => [size, { perTask: [], engine: [], withRunners: [] }]))
  const read = async () => ({
    engine: (await memoryOfProcess(platform.enginePid)) / kbOfMb,
    withRunners: (await memoryBelow(platform.enginePid)) / kbOfMb,
  })
  try {
    await platform.run('fan', { size: 1_000 })
    const idle = await read()
    for (let round = 0; round < rounds; round += 1) {
      for (const [size, fan] of fans) {
        const highest = { engine: 0, withRunners: 0 }
        let ended = false
        const watching = (async () => {
          while (!ended) {
            const now = await read()
            for (const key of ['engine', 'withRunners'] as const) highest[key] = Math.max(highest[key], now[key])
            await new Promise((resolve) => setTimeout(resolve, everyMs))
          }
        })()
        const { state, ranMs } = await platform.run('fan', { size })
        ended = true
        await watching
        if (state !== 'success') throw new Error(`the fan of ${size} ended as ${state}`)
        fan.perTask.push((ranMs * 1_000) / (size + 1))
        fan.engine.push(highest.engine - idle.engine)
        fan.withRunners.push(highest.withRunners - idle.withRunners)
      }
    }
  } finally {
    await platform.stop()
  }
  const smallest = median(fans.get(Math.min(...sizes))!.perTask)
  const rows = [...fans].map(([size, { perTask, engine, withRunners }]) => [
    format(size),
    spread(perTask, 1),
    format(median(perTask) / smallest, 2),
    spread(engine),
    spread(withRunners),
  ])
  const head = [
    'mapped tasks',
    `µs a task, median of ${rounds} rounds (lowest to highest)`,
    'ratio to the smallest (aim 1.2)',
    'engine over idle at its highest, MB (aim 200)',
    'with its runners, MB',
  ]
  return { text: table(head, rows), figures: { fans: Object.fromEntries(fans) } }
}
