import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { until } from './engine-world.ts'
import { closed, freePort, listening } from './loopback.ts'

let dir: string
let home: string
const running = new Set<ChildProcess>()
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sluice-supervisor-'))
  home = join(dir, '.sluice')
  await cp(join(import.meta.dirname, 'programs/engine-project'), dir, { recursive: true })
  await symlink(join(import.meta.dirname, '../node_modules'), join(dir, 'node_modules'))
})
afterEach(async () => {
  for (const child of running) await end(child, 'SIGTERM')
})
afterAll(async () => {
  expect(processes().map((process) => process.command)).toEqual([])
  await rm(dir, { recursive: true, force: true })
})

interface Sluice {
  readonly process: ChildProcess
  readonly url: string
}

function launch(environment: Record<string, string> = {}): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../bin/sluice.mjs'), 'serve'], {
    cwd: dir,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: '0',
      SLUICE_HOME: home,
      SLUICE_RUNNERS: '1',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (part) => (text += part))
  return { child, output: () => text }
}

async function start(environment: Record<string, string> = {}): Promise<Sluice> {
  const { child, output } = launch(environment)
  await until(output, () => {
    if (child.exitCode !== null) throw new Error(output())
    return /ready at http/.test(output())
  })
  return { process: child, url: /ready at (\S+)/.exec(output())![1]! }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  process.kill(child.pid!, signal)
  await gone
}

/** Processes of this home: by their folder, and what these started. */
function processes(): { pid: number; parent: number; command: string }[] {
  const all = readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ')
      const environment = readFileSync(`/proc/${name}/environ`, 'utf8')
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))![1])
      return [{ pid: Number(name), parent, command, own: `${command} ${environment}`.includes(dir) }]
    } catch {
      return []
    }
  })
  const own = new Set(all.filter((process) => process.own).map((process) => process.pid))
  return all.filter((process) => process.command !== '' && (own.has(process.pid) || own.has(process.parent)))
}
const pidsOf = (role: string) =>
  processes()
    .filter((process) => process.command.includes(`${role}-main`))
    .map((process) => process.pid)

async function post(sluice: Sluice, workflow: string, params: object = {}): Promise<string> {
  const response = await fetch(`${sluice.url}/api/v1/workflows/${workflow}/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': randomUUID() },
    body: JSON.stringify({ params }),
  })
  const body = (await response.json()) as { id: string }
  if (!response.ok) throw new Error(JSON.stringify(body))
  return body.id
}

async function stateOf(sluice: Sluice, id: string): Promise<string> {
  const response = await fetch(`${sluice.url}/api/v1/runs/${id}`).catch(() => undefined)
  return response ? ((await response.json()) as { state: string }).state : 'unreachable'
}

const ended = (sluice: Sluice, id: string) =>
  until(`the end of ${id}`, async () => (await stateOf(sluice, id)) === 'success')
const started = (name: string, attempt = 1) =>
  until(`${name} ${attempt} to start`, () => existsSync(join(dir, `${name}.${attempt}.started`)))
const go = (name: string) => cp(join(dir, 'package.json'), join(dir, `${name}.go`))

it('processes that are killed come back, and work goes on; a runner in a busy loop does not outlive its engine', async () => {
  const sluice = await start({ PORT: String(await freePort()) })
  const gated = await post(sluice, 'gated', { dir, name: 'g' })
  // One runner for both: whatever comes after the loop would not start.
  await started('g')
  const loops = await post(sluice, 'loops', { dir, name: 'l' })
  await started('l')
  const before = {
    engine: pidsOf('engine'),
    runner: pidsOf('runner'),
    serving: pidsOf('serving'),
    shard: pidsOf('shard'),
  }
  for (const role of ['engine', 'serving', 'shard'] as const) process.kill(before[role][0]!, 'SIGKILL')
  await started('g', 2)
  await go('g')
  await ended(sluice, gated)
  await ended(sluice, loops)
  await until('the shard process', () => pidsOf('shard').length === 1)
  const now = new Set(processes().map((process) => process.pid))
  expect(
    Object.values(before)
      .flat()
      .filter((pid) => now.has(pid)),
  ).toEqual([])

  const second = launch()
  await once(second.child, 'exit')
  expect(second.output()).toContain(`Sluice runs on ${home} already`)
  expect(await stateOf(sluice, gated)).toBe('success')

  const listening = listeners(processes().map((process) => process.pid))
  expect(listening).toEqual([Number(new URL(sluice.url).port)])
})

it('killed whole and started again, it ends the runs that were under way', async () => {
  const first = await start()
  const id = await post(first, 'gated', { dir, name: 'again' })
  await started('again')
  process.kill(-first.process.pid!, 'SIGKILL')
  await once(first.process, 'exit')
  const second = await start()
  await started('again', 2)
  await go('again')
  await ended(second, id)
  await end(second.process, 'SIGTERM')
  expect(processes()).toEqual([])
})

it('a start that fails says why, and leaves nothing behind', async () => {
  const taken = createServer()
  const port = await listening(taken)
  const failures: [Record<string, string>, RegExp][] = [
    [{ PORT: String(port) }, new RegExp(`${port}`)],
    [{ SLUICE_DATABASE_URL: 'postgresql://nobody:hidden@127.0.0.1:9/none' }, /cannot be reached/],
  ]
  for (const [environment, message] of failures) {
    const { child, output } = launch(environment)
    const [code] = await once(child, 'exit')
    expect(code).not.toBe(0)
    expect(output()).toMatch(message)
    expect(output()).not.toContain('hidden')
    await until(
      () => `no process, but ${JSON.stringify(processes())}`,
      () => processes().length === 0,
    )
  }
  await closed(taken)
})

/** TCP ports that these processes listen on. */
function listeners(pids: readonly number[]): number[] {
  const inodes = new Map<string, number>()
  for (const table of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/net/${table}`, 'utf8').split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/)
      if (fields[3] === '0A') inodes.set(fields[9]!, Number.parseInt(fields[1]!.split(':')[1]!, 16))
    }
  }
  const ports = pids.flatMap((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1]
        const port = inode === undefined ? undefined : inodes.get(inode)
        return port === undefined ? [] : [port]
      })
    } catch {
      return []
    }
  })
  return [...new Set(ports)]
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
