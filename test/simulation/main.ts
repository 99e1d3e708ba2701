/**
 * Plays many cases and prints how many, how long, and what went wrong; exits 1 then. Ctrl-C or SIGTERM ends it early, with
 * what was played by then.
 *
 *     npm run -s simulate -- --seeds 1000000 --from 1 --jobs 2
 *     npm run -s simulate -- --replay 4711      one seed, and the smallest case like it that fails
 */
import { type ChildProcess, fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { playSeeds, type Range, told } from './seeds.ts'

/** Seeds that a job plays before it is told of more. */
const atOnce = 2_000

/** Pause between two lines of progress where no terminal shows them, in milliseconds. */
const quietPause = 60_000

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

if (values.job) work()
else if (values.replay !== undefined) await replay()
else process.exitCode = await playAll({ from: whole('from'), seeds: whole('seeds') }, whole('jobs'))

async function replay(): Promise<void> {
  const failures = await playSeeds({ from: whole('replay'), seeds: 1 })
  for (const failure of failures) process.stdout.write(`${await told(failure)}\n`)
  if (failures.length === 0) process.stdout.write(`seed ${values.replay}: as it must be\n`)
  process.exitCode = failures.length
}

/** A job: plays the ranges that it is told of, and tells what failed in them, until nobody is there to be told. */
function work(): void {
  // A Ctrl-C reaches every process of the terminal: the one that gave the work decides.
  process.on('SIGINT', () => {})
  process.on('disconnect', () => process.exit())
  process.on('message', async (range: Range) => {
    const failures = await playSeeds(range, range.seeds)
    const texts: string[] = []
    // To make one smaller takes seconds, and of many like it three say enough.
    for (const [at, failure] of failures.entries())
      texts.push(at < 3 ? await told(failure) : `seed ${failure.seed}, its ${failure.of}: ${failure.message}`)
    // It may have gone meanwhile.
    process.send!(texts, () => {})
  })
}

/** Gives the exit code. */
async function playAll({ from, seeds }: Range, jobs: number): Promise<number> {
  const begun = performance.now()
  const running = new Set<ChildProcess>()
  const progress = progressLine(seeds)
  let [next, played, violations] = [from, 0, 0]
  let early: string | undefined
  const stop = (why: string) => {
    early ??= why
    for (const child of running) child.kill('SIGKILL')
  }
  process.once('SIGINT', () => stop('SIGINT')).once('SIGTERM', () => stop('SIGTERM'))

  const job = (): Promise<void> =>
    new Promise((resolve) => {
      const child = fork(import.meta.filename, ['--job'], { execArgv: process.execArgv })
      running.add(child)
      let range: Range | undefined
      const go = () => {
        range = next < from + seeds ? { from: next, seeds: Math.min(atOnce, from + seeds - next) } : undefined
        if (range === undefined) return child.disconnect()
        next += range.seeds
        child.send(range, () => {})
      }
      child.on('message', (texts: string[]) => {
        played += range!.seeds
        violations += texts.length
        progress.clear()
        for (const text of texts) process.stdout.write(`${text}\n\n`)
        progress.show(played, violations, performance.now() - begun)
        go()
      })
      const over = (how: string) => {
        running.delete(child)
        if (range !== undefined) stop(`a job ended with ${how} within the seeds from ${range.from}`)
        resolve()
      }
      child.on('error', (error) => over(error.message))
      child.on('exit', (code, signal) => over(String(signal ?? code)))
      go()
    })
  await Promise.all(Array.from({ length: jobs }, job))
  progress.clear()
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1)
  const ended = early === undefined ? '' : `; ended early, of ${seeds}: ${early}`
  process.stdout.write(`${played} seeds from ${from}: ${violations} violations in ${seconds} s${ended}\n`)
  return violations > 0 || early !== undefined ? 1 : 0
}

/** How far it is, on the standard error: one line that a terminal rewrites, elsewhere a line in a minute. */
function progressLine(seeds: number): {
  show(played: number, violations: number, elapsed: number): void
  clear(): void
} {
  const terminal = process.stderr.isTTY
  let shown = 0
  return {
    show(played, violations, elapsed) {
      if (!terminal && elapsed - shown < quietPause) return
      shown = elapsed
      const perSecond = played / (elapsed / 1_000)
      const left = Math.ceil((seeds - played) / perSecond / 60)
      const line = `${played} of ${seeds} seeds, ${violations} violations, ${Math.round(perSecond)}/s, ${left} min left`
      process.stderr.write(terminal ? `\r\x1b[K${line}` : `${line}\n`)
    },
    clear() {
      if (terminal) process.stderr.write('\r\x1b[K')
    },
  }
}
