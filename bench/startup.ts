/** How long `sluice dev` takes until it is ready, and what all its processes then weigh. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spread, table } from './measure.ts'

const root = join(import.meta.dirname, '..')

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
  const startedAt = performance.now()
  const child = spawn(process.execPath, [join(root, 'bin/sluice.mjs'), 'dev', '--port', '0'], {
    cwd: root,
    env: { ...process.env, SLUICE_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  await ready(child)
  const seconds = (performance.now() - startedAt) / 1_000
  // What the start needed is given back by then.
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const pssMb = (await pssOf(await descendants(child.pid!), home)) / 1_024
  child.kill('SIGTERM')
  await once(child, 'exit')
  return { seconds, pssMb }
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    const hear = (chunk: Buffer) => {
      text += chunk.toString()
      if (text.includes('is ready at')) resolve()
    }
    child.stdout!.on('data', hear)
    child.stderr!.on('data', hear)
    child.once('exit', (code) => reject(new Error(`sluice dev ended with ${code}: ${text}`)))
  })
}

async function descendants(pid: number): Promise<Set<number>> {
  const parents = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const text = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    parents.set(Number(entry), Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]))
  }
  const found = new Set([pid])
  for (let before = 0; before !== found.size; ) {
    before = found.size
    for (const [child, parent] of parents) if (found.has(parent)) found.add(child)
  }
  return found
}

/** Kilobytes; the server is found by its folder too, since it may outlive whoever started it. */
async function pssOf(pids: Set<number>, home: string): Promise<number> {
  const postmaster = await readFile(join(home, 'postgres/data/postmaster.pid'), 'utf8').catch(() => '')
  if (postmaster) for (const pid of await descendants(Number(postmaster.split('\n')[0]))) pids.add(pid)
  let total = 0
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
    total += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0)
  }
  return total
}
