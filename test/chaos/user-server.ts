/** A PostgreSQL of this machine in a temporary folder, as a user has one: it is stopped and killed, and started again. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { pickUser } from '../../src/postgres/unprivileged.ts'

type ServerUser = { readonly uid?: number; readonly gid?: number }

export class UserServer {
  readonly url: string
  readonly #bin: string
  readonly #folder: string
  readonly #user: ServerUser
  #process: ChildProcess | undefined

  private constructor(bin: string, folder: string, user: ServerUser) {
    this.#bin = bin
    this.#folder = folder
    this.#user = user
    this.url = `postgresql://postgres@localhost:5432/postgres?host=${encodeURIComponent(folder)}`
  }

  /** @param version such as `15`: `/usr/lib/postgresql/<version>/bin`. @throws Error when it is not installed. */
  static async make(version: string): Promise<UserServer> {
    const bin = `/usr/lib/postgresql/${version}/bin`
    if (!existsSync(join(bin, 'initdb'))) throw new Error(`there is no PostgreSQL ${version} in ${bin}`)
    const folder = await mkdtemp(join(tmpdir(), 'sluice-chaos-pg-'))
    // PostgreSQL refuses to run as root.
    const user: ServerUser = process.getuid?.() === 0 ? (pickUser(await readFile('/etc/passwd', 'utf8')) ?? {}) : {}
    if (user.uid !== undefined) await chown(folder, user.uid, user.gid!)
    const cluster = [
      '-U',
      'postgres',
      '--auth=trust',
      '--encoding=UTF8',
      '--locale=C.UTF-8',
      '-D',
      join(folder, 'data'),
    ]
    execFileSync(join(bin, 'initdb'), cluster, { ...user, cwd: folder, stdio: 'pipe' })
    const server = new UserServer(bin, folder, user)
    await server.start()
    return server
  }

  get pid(): number {
    return this.#process!.pid!
  }

  get #ended(): boolean {
    const server = this.#process
    return server === undefined || server.exitCode !== null || server.signalCode !== null
  }

  /** Processes of sessions. */
  backends(): number[] {
    return readdirSync('/proc').flatMap((name) => {
      try {
        const isSession = /^postgres: .*\[local\]/.test(readFileSync(`/proc/${name}/cmdline`, 'utf8'))
        return isSession && readFileSync(`/proc/${name}/status`, 'utf8').includes(`PPid:\t${this.pid}\n`)
          ? [Number(name)]
          : []
      } catch {
        return []
      }
    })
  }

  /** Starts it again when it has been stopped or killed: as soon as nothing of the former one is left. */
  async start(): Promise<void> {
    if (!this.#ended) await once(this.#process!, 'exit')
    for (let tries = 0; ; tries += 1) {
      const said = await this.#launch()
      if (said === undefined) return
      // Sessions of a main process that was killed hold its memory until they notice.
      if (!/still in use/.test(said) || tries === 100) throw new Error(`PostgreSQL did not start: ${said}`)
      await delay(100)
    }
  }

  /** Gives what it said instead of starting. */
  async #launch(): Promise<string | undefined> {
    const settings = {
      listen_addresses: '',
      unix_socket_directories: this.#folder,
      max_connections: '100',
      log_min_messages: 'log',
    }
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const server = spawn(join(this.#bin, 'postgres'), ['-D', join(this.#folder, 'data'), ...flags], {
      ...this.#user,
      cwd: this.#folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    })
    this.#process = server
    const said: string[] = []
    for await (const line of createInterface({ input: server.stderr! })) {
      said.push(line)
      if (/ready to accept connections/.test(line)) {
        server.stderr!.resume() // a full pipe would stop the server
        return undefined
      }
    }
    if (!this.#ended) await once(server, 'exit')
    return said.join('\n')
  }

  async remove(): Promise<void> {
    if (!this.#ended) {
      this.#process!.kill('SIGQUIT')
      await once(this.#process!, 'exit')
    }
    await rm(this.#folder, { recursive: true, force: true })
  }
}
