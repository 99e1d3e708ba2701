/**
 * Starts and watches the processes of one machine: the embedded PostgreSQL (unless a server is given), the engine with
 * its runners, the shard processes, and the serving process. Processes load their code while the database starts.
 *
 * 1. One supervisor per home: a second one is refused while the first lives. Processes of one that was killed have ended
 *    before those of the next begin to work.
 * 2. Stopping goes against the flow of work: first what lets work in, then what does it (runs and streams at once), at last
 *    the database. A group takes 25 s at most, the database 40 s: 90 s in all.
 */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf, SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import { isComingBack } from '../postgres/connection-failure.ts'
import { type EmbeddedServer, startEmbedded } from '../postgres/embedded.ts'
import { tryLock } from '../postgres/kernel-lock.ts'
import { openDatabase } from '../postgres/pool.ts'
import { migrate } from '../store/migrate.ts'
import { ensureTopic } from '../store/topics.ts'
import { deployedVersion, deployVersion } from '../store/versions.ts'
import { migrateAll, migrationFolders } from './app-migrations.ts'
import { build, type Version } from './build/build.ts'
import { noteDeployed } from './build/last-build.ts'
import { Child, type Role } from './child.ts'
import type { Orders } from './child-process.ts'
import { type Config, childEnvironment } from './config.ts'
import { FollowFiles } from './follow-files.ts'
import { StartedProcesses } from './started-processes.ts'

/** Those of one group stop at once: neither of the engine and the shards needs the other to end its work. */
const stopOrder: readonly (readonly Role[])[] = [['serving'], ['engine', 'shard']]

/** How long a start waits for a database that was there before. */
const longestOutageMs = 30_000

export type SupervisedRole = 'api' | 'engine' | 'worker' | 'stream'

export interface SupervisorOptions {
  readonly projectDir: string
  readonly config: Config
  readonly roles: ReadonlySet<SupervisedRole>
  /** Builds again when a definition file changes. */
  readonly watch: boolean
  readonly log: (line: string) => void
}

export interface Supervisor {
  /** Where the API is; the empty text when it does not run here. */
  readonly url: string
  stop(): Promise<void>
}

/** @throws SluiceError CONFLICT (a supervisor runs on this home), CONFIGURATION, DATABASE_*, MIGRATION_FAILED, EMBEDDED_UNAVAILABLE */
export async function startSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const { config, log } = options
  await mkdir(config.home, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new SluiceError('CONFIGURATION', `SLUICE_HOME ${config.home} cannot be written: ${messageOf(cause)}`, {
      cause,
    })
  })
  const unlock = tryLock(join(config.home, 'supervisor.lock'), 'exclusive')
  if (!unlock)
    throw new SluiceError(
      'CONFLICT',
      `Sluice runs on ${config.home} already; stop it first, or use another SLUICE_HOME`,
    )
  // Of one that was killed: from now on a record is that of the supervisor that holds the lock.
  await rm(join(config.home, 'server.json'), { force: true })
  const processes = new StartedProcesses(config.home)
  const leftovers = processes.endLeftovers(log)
  const environment = childEnvironment(config, { database: true, secrets: true })
  const children = rolesOf(options).map((role) => ({
    role,
    child: new Child({
      role,
      projectDir: options.projectDir,
      environment: { ...environment },
      secrets: config.secrets.reveal(),
      log,
      processes,
    }),
  }))
  let server: EmbeddedServer | undefined
  let following: FollowFiles | undefined
  const stopAll = async () => {
    await following?.stop()
    for (const roles of stopOrder) {
      await Promise.all(children.filter(({ role }) => roles.includes(role)).map(({ child }) => child.stop()))
    }
    await rm(join(config.home, 'server.json'), { force: true })
    await server?.stop()
    unlock()
  }
  const opening = openServer(config, log).then((opened) => {
    server = opened.server
    return opened
  })
  try {
    const [{ databaseUrl }, built] = await Promise.all([
      opening,
      build({ projectDir: options.projectDir, home: config.home }),
      leftovers,
    ])
    const version = await persistently(() => withLastGood(options, databaseUrl, built))
    await persistently(() => deploy(options, databaseUrl, version))
    const orders = ordersFor(databaseUrl, version)
    const urls = await Promise.all(children.map(({ child }) => child.go(orders)))
    const url = urls.find((found) => found !== undefined) ?? ''
    await writeRecord(config.home, { url, pid: process.pid })
    if (options.watch) following = followChanges(options, databaseUrl, version, children)
    return { url, stop: stopAll }
  } catch (error) {
    for (const { child } of children) child.kill()
    // A build that failed did not wait for the server, which must not outlive us.
    await opening.catch(() => {})
    await stopAll()
    throw error
  }
}

/** Who reads it sees all of it or nothing. */
async function writeRecord(home: string, record: { readonly url: string; readonly pid: number }): Promise<void> {
  const file = join(home, 'server.json')
  await writeFile(`${file}.new`, JSON.stringify(record), { mode: 0o600 })
  await rename(`${file}.new`, file)
}

function ordersFor(databaseUrl: string, version: Version): Orders {
  return { databaseUrl, version: version.folder, project: { connections: version.project.connections } }
}

/**
 * Builds and deploys when a definition changes. Runs stay with their version; the processes that hold authors' functions
 * for all work, shards and server, are replaced in good order.
 */
function followChanges(
  options: SupervisorOptions,
  databaseUrl: string,
  first: Version,
  children: readonly { readonly role: Role; readonly child: Child }[],
): FollowFiles {
  const { projectDir, config, log } = options
  let [built, current] = [first, first]
  return new FollowFiles({
    projectDir,
    built: () => ({ definitions: built.project.definitions, inputs: built.inputs }),
    note: log,
    async onChange() {
      built = await build({ projectDir, home: config.home, lastGood: current.manifest.hash })
      const [before, next] = [current, built]
      const same = next.manifest.hash === before.manifest.hash
      if (same && JSON.stringify(next.manifest.faults) === JSON.stringify(before.manifest.faults)) return
      await persistently(() => deploy(options, databaseUrl, next))
      current = next
      if (before.manifest.faults.length > 0 && next.manifest.faults.length === 0) log('the definitions are sound again')
      if (same) return
      const orders = ordersFor(databaseUrl, next)
      const holders = children.filter(({ role }) => role !== 'engine')
      await Promise.all(holders.map(({ child }) => child.replace(orders)))
      log(`version ${next.manifest.hash.slice(0, 12)} takes new work now`)
    },
  })
}

function rolesOf({ roles, config }: SupervisorOptions): Role[] {
  if (roles.has('worker') && !roles.has('engine')) {
    throw new SluiceError(
      'CONFIGURATION',
      'a worker apart from the engine is not built yet; an engine brings its own runners',
    )
  }
  return [
    ...(roles.has('engine') ? (['engine'] as const) : []),
    ...(roles.has('api') ? (['serving'] as const) : []),
    ...(roles.has('stream') ? Array.from({ length: config.shardProcesses }, () => 'shard' as const) : []),
  ]
}

async function openServer(
  config: Config,
  log: (line: string) => void,
): Promise<{ databaseUrl: string; server: EmbeddedServer | undefined }> {
  const server =
    config.databaseUrl === undefined ? await startEmbedded({ home: config.home, log, keepUp: true }) : undefined
  const databaseUrl = config.databaseUrl ?? server!.url
  try {
    // Of our own server we know that it comes back, whatever it says; yours has to say so itself.
    const passes = server === undefined ? isComingBack : isUnreachable
    await persistently(() => withDatabase(databaseUrl, (db) => migrate(db)), passes)
  } catch (error) {
    await server?.stop()
    throw error
  }
  return { databaseUrl, server }
}

/** Files that are wrong stay as they are in the version that is deployed. */
async function withLastGood(
  { projectDir, config }: SupervisorOptions,
  databaseUrl: string,
  built: Version,
): Promise<Version> {
  if (built.manifest.faults.length === 0) return built
  const lastGood = await withDatabase(databaseUrl, deployedVersion)
  return lastGood === undefined ? built : build({ projectDir, home: config.home, lastGood })
}

/** The tables of apps come first. Faults of definition files are told, not fatal: the other files go on. */
async function deploy(
  { projectDir, log }: SupervisorOptions,
  databaseUrl: string,
  { folder, manifest, project }: Version,
): Promise<void> {
  for (const { where, message } of manifest.faults) log(`${where}: ${message}`)
  for (const { file, version } of manifest.kept ?? []) {
    log(`${file} stays as it was last good, in version ${version.slice(0, 12)}, until it is mended`)
  }
  const folders = migrationFolders(projectDir, project)
  await withDatabase(databaseUrl, async (db) => {
    for (const { scope, name } of await migrateAll(db, folders)) log(`applied the migration ${scope}/${name}`)
    await deployVersion(db, manifest)
    for (const { name, partitions } of manifest.topics) await ensureTopic(db, name, partitions)
  })
  await noteDeployed(dirname(folder), manifest.hash)
}

const isUnreachable = (thrown: unknown): boolean =>
  thrown instanceof SluiceError && thrown.code === 'DATABASE_UNREACHABLE'

/** A server that was there a moment ago, and dies now, is there again soon. */
async function persistently<T>(work: () => Promise<T>, passes = isUnreachable): Promise<T> {
  const giveUpAt = performance.now() + longestOutageMs
  for (;;) {
    try {
      return await work()
    } catch (thrown) {
      if (!passes(thrown) || performance.now() > giveUpAt) throw thrown
      await delay(100)
    }
  }
}

async function withDatabase<T>(url: string, work: (db: Database) => Promise<T>): Promise<T> {
  const db = openDatabase({ url, applicationName: 'sluice supervisor', max: 1 })
  try {
    return await work(db)
  } finally {
    await db.close()
  }
}
