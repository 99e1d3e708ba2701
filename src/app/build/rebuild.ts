/** Makes a version of a project's definitions; its rules are those of `build.ts`. */
import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { stop } from 'esbuild'
import type { Manifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import type { ProjectConfig } from '../../sdk/config.ts'
import { type Bundle, bundle } from './bundle.ts'
import { type Entry, type EvaluateOptions, evaluate } from './evaluate.ts'
import { recordInputs, writeRecord } from './last-build.ts'
import {
  checkProjectConfig,
  configFile,
  findDefinitionFiles,
  findLockFile,
  findNodeModules,
  fingerprint,
} from './project-files.ts'
import type { Settled, Version } from './version.ts'

let active = 0

/** Bundles and asks, whatever was there before; see `build.ts`. The bundler's process is not kept. */
export async function rebuild(settled: Settled): Promise<Version> {
  active += 1
  try {
    return await makeVersion(settled)
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
  const files = await findDefinitionFiles(projectDir, project.definitions)
  const bundled = await bundleTwice(projectDir, files, versions)
  const hash = await hashOf(bundled, findLockFile(projectDir))
  const folder = join(versions, hash)
  await place(bundled, folder, versions)
  const entries = bundled.entries.filter(({ module }) => bundled.files.has(module))
  const { described, files: sound } = await evaluateDefinitions(folder, entries, settled)
  const manifest: Manifest = {
    format: 1,
    hash,
    entries: entries.filter(({ file }) => sound.includes(file)),
    ...described,
    faults: [...bundled.faults, ...described.faults],
  }
  await replaceFile(join(folder, 'manifest.json'), JSON.stringify(manifest))
  if (manifest.faults.length === 0) {
    await writeRecord(
      versions,
      { hash, project, files, inputs: await recordInputs(projectDir, bundled.inputs) },
      projectDir,
    )
  }
  return { manifest, folder, project }
}

async function evaluateDefinitions(folder: string, entries: readonly Entry[], options: EvaluateOptions) {
  const told = await evaluate({ what: 'definitions', folder, entries }, options)
  if ('described' in told) return told
  throw new SluiceError('INTERNAL', 'The definitions were answered with settings')
}

async function readProject(settled: Settled): Promise<Required<ProjectConfig>> {
  const { projectDir, versions } = settled
  const yaml = ['sluice.config.yaml', 'sluice.config.yml'].find((name) => existsSync(join(projectDir, name)))
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

async function bundleTwice(projectDir: string, files: readonly string[], versions: string): Promise<Bundle> {
  const [first, second] = await Promise.all([
    bundle(projectDir, files, temporary(versions)),
    bundle(projectDir, files, join(temporary(versions), 'again')),
  ])
  const differs = [...first.files].find(([path, text]) => second.files.get(path) !== text)
  if (differs !== undefined || first.files.size !== second.files.size) {
    throw new SluiceError(
      'BUILD_NOT_REPRODUCIBLE',
      `Bundled twice, ${differs?.[0] ?? 'the list of files'} was not the same`,
    )
  }
  return first
}

async function hashOf({ files }: Bundle, lockFile: string | undefined): Promise<string> {
  const hash = createHash('sha256')
  hash.update(`node ${process.versions.node.split('.')[0]} ${process.arch}\n`)
  hash.update(`lock ${lockFile === undefined ? 'none' : await fingerprint(lockFile)}\n`)
  for (const [path, text] of files) if (path.endsWith('.js')) hash.update(`${path} ${Buffer.byteLength(text)}\n${text}`)
  return hash.digest('hex')
}

/** Same code, same folder: only the source maps can differ, when nothing but comments changed. */
async function place(bundled: Bundle, folder: string, versions: string): Promise<void> {
  if (existsSync(folder)) {
    for (const [path, text] of bundled.files) if (path.endsWith('.map')) await replaceFile(join(folder, path), text)
    return
  }
  const fresh = temporary(versions)
  await writeBundle(bundled, fresh)
  await rename(fresh, folder).catch(async (thrown: NodeJS.ErrnoException) => {
    await rm(fresh, { recursive: true, force: true })
    // Another build of the same came first.
    if (thrown.code !== 'ENOTEMPTY' && thrown.code !== 'EEXIST') throw thrown
  })
}

async function writeBundle({ files }: Bundle, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'package.json'), '{"type":"module"}\n')
  for (const [path, text] of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
}

async function replaceFile(file: string, text: string): Promise<void> {
  const fresh = `${file}.${randomUUID()}`
  await writeFile(fresh, text)
  await rename(fresh, file)
}

/** Bare imports of a bundle resolve through this link, wherever the home is. */
async function linkPackages(projectDir: string, versions: string): Promise<void> {
  const target = findNodeModules(projectDir)
  const link = join(versions, 'node_modules')
  if ((await readlink(link).catch(() => undefined)) === target) return
  const fresh = temporary(versions)
  await symlink(target, fresh, 'junction')
  await rename(fresh, link)
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
