/** Definition files, and the connections that they and the environment name. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Version } from '../../app/build/build.ts'
import { howMany } from '../../core/how-many.ts'
import { messageOf } from '../../errors.ts'
import { fail, ok, type Subject, type Told, warn } from './finding.ts'

/** Names that other orchestrators, and people in a hurry, give the folder. */
const otherNames = ['workflow', 'flows', 'dags', 'pipelines', 'jobs', 'src/workflows']

export interface Built {
  /** If it can be built. */
  readonly version?: Version
  readonly told: readonly Told[]
}

export async function buildProject({ config: { projectDir, home } }: Subject): Promise<Built> {
  try {
    const { build } = await import('../../app/build/build.ts')
    const version = await build({ projectDir, home })
    const { entries, faults, workflows, streams } = version.manifest
    if (entries.length + faults.length === 0)
      return { version, told: [noDefinitions(projectDir, version.project.definitions)] }
    const wrong = faults.map(({ where, message }) =>
      fail(
        `${where} ${message}`,
        'what this file defines stays as it was last deployed, or is left out if it is new; the other files run',
        'correct the file; a sluice dev that runs takes it up by itself',
      ),
    )
    const sound = `${howMany(workflows.length, 'workflow')}, ${howMany(streams.length, 'stream')} from ${howMany(entries.length, 'file')}`
    return { version, told: [...wrong, ok(sound)] }
  } catch (thrown) {
    return { told: [fail(messageOf(thrown), 'the project cannot be built', 'correct what it names')] }
  }
}

export function noDefinitions(projectDir: string, globs: readonly string[]): Told {
  const wanted = dirname(globs[0] ?? 'workflows/*.ts')
  const folder = globs.map((glob) => dirname(glob)).find((name) => hasExactly(projectDir, name))
  const misnamed = folder === undefined ? misnamedFolder(projectDir, wanted) : undefined
  const detail = `no file matches ${globs.join(', ')} in ${projectDir}`
  if (misnamed !== undefined) {
    return warn(
      detail,
      `the folder is called ${misnamed}`,
      `rename it: mv ${misnamed} ${wanted}; or name it in sluice.config.ts`,
    )
  }
  const fix = 'write the first one, such as workflows/hello.ts; or start the command in the folder of the project'
  return warn(detail, folder === undefined ? `there is no folder ${wanted} here` : `the folder ${folder} has none`, fix)
}

/** Also where the file system takes `Workflows` for `workflows`: the definitions would not be found elsewhere. */
function hasExactly(projectDir: string, name: string): boolean {
  try {
    return readdirSync(join(projectDir, dirname(name))).includes(name.split('/').at(-1) as string)
  } catch {
    return false
  }
}

function misnamedFolder(projectDir: string, wanted: string): string | undefined {
  const names = readdirSync(projectDir, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [entry.name] : [],
  )
  const otherCase = names.find((name) => name.toLowerCase() === wanted.toLowerCase())
  return otherCase ?? otherNames.find((name) => existsSync(join(projectDir, name)))
}

export async function lookAtConnections({ config }: Subject, version: Version | undefined): Promise<Told[]> {
  try {
    const { parseConnections } = await import('../../connectors/connections.ts')
    const { names } = parseConnections(config.connectionVariables, {
      ...version?.project.connections,
      ...config.connectionsFile,
    })
    return [ok(names.join(', ') || 'none are configured')]
  } catch (thrown) {
    return [fail(messageOf(thrown), 'whoever asks for it fails', 'correct the variable, file or setting that it names')]
  }
}
