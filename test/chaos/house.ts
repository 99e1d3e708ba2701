/** The Sluice that is broken: a project of the images app and of batch work, under a supervisor that users have, too. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../loopback.ts'
import { hosts } from './catalogs.ts'
import { killAll } from './processes.ts'

const root = join(import.meta.dirname, '../..')
const bin = join(root, 'bin/sluice.mjs')
/** A start makes a cluster and a build at most. */
const startMs = 120_000

export interface HouseOptions {
  readonly originUrl: string
  /** Of a user's server; otherwise the embedded one. */
  readonly databaseUrl: string | undefined
  /** Default 10 s. */
  readonly leaseMs?: number
  /** Default 2, of which one holds the shard of the images. */
  readonly shardProcesses?: number
}

export class House {
  readonly folder: string
  readonly home: string
  readonly url: string
  readonly #environment: NodeJS.ProcessEnv
  #supervisor: ChildProcess | undefined

  private constructor(
    folder: string,
    port: number,
    { originUrl, databaseUrl, leaseMs = 10_000, shardProcesses = 2 }: HouseOptions,
  ) {
    this.folder = folder
    this.home = join(folder, '.sluice')
    this.url = `http://127.0.0.1:${port}`
    const rewrite = hosts.map((host) => ({ from: `https://${host}`, to: originUrl }))
    this.#environment = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: String(port),
      SLUICE_HOME: this.home,
      SLUICE_RUNNERS: '2',
      SLUICE_SHARD_PROCESSES: String(shardProcesses),
      SLUICE_LEASE: `${leaseMs}ms`,
      SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', timeout: '60s', rewrite }),
      ...(databaseUrl === undefined ? {} : { SLUICE_DATABASE_URL: databaseUrl }),
    }
  }

  static async make(options: HouseOptions): Promise<House> {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-chaos-'))
    for (const name of ['catalogs', 'more']) await mkdir(join(folder, name))
    await symlink(join(root, 'apps/images/workflows'), join(folder, 'images'))
    await symlink(join(root, 'test/programs/chaos-project/workflows'), join(folder, 'batch'))
    await writeFile(
      join(folder, 'sluice.config.ts'),
      "export default { definitions: ['images/*.ts', 'batch/*.ts', 'more/*.ts'] }\n",
    )
    return new House(folder, await freePort(), options)
  }

  /** The process id of the supervisor, while it lives. */
  get supervisor(): number | undefined {
    const child = this.#supervisor
    return child === undefined || child.exitCode !== null || child.signalCode !== null ? undefined : child.pid
  }

  /** What its processes have said is in `log` of its folder. */
  get log(): string {
    return join(this.folder, 'log')
  }

  /** @throws Error with what it said when it does not become ready. */
  async start(command: 'serve' | 'dev' = 'serve'): Promise<void> {
    const child = this.#spawn([command])
    this.#supervisor = child
    let said = ''
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`sluice is not ready after ${startMs} ms:\n${said}`)), startMs)
      child.stderr!.on('data', (text: string) => {
        appendFileSync(this.log, text)
        said = (said + text).slice(-4_000)
        if (!/ready at http/.test(said)) return
        clearTimeout(late)
        resolve()
      })
      child.once('exit', (code, signal) => {
        clearTimeout(late)
        reject(new Ended(`sluice serve has ended with ${signal ?? code}:\n${said}`, signal))
      })
    })
  }

  /** Waits for the end of a supervisor that was killed. */
  async gone(): Promise<void> {
    const child = this.#supervisor
    if (child !== undefined && child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }

  /** As a user stops it. Gives the exit code. */
  async stop(): Promise<number | null> {
    const child = this.#supervisor
    if (child === undefined || this.supervisor === undefined) return null
    child.kill('SIGTERM')
    await this.gone()
    return child.exitCode
  }

  /** Runs a command of the project. @throws Error with what it said when its exit code is not 0. */
  async command(...args: string[]): Promise<string> {
    const child = this.#spawn(args)
    let out = ''
    let errors = ''
    child.stdout!.on('data', (text: string) => {
      out += text
    })
    child.stderr!.on('data', (text: string) => {
      errors += text
    })
    const [code] = await once(child, 'close')
    if (code !== 0) throw new Error(`sluice ${args.join(' ')} has ended with ${code}: ${errors}`)
    return out
  }

  /** JSON of the API. @throws Error when there is no answer in time, or it is a problem. */
  async ask<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
    const send = () => fetch(this.url + path, { signal: AbortSignal.timeout(10_000), ...init })
    // The first one may go out on a connection that is kept open to a process which was killed meanwhile.
    const response = await (init.method === undefined ? send().catch(send) : send())
    const answer = (await response.json()) as Answer & { detail?: string }
    if (!response.ok) throw new Error(`${path}: ${response.status} ${answer.detail}`)
    return answer
  }

  /** Ends all that is left, and removes the folder unless it is wanted. */
  async close({ keep }: { readonly keep: boolean }): Promise<void> {
    await this.stop().catch(() => {})
    await killAll(this.home)
    if (!keep) await rm(this.folder, { recursive: true, force: true })
  }

  #spawn(args: readonly string[]): ChildProcess {
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: this.folder,
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, as a terminal gives it.
      detached: true,
    })
    for (const output of [child.stdout, child.stderr]) output!.setEncoding('utf8')
    return child
  }
}

export class Ended extends Error {
  readonly signal: NodeJS.Signals | null
  constructor(message: string, signal: NodeJS.Signals | null) {
    super(message)
    this.signal = signal
  }
}

/** Asks until there is an answer that is wanted. What is thrown counts as none. @throws Error after `limitMs`. */
export async function until<Answer>(
  what: string,
  ask: () => Promise<Answer>,
  wanted: (answer: Answer) => boolean,
  limitMs: number,
): Promise<Answer> {
  const giveUpAt = performance.now() + limitMs
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (wanted(answer)) return answer
      last = answer
    } catch (thrown) {
      last = thrown instanceof Error ? thrown.message : thrown
    }
    if (performance.now() > giveUpAt)
      throw new Error(`${what}: not within ${limitMs} ms; last: ${JSON.stringify(last)?.slice(0, 2_000)}`)
    await delay(50)
  }
}
