/**
 * Runs a command beside a PostgreSQL of this machine (never of npm): `node test/with-postgres.ts vitest run src/store`.
 * The server lives in a temporary folder and listens on a Unix socket in it alone; the command finds its address as
 * SLUICE_TEST_DATABASE_URL. It is stopped by its process id when the command ends. Without a command: says which server
 * there is. Exit codes: those of the command; 3 when there is no server.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync } from 'node:fs'
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { pickUser } from '../src/postgres/unprivileged.ts'

/** The folder of `initdb` and `postgres`: on the PATH, else the newest where Debian puts them. */
function findServer(): string | undefined {
  const debian = globSync('/usr/lib/postgresql/*/bin').sort((a, b) => Number(b.split('/')[4]) - Number(a.split('/')[4]))
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...debian]
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

/** PostgreSQL refuses to run as root. */
async function serverUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {}
  const user = pickUser(await readFile('/etc/passwd', 'utf8'))
  if (user === undefined) throw new Error('PostgreSQL does not run as root, and there is no other user')
  return user
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

async function run(command: string[], url: string): Promise<number> {
  const [program, ...args] = command
  const env = { ...process.env, SLUICE_TEST_DATABASE_URL: url }
  const child = spawn(program!, args, { stdio: 'inherit', env })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return code ?? 128 + constants.signals[signal!]
}

async function main(command: string[]): Promise<number> {
  const bin = findServer()
  if (bin === undefined) {
    console.error('There is no PostgreSQL server on this machine (on Debian: apt-get install postgresql-15)')
    return 3
  }
  const version = execFileSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' }).trim()
  console.error(`${version}, ${bin}`)
  if (command.length === 0) return 0

  const folder = await mkdtemp(join(tmpdir(), 'sluice-pg-'))
  const user = await serverUser()
  if (user.uid !== undefined) await chown(folder, user.uid, user.gid!)
  try {
    const server = await startServer(bin, folder, user)
    try {
      return await run(command, `postgresql://postgres@localhost:5432/postgres?host=${encodeURIComponent(folder)}`)
    } finally {
      server.kill('SIGINT') // "fast": ends the sessions that are left
      await once(server, 'exit')
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

process.exitCode = await main(process.argv.slice(2))
