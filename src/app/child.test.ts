import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { EngineWorld, until } from '../../test/engine-world.ts'
import { Child } from './child.ts'
import { childEnvironment, readConfig } from './config.ts'
import { StartedProcesses } from './started-processes.ts'

let world: EngineWorld
let projectDir: string
const children = new Set<Child>()
beforeEach(async () => {
  world = await EngineWorld.open()
  projectDir = await mkdtemp(join(tmpdir(), 'sluice-child-'))
})
afterEach(async () => {
  for (const child of children) await child.stop()
  children.clear()
  await world.close()
  await rm(projectDir, { recursive: true, force: true })
})

/** An engine of the world's home, whose lease nobody could wait for. */
async function startEngine(lines: string[], killAfterMs?: number): Promise<Child> {
  const home = join(world.dir, 'home')
  const config = readConfig({ SLUICE_HOME: home, SLUICE_LEASE: '10m', SLUICE_RUNNERS: '1' }, { projectDir })
  const child = new Child({
    role: 'engine',
    projectDir,
    environment: childEnvironment(config, { database: true, secrets: true }),
    secrets: [],
    log: (line) => lines.push(line),
    processes: new StartedProcesses(projectDir),
    ...(killAfterMs === undefined ? {} : { killAfterMs }),
  })
  children.add(child)
  await child.go({ databaseUrl: world.url, version: world.version.folder, project: { connections: {} } })
  return child
}

/** Nobody may have buried it yet. */
function hasEnded(pid: number): boolean {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return true
  }
}

it('a process that does not stop when it is told to is killed, and what it held is taken over at once', async () => {
  const lines: string[] = []
  const hung = await startEngine(lines, 100)
  const id = await world.start('gated', world.place('hung'))
  await world.started('hung')
  const { pid } = hung
  process.kill(pid!, 'SIGSTOP')
  await hung.stop()
  expect(lines).toContain('engine: the process has not stopped for 100 ms; it is killed')
  expect(() => process.kill(pid!, 0)).toThrow('ESRCH')
  const runner = Number(readFileSync(join(world.dir, 'hung.1.started'), 'utf8'))
  await until('its runner to go with it', () => hasEnded(runner))
  await startEngine(lines)
  await world.started('hung', 2)
  await world.go('hung')
  expect(await world.ended(id)).toBe('success')
  expect(await world.tasks(id)).toMatchObject([{ attempt: 2, losses: 1 }])
  expect(await world.breaches()).toEqual([])
})
