/**
 * Plays many cases and prints how many, how long, and what went wrong; exits 1 then.
 *
 *     npm run -s simulate -- --seeds 1000000 --from 1 --jobs 2
 *     npm run -s simulate -- --replay 4711      one seed, and the smallest case like it that fails
 */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { playSeeds, type Range, told } from './seeds.ts'

/** Seeds that a job plays before it is told of more. */
const atOnce = 2_000

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
    replay: { type: 'string' },
    job: { type: 'boolean' },
  },
})

/** @throws with what is wanted when it is no whole number of 1 on */
function whole(name: 'seeds' | 'from' | 'jobs' | 'replay'): number {
  const number = Number(values[name])
  if (Number.isSafeInteger(number) && number >= 1) return number
  process.stderr.write(`--${name} is a whole number from 1 on\n`)
  process.exit(2)
}

if (values.job) {
  process.on('message', async (range: Range) => process.send!(await Promise.all((await playSeeds(range, 3)).map(told))))
} else if (values.replay !== undefined) {
  const failures = await playSeeds({ from: whole('replay'), seeds: 1 })
  for (const failure of failures) process.stdout.write(`${await told(failure)}\n`)
  if (failures.length === 0) process.stdout.write(`seed ${values.replay}: as it must be\n`)
  process.exitCode = failures.length
} else {
  const [from, seeds, jobs] = [whole('from'), whole('seeds'), whole('jobs')]
  const begun = performance.now()
  let next = from
  let violations = 0
  const rangeOf = (): Range | undefined => {
    if (next >= from + seeds) return undefined
    const range = { from: next, seeds: Math.min(atOnce, from + seeds - next) }
    next += range.seeds
    return range
  }
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(import.meta.filename, ['--job'], { execArgv: process.execArgv })
      const go = () => {
        const range = rangeOf()
        if (range) child.send(range)
        else child.kill()
      }
      child.on('message', (texts: string[]) => {
        violations += texts.length
        for (const text of texts) process.stdout.write(`${text}\n\n`)
        go()
      })
      child.on('exit', (code) => (code === null ? resolve() : reject(new Error(`a job ended with ${code}`))))
      go()
    })
  await Promise.all(Array.from({ length: jobs }, work))
  const seconds = (performance.now() - begun) / 1_000
  process.stdout.write(`${seeds} seeds from ${from}: ${violations} violations in ${seconds.toFixed(1)} s\n`)
  process.exitCode = violations > 0 ? 1 : 0
}
