/** The server's main process: told from its pid file, started, awaited, stopped. */
import { execFile, spawn } from 'node:child_process'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { SluiceError } from '../errors.ts'
import type { Binaries } from './binaries.ts'
import { nameOfDataDir, type ServerUser } from './unprivileged.ts'

export interface Postmaster {
  readonly pid: number
  readonly socketDir: string
  /** As the server writes it: `starting`, `ready`, `stopping`. */
  readonly status: string
}

const lookEveryMs = 5

/** The lines of postmaster.pid: pid, data folder, start, port, socket folder, address, shared memory, status. */
export function readPidFile(text: string): Postmaster | undefined {
  const [pid, , , , socketDir, , , status] = text.split('\n').map((line) => line.trim())
  if (!pid || !/^\d+$/.test(pid)) return undefined
  return { pid: Number(pid), socketDir: socketDir ?? '', status: status ?? '' }
}

/**
 * The server that runs on this folder. A pid file whose process is gone, or whose pid now belongs to something else, is
 * removed: after a reboot PostgreSQL itself would take a foreign process of the same user for the old server and not start.
 * Only for callers that hold the starting lock.
 */
export async function findPostmaster(dataDir: string): Promise<Postmaster | undefined> {
  const file = join(dataDir, 'postmaster.pid')
  const text = await readFile(file, 'utf8').catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'ENOENT') return undefined
    throw thrown
  })
  if (text === undefined) return undefined
  const found = readPidFile(text)
  if (found === undefined) return undefined
  const command = await commandOf(found.pid)
  // Its socket folder belongs to this data alone and is an argument of the process.
  if (command.includes(`unix_socket_directories=${found.socketDir}`)) return found
  // Between its first and last line the file names no socket folder yet.
  if (found.socketDir === '' && command.includes('unix_socket_directories=')) return found
  await rm(file, { force: true })
  return undefined
}

/** The command line of a process; empty when there is none (or only its unburied remains). */
async function commandOf(pid: number): Promise<string> {
  if (process.platform === 'linux') {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
  }
  const listed = await promisify(execFile)('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => undefined)
  return listed?.stdout ?? ''
}

/** What a laptop wants: no TCP port, little memory, few processes, and heavy inserts without a checkpoint every few seconds. */
function settingsOf(socketDir: string, extra: Readonly<Record<string, string>>): string[] {
  const settings = {
    listen_addresses: '',
    unix_socket_directories: socketDir,
    unix_socket_permissions: '0700',
    max_connections: '100',
    shared_buffers: '128MB',
    huge_pages: 'off',
    wal_buffers: '16MB',
    max_wal_size: '2GB',
    min_wal_size: '128MB',
    checkpoint_timeout: '15min',
    // Measured, 20,000 random updates after a checkpoint: off 202 ms and 41 MB of WAL, pglz 489 ms and 17 MB; lz4 is not built in.
    wal_compression: 'off',
    // Nobody replicates from here; no senders, no launcher, less WAL for bulk loads.
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_logical_replication_workers: '0',
    // Reads come from memory nearly always: three processes less.
    io_method: 'sync',
    jit: 'off',
    random_page_cost: '1.1',
    // Time partitions: a statement may touch many tables.
    max_locks_per_transaction: '256',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    // Row values and statements stay out of the log.
    log_error_verbosity: 'terse',
    log_min_error_statement: 'panic',
    log_min_messages: 'error',
    ...extra,
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

export interface Launch {
  readonly binaries: Binaries
  readonly dataDir: string
  readonly socketDir: string
  readonly user: ServerUser | undefined
  readonly logFile: string
  readonly settings: Readonly<Record<string, string>>
}

/**
 * Starts the server in a session of its own, so that a Ctrl-C in the terminal does not reach it before we stop it, and
 * waits until it takes connections (recovery after a crash included).
 * @throws SluiceError DATABASE_UNREACHABLE with the end of the server's log when it ends instead; STORAGE_FULL
 */
export async function launchPostmaster(launch: Launch): Promise<Postmaster> {
  const { binaries, dataDir, socketDir, user, logFile, settings } = launch
  const log = await open(logFile, 'a', 0o600)
  try {
    const logged = (await log.stat()).size
    const child = spawn(binaries.postgres, ['-D', nameOfDataDir(dataDir, user), ...settingsOf(socketDir, settings)], {
      cwd: dataDir,
      env: binaries.env,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      ...user,
    })
    child.unref()
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message))
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
    })
    for (;;) {
      const end = await Promise.race([ended, delay(lookEveryMs)])
      if (end !== undefined) throw await failedStart(dataDir, end, logFile, logged)
      const present = readPidFile(await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => ''))
      if (present?.pid === child.pid && present?.status === 'ready') return present
    }
  } finally {
    await log.close()
  }
}

/** What the programs of the server say of a full disk (ENOSPC, EDQUOT), in the language of our locale, which is C. */
export function saysFull(text: string): boolean {
  return /No space left on device|Disk quota exceeded/.test(text)
}

async function failedStart(dataDir: string, end: string, logFile: string, from: number): Promise<SluiceError> {
  const said = (await readFile(logFile)).subarray(from).toString('utf8').trim().split('\n').slice(-5).join('\n')
  if (saysFull(said)) {
    return new SluiceError('STORAGE_FULL', `PostgreSQL did not start on ${dataDir}: there is no room left on its disk`)
  }
  return new SluiceError('DATABASE_UNREACHABLE', `PostgreSQL did not start on ${dataDir} (${end}): ${said}`)
}

/** Fast shutdown; when it takes over 30 s the immediate one (the next start recovers); at last the kernel's. */
export async function stopPostmaster(dataDir: string, pid: number): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', 30_000],
    ['SIGQUIT', 5_000],
    ['SIGKILL', 5_000],
  ] as const) {
    try {
      process.kill(pid, signal)
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ESRCH') return
      throw thrown
    }
    if (await hasEnded(dataDir, pid, waitMs)) return
  }
  throw new SluiceError('DATABASE_IN_USE', `PostgreSQL with pid ${pid} on ${dataDir} does not end`)
}

async function hasEnded(dataDir: string, pid: number, waitMs: number): Promise<boolean> {
  for (let waited = 0; waited < waitMs; waited += lookEveryMs) {
    // It removes its pid file as its last act but leaving; a killed one leaves the file.
    const left = await stat(join(dataDir, 'postmaster.pid')).then(
      () => false,
      () => true,
    )
    if ((left || waited % 500 === 0) && (await commandOf(pid)) === '') return true
    await delay(lookEveryMs)
  }
  return false
}
