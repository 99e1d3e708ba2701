/**
 * From definition files to a version: a folder with the bundle and its manifest, named by its hash.
 *
 * 1. The hash covers the code that came out and what it defines, the lock file, Node's major version and the architecture:
 *    the same hash runs the same code. It is bundled twice, into different folders, and both must give the same.
 * 2. Authors' code runs only in a child process that has no secret (`evaluate.ts`).
 * 3. When nothing changed since the last build without faults, neither happens: comparing takes a few milliseconds.
 * 4. A version's folder appears at once, whole, and its code never changes.
 * 5. A file that is wrong stays as it was in the version that is deployed, if one is given; see `last-good.ts`.
 */
import { existsSync } from 'node:fs'
import { access, mkdir, realpath, utimes } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { messageOf, SluiceError } from '../../errors.ts'
import type { ProjectConfig } from '../../sdk/config.ts'
import { readRecord } from './last-build.ts'
import { readEarlier } from './last-good.ts'
import { checkProjectConfig, configFile, configFilesInYaml } from './project-files.ts'
import type { Settled, Version } from './version.ts'

export type { Version } from './version.ts'

export interface BuildOptions {
  readonly projectDir: string
  /** SLUICE_HOME; versions lie below `versions`. */
  readonly home: string
  /** How long importing one file may take; default 30 s. */
  readonly timeLimitMs?: number
  /**
   * The hash of the version that is deployed: a file that is wrong now stays as it is there. Default: it is left out.
   */
  readonly lastGood?: string | undefined
}

/**
 * Wrong files and definitions are faults of the manifest, not errors.
 * @throws SluiceError CONFIGURATION (`sluice.config.ts`, SLUICE_HOME), BUILD_NOT_REPRODUCIBLE
 */
export async function build(options: BuildOptions): Promise<Version> {
  const settled = await settle(options)
  return (await unchanged(settled)) ?? (await (await import('./rebuild.ts')).rebuild(settled))
}

/** The settings of a project, with defaults, without a build of its definitions. @throws SluiceError CONFIGURATION */
export async function projectSettings(options: BuildOptions): Promise<Required<ProjectConfig>> {
  const files = [configFile, ...configFilesInYaml].map((name) => join(options.projectDir, name))
  if (!files.some((file) => existsSync(file))) return checkProjectConfig({})
  return (await import('./rebuild.ts')).readSettings(await settle(options))
}

async function settle(options: BuildOptions): Promise<Settled> {
  const projectDir = await realpath(options.projectDir).catch((cause: unknown) => {
    throw new SluiceError('CONFIGURATION', `There is no folder ${options.projectDir}`, { cause })
  })
  const versions = join(resolve(options.home), 'versions')
  await mkdir(versions, { recursive: true }).catch((cause: unknown) => {
    throw new SluiceError('CONFIGURATION', `SLUICE_HOME ${options.home} cannot be written: ${messageOf(cause)}`, {
      cause,
    })
  })
  return { ...options, projectDir, versions: await realpath(versions) }
}

async function unchanged({ projectDir, versions }: Settled): Promise<Version | undefined> {
  const record = await readRecord(projectDir, versions)
  if (record === undefined) return undefined
  const folder = join(versions, record.hash)
  const earlier = await readEarlier(folder)
  if (earlier === undefined) return undefined
  try {
    await Promise.all(earlier.manifest.entries.map(({ module }) => access(join(folder, module))))
    // It is in use again: retention looks at the age of a folder.
    await utimes(folder, new Date(), new Date())
  } catch {
    return undefined
  }
  // The faults in it may be those of a file that has come and gone since: a build with faults leaves no record.
  const { kept: _, ...manifest } = earlier.manifest
  return { manifest: { ...manifest, faults: [] }, folder, project: record.project, inputs: Object.keys(record.inputs) }
}
