/**
 * The processes that a supervisor has started, in `<home>/processes.json`. They end by themselves when it is killed, but one
 * in a busy loop does not, nor one that was stopped: the next supervisor waits for them, and ends those that stay.
 *
 * A process is named by its id, when it began, and the machine since its start: another one that was given the same id
 * later is never touched.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { endGroup, thisHost } from './dead-neighbours.ts'

interface Started {
  readonly pid: number
  readonly began: string
}

/** For what it has under way; then it is killed. */
const waitMs = 3_000

export class StartedProcesses {
  readonly #file: string
  readonly #started: Map<number, Started>

  /** Knows those of the last supervisor. */
  constructor(home: string) {
    this.#file = join(home, 'processes.json')
    this.#started = new Map(readStarted(this.#file).map((one) => [one.pid, one]))
  }

  /** Waits for those that were known at first, and kills what is left of them, each with its group. */
  async endLeftovers(log: (line: string) => void): Promise<void> {
    const left = [...this.#started.values()]
    const giveUpAt = performance.now() + waitMs
    for (const one of left) {
      for (let told = false; isSame(one); await delay(10)) {
        if (performance.now() < giveUpAt) continue
        if (!told) log(`process ${one.pid} of a Sluice that was killed is still there; it is killed`)
        told = true
        endGroup(one.pid)
      }
      this.#started.delete(one.pid)
    }
    if (left.length > 0) this.#write()
  }

  started(pid: number): void {
    const began = beganAt(pid)
    if (began === undefined) return
    this.#started.set(pid, { pid, began })
    this.#write()
  }

  ended(pid: number): void {
    if (this.#started.delete(pid)) this.#write()
  }

  #write(): void {
    const fresh = `${this.#file}.new`
    try {
      writeFileSync(fresh, JSON.stringify({ host: thisHost, processes: [...this.#started.values()] }), { mode: 0o600 })
      renameSync(fresh, this.#file)
    } catch {
      // A full disk must not keep a process from being started again.
    }
  }
}

/** None where the file is missing, was cut short, or is of another machine or another start of this one. */
function readStarted(file: string): readonly Started[] {
  try {
    const { host, processes } = JSON.parse(readFileSync(file, 'utf8')) as { host: string; processes: Started[] }
    return host === thisHost ? processes.filter(isSame) : []
  } catch {
    return []
  }
}

const isSame = ({ pid, began }: Started): boolean => beganAt(pid) === began

/** When a process began, in whatever the system tells; undefined when there is none, or only its unburied remains. */
function beganAt(pid: number): string | undefined {
  try {
    if (process.platform !== 'linux') {
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined
    }
    // The name, in brackets, may hold anything; behind it come the state (3rd) and 19 fields further the beginning (22nd).
    const [state, ...fields] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return state === 'Z' || state === 'X' ? undefined : fields[18]
  } catch {
    return undefined
  }
}
