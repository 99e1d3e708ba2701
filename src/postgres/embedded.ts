/**
 * The PostgreSQL that Sluice brings along, on a Unix socket in a private folder, with its data in `<home>/postgres/data`.
 *
 * 1. Whoever opens a home holds a shared lock on `openers.lock` as long as it uses the server; who starts or stops it holds
 *    `starting.lock` for that time. Both are the kernel's (`kernel-lock.ts`): they end with their process, however it ends.
 * 2. Everybody who opens the home shares one server: it starts with the first and stops with the last. One whose openers
 *    were killed goes on; the next to open joins it and, being the last, stops it.
 * 3. PostgreSQL itself refuses a second server on the same data, so not even a lost lock could corrupt it.
 * 4. A server is joined only after it proved over its socket that it reads this very folder.
 * 5. Who opens it with `keepUp` has it started again when its main process dies: at the same address, so that everybody's
 *    connections come back.
 */
import { mkdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { messageOf, SluiceError } from '../errors.ts'
import { type BinaryPlaces, findBinaries } from './binaries.ts'
import { ensureCluster } from './cluster.ts'
import { clientConfig } from './connection-options.ts'
import { keepUp } from './keep-up.ts'
import { type Release, tryLock } from './kernel-lock.ts'
import { findPostmaster, launchPostmaster, type Postmaster, stopPostmaster } from './postmaster.ts'
import { rotateLog } from './server-log.ts'
import { closeSocketFolder, openSocketFolder } from './socket-folder.ts'
import { chooseServerUser } from './unprivileged.ts'

export interface EmbeddedOptions {
  /** SLUICE_HOME; made when missing. */
  readonly home: string
  /** Told of what happens, a line each. */
  readonly log?: (line: string) => void
  /** Starts the server again when it has died, as long as it is open here. */
  readonly keepUp?: boolean
  /** Server settings over ours, for tests and benchmarks. */
  readonly settings?: Readonly<Record<string, string>>
  /** How long to wait for others that start or stop the server; default 60 s. */
  readonly lockWaitMs?: number
  /** Other places of the programs than the installed package and the system's cache folder. */
  readonly places?: BinaryPlaces
}

export interface EmbeddedServer {
  /** `socketDir`, `database` and `user` are options of `openDatabase`; `url` says the same in one text. */
  readonly socketDir: string
  readonly database: 'sluice'
  readonly user: 'sluice'
  readonly url: string
  readonly pid: number
  /** Whether the server ran before. */
  readonly joined: boolean
  /** Lets go of the server, and stops it when nobody else uses it. Calling it again gives the same promise. */
  stop(): Promise<void>
}

const database = 'sluice'
const user = 'sluice'

/**
 * @throws SluiceError EMBEDDED_UNAVAILABLE (no binaries, or not for this user), DATABASE_IN_USE (others start or stop it
 * for longer than `lockWaitMs`), DATABASE_UNREACHABLE (it does not start; with the end of its log), CONFIGURATION (the
 * folder belongs to another user).
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const folder = await openFolder(options.home)
  const waitMs = options.lockWaitMs ?? 60_000
  const unlock = await lockStarting(folder, waitMs)
  try {
    const leave = tryLock(join(folder, 'openers.lock'), 'shared')
    if (leave === undefined) throw inUse(folder, 'Another program locks it')
    try {
      const { server, joined } = await joinOrStart(folder, options)
      const rotation = setInterval(() => void rotateLog(logIn(folder)).catch(() => {}), 60_000)
      rotation.unref()
      const endWatch = options.keepUp ? watch(folder, server, options, waitMs) : undefined
      let stopping: Promise<void> | undefined
      return {
        socketDir: server.socketDir,
        database,
        user,
        url: `postgresql://${user}@/${database}?host=${encodeURIComponent(server.socketDir)}`,
        pid: server.pid,
        joined,
        stop: () => {
          clearInterval(rotation)
          stopping ??= (endWatch?.() ?? Promise.resolve()).then(() => leaveServer(folder, leave, waitMs))
          return stopping
        },
      }
    } catch (thrown) {
      leave()
      throw thrown
    }
  } finally {
    unlock()
  }
}

function watch(folder: string, { socketDir }: Postmaster, options: EmbeddedOptions, waitMs: number) {
  const log = options.log ?? (() => {})
  let told = false
  const start = async () => {
    const unlock = await lockStarting(folder, waitMs)
    try {
      if ((await findSettled(join(folder, 'data'))) !== undefined) return
      if (!told) log('PostgreSQL has ended; it is started again')
      told = true
      const again = await joinOrStart(folder, options)
      told = false
      if (again.server.socketDir !== socketDir)
        log(`PostgreSQL answers at ${again.server.socketDir}, no longer at ${socketDir}`)
    } finally {
      unlock()
    }
  }
  return keepUp({ config: clientConfig({ socketDir, database, user, applicationName: 'sluice watch' }), start, log })
}

const logIn = (folder: string) => join(folder, 'server.log')

function inUse(folder: string, why: string): SluiceError {
  return new SluiceError('DATABASE_IN_USE', `The database in ${folder} is in use: ${why}`)
}

async function openFolder(home: string): Promise<string> {
  try {
    await mkdir(join(home, 'postgres'), { recursive: true, mode: 0o700 })
    return await realpath(join(home, 'postgres'))
  } catch (thrown) {
    throw new SluiceError('CONFIGURATION', `SLUICE_HOME ${home} cannot be made or entered: ${messageOf(thrown)}`, {
      cause: thrown,
    })
  }
}

async function lockStarting(folder: string, waitMs: number): Promise<Release> {
  const pauseMs = 10
  for (let waited = 0; ; waited += pauseMs) {
    const release = tryLock(join(folder, 'starting.lock'), 'exclusive')
    if (release !== undefined) return release
    if (waited >= waitMs) throw inUse(folder, `another Sluice has been starting or stopping it for ${waitMs} ms`)
    await delay(pauseMs)
  }
}

async function joinOrStart(folder: string, options: EmbeddedOptions): Promise<{ server: Postmaster; joined: boolean }> {
  const dataDir = join(folder, 'data')
  const running = await enterRunning(dataDir)
  if (running !== undefined) {
    options.log?.(`joined the PostgreSQL that runs with pid ${running.pid}`)
    return { server: running, joined: true }
  }
  const serverUser = await chooseServerUser(dataDir)
  const binaries = await findBinaries({ workDir: folder, user: serverUser, ...options.places })
  await ensureCluster(dataDir, binaries, serverUser)
  await rotateLog(logIn(folder))
  const socketDir = await openSocketFolder(folder, serverUser)
  const settings = options.settings ?? {}
  const launch = { binaries, dataDir, socketDir, user: serverUser, logFile: logIn(folder), settings }
  const server = await launchAfterOrphans(launch)
  try {
    await enter(server, dataDir)
  } catch (thrown) {
    await stopPostmaster(dataDir, server.pid)
    throw thrown
  }
  options.log?.(`started PostgreSQL with pid ${server.pid}`)
  return { server, joined: false }
}

/** A server that is ready; one that is on its way up or down is waited for. */
async function findSettled(dataDir: string): Promise<Postmaster | undefined> {
  for (;;) {
    const found = await findPostmaster(dataDir)
    if (found === undefined || found.status === 'ready') return found
    await delay(10)
  }
}

/** Enters the server that runs, if one does. After the death of a session it takes no connections until it has recovered. */
async function enterRunning(dataDir: string): Promise<Postmaster | undefined> {
  for (let tries = 1; ; tries++) {
    const running = await findSettled(dataDir)
    if (running === undefined) return undefined
    try {
      await enter(running, dataDir)
      return running
    } catch (thrown) {
      const code = thrown instanceof SluiceError && (thrown.cause as { code?: unknown } | undefined)?.code
      if (code !== cannotConnectNow || tries === 600) throw thrown
      await delay(100)
    }
  }
}

/** Backends of a main process that was killed hold its memory until they notice; the server refuses to start so long. */
async function launchAfterOrphans(launch: Parameters<typeof launchPostmaster>[0]): Promise<Postmaster> {
  for (let tries = 1; ; tries++) {
    try {
      return await launchPostmaster(launch)
    } catch (thrown) {
      const orphans = thrown instanceof SluiceError && /shared memory block .* is still in use/.test(thrown.message)
      if (!orphans || tries === 50) throw thrown
      await delay(100)
    }
  }
}

/** SQLSTATE of a server that starts, recovers or stops. */
const cannotConnectNow = '57P03'

const proof = `SELECT pg_read_file('postmaster.pid') AS pid_file,
  EXISTS (SELECT FROM pg_database WHERE datname = '${database}') AS made`

/** Proves that the server reads `dataDir`, and makes the database when it is not there yet. */
async function enter(server: Postmaster, dataDir: string): Promise<void> {
  const { socketDir, pid } = server
  const client = new pg.Client(clientConfig({ socketDir, database: 'postgres', user, applicationName: 'sluice start' }))
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ pid_file: string; made: boolean }>(proof)
    if (Number.parseInt(rows[0]?.pid_file ?? '', 10) !== pid) {
      throw inUse(dataDir, `the server at ${socketDir} answers for other data`)
    }
    if (rows[0]?.made === false) await client.query(`CREATE DATABASE ${database}`)
  } catch (thrown) {
    if (thrown instanceof SluiceError) throw thrown
    const detail = `PostgreSQL runs with pid ${pid} but does not answer at ${socketDir}: ${messageOf(thrown)}`
    throw new SluiceError('DATABASE_UNREACHABLE', detail, { cause: thrown })
  } finally {
    await client.end().catch(() => {})
  }
}

async function leaveServer(folder: string, leave: Release, waitMs: number): Promise<void> {
  const unlock = await lockStarting(folder, waitMs)
  try {
    leave()
    const last = tryLock(join(folder, 'openers.lock'), 'exclusive')
    if (last === undefined) return
    try {
      // Not the one that we opened: it may have been killed since and started again by others.
      const dataDir = join(folder, 'data')
      const running = await findPostmaster(dataDir)
      if (running !== undefined) await stopPostmaster(dataDir, running.pid)
      await closeSocketFolder(folder)
    } finally {
      last()
    }
  } finally {
    unlock()
  }
}
