/** A PostgreSQL of this machine in a folder of its own, on a Unix socket in it alone. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pickUser } from '../../src/postgres/unprivileged.ts'
import type { FoundPostgres } from './found.ts'

export interface RunningPostgres {
  readonly url: string
  stop(): Promise<void>
}

/** PostgreSQL refuses to run as root. */
async function serverUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {}
  const user = pickUser(await readFile('/etc/passwd', 'utf8'))
  if (user === undefined) throw new Error('PostgreSQL does not run as root, and there is no other user')
  return user
}

export async function startPostgres({ bin }: FoundPostgres): Promise<RunningPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-pg-'))
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const user = await serverUser()
    if (user.uid !== undefined) await chown(folder, user.uid, user.gid!)
    const server = await startServer(bin, folder, user)
    return {
      url: `postgresql://postgres@localhost:5432/postgres?host=${encodeURIComponent(folder)}`,
      async stop() {
        const ended = once(server, 'exit')
        server.kill('SIGINT') // "fast": ends the sessions that are left
        await ended
        await remove()
      },
    }
  } catch (thrown) {
    await remove()
    throw thrown
  }
}

async function startServer(bin: string, folder: string, user: { uid?: number; gid?: number }): Promise<ChildProcess> {
  const data = join(folder, 'data')
  const options = { ...user, cwd: folder, stdio: 'pipe' } as const
  const cluster = ['-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync', '-D', data]
  execFileSync(join(bin, 'initdb'), cluster, options)
  const settings = { listen_addresses: '', unix_socket_directories: folder, max_connections: '200', fsync: 'off' }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  // Detached: Ctrl-C in the terminal goes to the command, which is to end before its server.
  const server = spawn(join(bin, 'postgres'), ['-D', data, ...flags], { ...options, detached: true })
  const said: string[] = []
  for await (const line of createInterface(server.stderr!)) {
    said.push(line)
    if (line.includes('ready to accept connections')) break
  }
  if (server.exitCode !== null) throw new Error(`PostgreSQL did not start:\n${said.join('\n')}`)
  server.stderr!.resume() // a full pipe would stop the server
  return server
}
