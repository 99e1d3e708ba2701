/** Makes a version of a project's definitions; its rules are those of `build.ts`. */
import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join, posix, relative } from 'node:path'
import { stop } from 'esbuild'
import type { Manifest } from '../../core/manifest.ts'
import { type Fault, SluiceError } from '../../errors.ts'
import type { ProjectConfig } from '../../sdk/config.ts'
import { bundle } from './bundle.ts'
import { type Composed, compose, writeBundle } from './compose.ts'
import { evaluate } from './evaluate.ts'
import { recordInputs, writeRecord } from './last-build.ts'
import { linkPackages } from './link-packages.ts'
import {
  checkProjectConfig,
  configFile,
  configFilesInYaml,
  findDefinitionFiles,
  findLockFile,
  fingerprint,
} from './project-files.ts'
import { readStill } from './read-still.ts'
import type { Settled, Version } from './version.ts'

let active = 0

/** Bundles and asks, whatever was there before; see `build.ts`. The bundler's process is not kept. */
export function rebuild(settled: Settled): Promise<Version> {
  return bundling(() => makeVersion(settled))
}

/** The settings alone, of `sluice.config.ts`. @throws SluiceError CONFIGURATION */
export function readSettings(settled: Settled): Promise<Required<ProjectConfig>> {
  return bundling(async () => {
    await linkPackages(settled.projectDir, settled.versions)
    return readProject(settled)
  })
}

async function bundling<T>(work: () => Promise<T>): Promise<T> {
  active += 1
  try {
    return await work()
  } finally {
    active -= 1
    if (active === 0) await stop()
  }
}

async function makeVersion(settled: Settled): Promise<Version> {
  const { projectDir, versions } = settled
  await removeLeftovers(versions)
  await linkPackages(projectDir, versions)
  const project = await readProject(settled)
  const read = await readStill({
    find: () => findDefinitionFiles(projectDir, project.definitions),
    bundle: (files, again) =>
      bundle(projectDir, files, again ? join(temporary(versions), 'again') : temporary(versions)),
    fingerprints: (paths) => recordInputs(projectDir, paths),
  })
  const fresh = temporary(versions)
  try {
    const made = await compose(settled, read, fresh)
    const lock = findLockFile(projectDir)
    const hash = await hashOf(fresh, made, lock === undefined ? null : await fingerprint(lock))
    const folder = join(versions, hash)
    const manifest: Manifest = { format: 1, hash, ...made.manifest }
    await writeFile(join(fresh, 'manifest.json'), JSON.stringify(manifest))
    await place(fresh, folder)
    if (manifest.faults.length === 0)
      await writeRecord(versions, { hash, project, files: read.files, inputs: read.inputs }, projectDir)
    return { manifest, folder, project, inputs: [...Object.keys(read.inputs), ...manifest.faults.flatMap(pathsOf)] }
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
}

/** Where mending a fault may begin: the file that it is in, and the one that it misses. */
function pathsOf({ where, message }: Fault): string[] {
  const file = where.replace(/(:\d+)*$/, '')
  const missing = /^Could not resolve "(\.[^"]+)"/.exec(message)?.[1]
  return [file, ...(missing === undefined ? [] : [posix.join(posix.dirname(file), missing)])]
}

/** sha256 over code, what it says, lock file, Node's major version and architecture. */
async function hashOf(folder: string, { code, manifest }: Composed, lock: string | null): Promise<string> {
  const hash = createHash('sha256')
  hash.update(`node ${process.versions.node.split('.')[0]} ${process.arch}\n`)
  hash.update(`lock ${lock ?? 'none'}\n`)
  for (const path of [...code].sort()) {
    const bytes = await readFile(join(folder, path))
    hash.update(`${path} ${bytes.length}\n`).update(bytes)
  }
  // Code may say other things in other surroundings: a package that is missing, a file that it reads.
  const { faults, kept, ...said } = manifest
  return hash.update(JSON.stringify(said)).digest('hex')
}

/** Same code, same folder: only the source maps can differ, when nothing but comments changed. */
async function place(fresh: string, folder: string): Promise<void> {
  try {
    await rename(fresh, folder)
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    // Another build of the same came first.
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw thrown
    for (const entry of await readdir(fresh, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      const file = join(entry.parentPath, entry.name)
      const to = join(folder, relative(fresh, file))
      await mkdir(dirname(to), { recursive: true })
      await rename(file, to)
    }
    await utimes(folder, new Date(), new Date())
  }
}

async function readProject(settled: Settled): Promise<Required<ProjectConfig>> {
  const { projectDir, versions } = settled
  const yaml = configFilesInYaml.find((name) => existsSync(join(projectDir, name)))
  if (yaml !== undefined) {
    throw new SluiceError('CONFIGURATION', `${yaml}: settings in YAML are not built yet; write ${configFile}`)
  }
  if (!existsSync(join(projectDir, configFile))) return checkProjectConfig({})
  const folder = temporary(versions)
  try {
    const bundled = await bundle(projectDir, [configFile], folder)
    await writeBundle(bundled, folder)
    const told = await evaluate({ what: 'config', folder, entries: bundled.entries }, settled)
    const faults = [...bundled.faults, ...('config' in told ? told.faults : [])]
    if (faults.length > 0) {
      const detail = faults.map(({ where, message }) => `${where} ${message}`).join('; ')
      throw new SluiceError('CONFIGURATION', detail, { faults })
    }
    return checkProjectConfig('config' in told ? told.config : {})
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function temporary(versions: string): string {
  return join(versions, `.building-${randomUUID()}`)
}

/** What a killed build left behind more than an hour ago. */
async function removeLeftovers(versions: string): Promise<void> {
  for (const name of await readdir(versions)) {
    if (!name.startsWith('.building-')) continue
    const { mtimeMs } = await stat(join(versions, name)).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }))
    if (mtimeMs < Date.now() - 3_600_000) await rm(join(versions, name), { recursive: true, force: true })
  }
}
