/** The files of a project that a build reads, and its settings in `sluice.config.ts`. */

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join, parse, sep } from 'node:path'
import { z } from 'zod'
import { faultsOf } from '../../core/input-faults.ts'
import { inOneLine, SluiceError } from '../../errors.ts'
import type { ProjectConfig } from '../../sdk/config.ts'
import { packageFolder } from '../own-process.ts'

export const configFile = 'sluice.config.ts'
/** Not read yet, and refused. */
export const configFilesInYaml = ['sluice.config.yaml', 'sluice.config.yml']
const lockFiles = ['package-lock.json', 'npm-shrinkwrap.json', 'pnpm-lock.yaml', 'yarn.lock', 'bun.lock']

const inside = z
  .string()
  .min(1)
  .refine(
    (text) => !text.startsWith('/') && !text.split('/').includes('..'),
    'a glob inside the project, such as workflows/*.ts',
  )

function appNameFault(name: string): string | undefined {
  if (name === 'sluice') return 'sluice is the name of the platform; give the app another'
  if (name.length <= 60 && /^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$/.test(name)) return undefined
  return 'the name of an app is a-z, 0-9 and single - or _ inside, starting with a letter, at most 60 characters'
}

const folder = z
  .string()
  .refine(
    (text) => text !== '' && !text.startsWith('/') && !text.split('/').includes('..'),
    'a folder inside the project, such as apps/stats/migrations',
  )

const projectConfig = z.strictObject({
  definitions: z.array(inside).min(1).max(100).default(['workflows/*.ts', 'workflows/*.yaml', 'workflows/*.yml']),
  connections: z.record(z.string(), z.looseObject({ kind: z.string().min(1) })).default({}),
  migrations: z
    .record(z.string(), folder)
    .superRefine((apps, context) => {
      for (const name of Object.keys(apps)) {
        const message = appNameFault(name)
        if (message !== undefined) context.addIssue({ code: 'custom', path: [name], message })
      }
    })
    .default({}),
})

/** With defaults. @throws SluiceError CONFIGURATION naming the setting and what is allowed. */
export function checkProjectConfig(given: unknown): Required<ProjectConfig> {
  const parsed = projectConfig.safeParse(given ?? {})
  if (parsed.success) return parsed.data
  const faults = faultsOf(parsed.error, `${configFile} `)
  throw new SluiceError('CONFIGURATION', inOneLine(faults), { faults })
}

/** Definition files, sorted, relative to the project with `/`. Tests and declarations are none. */
export async function findDefinitionFiles(projectDir: string, globs: readonly string[]): Promise<string[]> {
  const exclude = (name: string) => /(^|[\\/])(node_modules|\.[^\\/.][^\\/]*)$/.test(name)
  const found = new Set<string>()
  for await (const file of glob([...globs], { cwd: projectDir, exclude })) {
    if (/\.([cm]?[jt]sx?|ya?ml)$/.test(file) && !/\.(test|spec|d)\.[cm]?[jt]sx?$/.test(file))
      found.add(file.split(sep).join('/'))
  }
  return [...found].sort()
}

/** sha256 of a file's contents in hex; null when there is no such file. */
export async function fingerprint(file: string): Promise<string | null> {
  try {
    return createHash('sha256')
      .update(await readFile(file))
      .digest('hex')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
}

/** The lock file that holds for the project: in the nearest folder up that has one. */
export function findLockFile(projectDir: string): string | undefined {
  return upward(projectDir, (folder) => lockFiles.map((name) => join(folder, name)).find((file) => existsSync(file)))
}

/**
 * The `node_modules` from which authors' imports resolve: the nearest one up from the project that has Sluice, else the one
 * that this Sluice lies in or, in its repository, uses.
 */
export function findNodeModules(projectDir: string): string {
  const installed = upward(projectDir, (folder) => {
    const modules = join(folder, 'node_modules')
    return existsSync(join(modules, 'sluice')) ? modules : undefined
  })
  const around = upward(packageFolder, (folder) => (parse(folder).base === 'node_modules' ? folder : undefined))
  return installed ?? around ?? join(packageFolder, 'node_modules')
}

function upward<Found>(from: string, look: (folder: string) => Found | undefined): Found | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const found = look(folder)
    if (found !== undefined || folder === dirname(folder)) return found
  }
}
