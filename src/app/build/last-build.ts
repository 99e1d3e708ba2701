/** A note of the last build without faults, by which the next one sees that nothing has changed. */
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import type { ProjectConfig } from '../../sdk/config.ts'
import { fromSources, packageFolder } from '../own-process.ts'
import { configFile, findDefinitionFiles, findLockFile, findNodeModules, fingerprint } from './project-files.ts'

export interface BuildRecord {
  readonly hash: string
  readonly project: Required<ProjectConfig>
  /** The definition files. */
  readonly files: readonly string[]
  /** Fingerprint by path, relative to the project; null where there was no file. */
  readonly inputs: { readonly [path: string]: string | null }
}

const recordFile = (versions: string) => join(versions, 'last-build.json')

/** Undefined where there is none, or only a part of one: a machine may go down while it is written. */
async function readNote(versions: string): Promise<(BuildRecord & { platform: string }) | undefined> {
  try {
    return JSON.parse(await readFile(recordFile(versions), 'utf8')) as BuildRecord & { platform: string }
  } catch {
    return undefined
  }
}

/** Gives the note if everything it speaks of is still as it was. */
export async function readRecord(projectDir: string, versions: string): Promise<BuildRecord | undefined> {
  const note = await readNote(versions)
  if (note === undefined) return undefined
  const { platform, ...record } = note
  if (platform !== (await platformOf(projectDir))) return undefined
  const files = await findDefinitionFiles(projectDir, record.project.definitions)
  if (files.join('\n') !== record.files.join('\n')) return undefined
  const now = await fingerprints(projectDir, Object.keys(record.inputs))
  return Object.entries(record.inputs).every(([path, before]) => now[path] === before) ? record : undefined
}

const deployedFile = (versions: string) => join(versions, 'deployed.json')

/** For commands without a database: which version this machine deployed last. */
export async function noteDeployed(versions: string, hash: string): Promise<void> {
  const fresh = `${deployedFile(versions)}.${randomUUID()}`
  await writeFile(fresh, JSON.stringify({ hash }))
  await rename(fresh, deployedFile(versions))
}

export async function lastDeployed(versions: string): Promise<string | undefined> {
  try {
    return (JSON.parse(await readFile(deployedFile(versions), 'utf8')) as { readonly hash: string }).hash
  } catch {
    return undefined
  }
}

export async function writeRecord(versions: string, record: BuildRecord, projectDir: string): Promise<void> {
  const fresh = `${recordFile(versions)}.${randomUUID()}`
  await writeFile(fresh, JSON.stringify({ platform: await platformOf(projectDir), ...record }))
  await rename(fresh, recordFile(versions))
}

/** Of the given files, and of what decides how they are bundled and hashed, present or not. */
export function recordInputs(projectDir: string, paths: readonly string[]): Promise<BuildRecord['inputs']> {
  const lock = findLockFile(projectDir)
  const deciding = [configFile, 'sluice.config.yaml', 'sluice.config.yml', 'tsconfig.json', 'package.json']
  return fingerprints(projectDir, [...paths, ...deciding, ...(lock === undefined ? [] : [relative(projectDir, lock)])])
}

async function fingerprints(projectDir: string, paths: readonly string[]): Promise<BuildRecord['inputs']> {
  const found = await Promise.all(
    paths.map(async (path) => [path, await fingerprint(resolve(projectDir, path))] as const),
  )
  return Object.fromEntries(found)
}

/** The project and what builds it. In the repository the sources that decide what a manifest says count, too. */
async function platformOf(projectDir: string): Promise<string> {
  const hash = createHash('sha256')
  hash.update(
    [projectDir, findLockFile(projectDir), findNodeModules(projectDir), process.versions.node, process.arch].join('\n'),
  )
  hash.update(await readFile(join(packageFolder, 'package.json')))
  if (fromSources) {
    for (const folder of ['src/sdk', 'src/core', 'src/app', 'src/app/build', 'src/app/build/yaml']) {
      const names = (await readdir(join(packageFolder, folder))).filter((name) => name.endsWith('.ts')).sort()
      for (const name of names) hash.update(name).update(await readFile(join(packageFolder, folder, name)))
    }
  }
  return hash.digest('hex')
}
