/** Kills `make demo` at random moments, everything or parts of it, and lets the last one run to its end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { kill, killAll, processesOf, type Role } from './processes.ts'
import { randomness } from './randomness.ts'

const root = join(import.meta.dirname, '../..')

/**
 * - `everything`: all at once, PostgreSQL with it
 * - `group`: the process group of the command alone, as a closed terminal does it; the other processes notice
 * - `supervisor`: that process alone, then the command
 * - `postmaster`, `backend`: the demo goes on and has to end by itself
 */
const demoVictims = ['everything', 'group', 'supervisor', 'postmaster', 'backend'] as const
type DemoVictim = (typeof demoVictims)[number]

export interface DemoOptions {
  readonly count: number
  readonly seed: number
  /** The catalog; default the sample. */
  readonly catalog?: string
  /** No kill comes later than this after the start of a demo; default 6 s. */
  readonly latestMs?: number
  readonly tell?: (line: string) => void
}

/** What a demo has printed on both outputs, and how it ended. */
interface Ended {
  readonly code: number | null
  readonly text: string
  readonly sum: string | undefined
}

/** Gives the last line of the sum that the demo prints in the end. @throws Error when it does not end well. */
export async function demoKills(options: DemoOptions): Promise<string> {
  const { count, seed, latestMs = 6_000, tell = () => {} } = options
  const random = randomness(seed)
  const home = await mkdtemp(join(tmpdir(), 'sluice-demo-'))
  try {
    for (let nth = 1; nth <= count; nth += 1) {
      const victim = random.pick(demoVictims)
      const afterMs = random.whole(0, latestMs)
      const demo = startDemo(home, options.catalog)
      const waited = await Promise.race([delay(afterMs, 'late'), demo.ended])
      const struck = waited === 'late' ? await strikeDemo(demo.process, home, victim) : 0
      const { code, sum, text } = await demo.ended
      tell(`${nth}/${count} ${victim} after ${afterMs} ms, ${struck} processes: ${sum ?? 'no sum'}`)
      // Whoever was not killed has to end well.
      if (demo.process.signalCode === null && code !== 0) throw new Error(`the demo has ended with ${code}:\n${text}`)
    }
    const last = await startDemo(home, options.catalog).ended
    if (last.code !== 0 || last.sum === undefined)
      throw new Error(`the last demo has ended with ${last.code}:\n${last.text}`)
    const left = processesOf(home)
    if (left.length > 0) throw new Error(`left over: ${left.map(({ command }) => command).join('\n')}`)
    return last.sum
  } finally {
    await killAll(home)
    await rm(home, { recursive: true, force: true })
  }
}

function startDemo(home: string, catalog: string | undefined): { process: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(
    process.execPath,
    ['--conditions=sluice-source', '--disable-warning=ExperimentalWarning', 'apps/images/demo.ts'],
    {
      cwd: root,
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        SLUICE_HOME: home,
        ...(catalog === undefined ? {} : { CATALOG: catalog }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    },
  )
  let text = ''
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  }
  const ended = once(child, 'exit').then(() => {
    const sum = text.split('\n').findLast((line) => /^\d+ received = /.test(line))
    return { code: child.exitCode, text, sum }
  })
  return { process: child, ended }
}

/** Gives how many processes were struck. The command itself is among them unless its victim is of PostgreSQL. */
async function strikeDemo(demo: ChildProcess, home: string, victim: DemoVictim): Promise<number> {
  const all = processesOf(home)
  const one = (role: Role) => {
    const found = all.find((process) => process.role === role)
    return found !== undefined && kill(found.pid) ? 1 : 0
  }
  const group = () => (kill(-demo.pid!) ? 1 : 0)
  if (victim === 'everything') return group() + (await killAll(home))
  if (victim === 'group') return group()
  if (victim === 'supervisor') return one('supervisor') + group()
  // Before there is a server, there is nothing that could be killed of it.
  return one(victim)
}
