/** What processes weigh, from /proc (Linux). */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Memory {
  /** Kilobytes of proportional set size: Sluice's own processes, and the embedded PostgreSQL's. */
  readonly sluiceKb: number
  readonly postgresKb: number
}

/** All processes below `pid`, and the server of `home`, which can outlive whoever started it. */
export async function memoryOf(pid: number, home: string): Promise<Memory> {
  const parents = await readParents()
  const postmaster = await readFile(join(home, 'postgres/data/postmaster.pid'), 'utf8').catch(() => '')
  const server = postmaster ? below(Number(postmaster.split('\n')[0]), parents) : new Set<number>()
  const own = below(pid, parents)
  for (const id of server) own.delete(id)
  return { sluiceKb: await pssOf(own), postgresKb: await pssOf(server) }
}

/** Kilobytes of proportional set size of one process. */
export function memoryOfProcess(pid: number): Promise<number> {
  return pssOf(new Set([pid]))
}

/** Kilobytes of proportional set size of a process and all below it. */
export async function memoryBelow(pid: number): Promise<number> {
  return pssOf(below(pid, await readParents()))
}

async function readParents(): Promise<Map<number, number>> {
  const parents = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const text = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    parents.set(Number(entry), Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]))
  }
  return parents
}

function below(pid: number, parents: ReadonlyMap<number, number>): Set<number> {
  const found = new Set([pid])
  for (let before = 0; before !== found.size; ) {
    before = found.size
    for (const [child, parent] of parents) if (found.has(parent)) found.add(child)
  }
  return found
}

async function pssOf(pids: ReadonlySet<number>): Promise<number> {
  let total = 0
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
    total += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0)
  }
  return total
}
