/** The processes of one Sluice home, as the system shows them: found by role, and killed. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const roles = ['supervisor', 'engine', 'serving', 'shard', 'runner', 'postmaster', 'backend', 'other'] as const
export type Role = (typeof roles)[number]

export interface Found {
  readonly pid: number
  readonly parent: number
  readonly role: Role
  readonly command: string
}

/** Every process that works on this home, whoever started it: by its environment, its arguments, or its parent. */
export function processesOf(home: string): Found[] {
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? lookAt(Number(name), home) : []))
  const postmaster = postmasterOf(home)
  const own = new Set(all.filter((found) => found.own || found.pid === postmaster).map(({ pid }) => pid))
  for (const { pid, parent } of all) if (own.has(parent)) own.add(pid)
  return all
    .filter(({ pid, command }) => own.has(pid) && command !== '' && pid !== process.pid)
    .map(({ pid, parent, command }) => ({ pid, parent, command, role: roleOf(pid, parent, command, postmaster) }))
}

interface Seen {
  readonly pid: number
  readonly parent: number
  readonly command: string
  readonly own: boolean
}

function lookAt(pid: number, home: string): Seen[] {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
    const own = command.includes(home) || environment.split('\0').includes(`SLUICE_HOME=${home}`)
    return [{ pid, parent, command, own }]
  } catch {
    // It has ended meanwhile, or belongs to somebody else.
    return []
  }
}

function roleOf(pid: number, parent: number, command: string, postmaster: number | undefined): Role {
  if (pid === postmaster) return 'postmaster'
  if (parent === postmaster || command.startsWith('postgres: ')) return 'backend'
  const main = /(engine|serving|shard|runner)-main/.exec(command)?.[1]
  if (main !== undefined) return main as Role
  return /(sluice\.mjs|cli\/main\.[jt]s) (serve|dev)\b/.test(command) ? 'supervisor' : 'other'
}

/** The main process of the embedded server, if it runs. */
export function postmasterOf(home: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(home, 'postgres/data/postmaster.pid'), 'utf8'), 10)
    return /postgres/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ? pid : undefined
  } catch {
    return undefined
  }
}

/** Gives whether there was such a process. */
export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  try {
    process.kill(pid, signal)
    return true
  } catch {
    return false
  }
}

/** Everything of this home, until nothing is left of it. */
export async function killAll(home: string): Promise<number> {
  let killed = 0
  for (;;) {
    const left = processesOf(home)
    if (left.length === 0) return killed
    for (const { pid } of left) if (kill(pid)) killed += 1
    await delay(5)
  }
}
