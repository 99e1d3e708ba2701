/**
 * What `sluice doctor` looks at, in order. Each check says how things stand, and if not well: what, why, and what to do.
 * A check whose ground is gone (no settings, no database) is left out; one that fails by itself says that.
 */
import type { Version } from '../../app/build/build.ts'
import { nearest } from '../../core/nearest.ts'
import { messageOf } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import { lookAtMigrations, lookAtServer, lookAtTables, type Reached, reachDatabase } from './database.ts'
import { type Built, buildProject, lookAtConnections } from './definitions.ts'
import { type Finding, fail, ok, type Subject, type Told, warn } from './finding.ts'
import { lookAtCatalogs, lookAtHome, lookAtLeftovers, lookAtLimits, lookAtSocket } from './home.ts'
import { lookAtKafka, lookAtOffsetGaps } from './kafka.ts'
import { lookAtObjects, lookAtPort, lookAtWork } from './running.ts'

/** What checks stand on; made when the first of them asks for it. */
interface Ground {
  readonly subject: Subject
  home(): Promise<readonly Told[]>
  reached(): Promise<Reached>
  built(): Promise<Built>
}

interface Check {
  readonly name: string
  look(ground: Ground): Promise<readonly Told[]> | readonly Told[]
}

const inDatabase =
  (look: (database: Database, subject: Subject) => Promise<readonly Told[]>): Check['look'] =>
  async ({ reached, subject }) => {
    const { database } = await reached()
    return database === undefined ? [] : look(database, subject)
  }

/** Tables of another version are not asked for what they may not have. */
const inTables = (look: (database: Database, subject: Subject) => Promise<readonly Told[]>): Check['look'] =>
  inDatabase(async (database, subject) => {
    const { migrationState } = await import('../../store/migrate.ts')
    const state = await migrationState(database).catch(() => undefined)
    return state !== undefined && state.applied > 0 && state.pending.length === 0 ? look(database, subject) : []
  })

const checks: readonly Check[] = [
  { name: 'home', look: ({ home }) => home() },
  // What is left over is taken over once the database is opened: this comes before.
  { name: 'left over', look: ({ subject }) => lookAtLeftovers(subject) },
  { name: 'limits', look: () => lookAtLimits() },
  { name: 'socket', look: ({ subject }) => lookAtSocket(subject) },
  {
    name: 'database',
    look: async ({ reached, subject }) => {
      const { database, told } = await reached()
      return database === undefined ? told : lookAtServer(database, subject)
    },
  },
  {
    name: 'migrations',
    look: async ({ built, reached, subject }) => {
      const { database } = await reached()
      if (database === undefined) return []
      const { migrationFolders } = await import('../../app/app-migrations.ts')
      return lookAtMigrations(
        database,
        migrationFolders(subject.config.projectDir, (await built()).version?.project ?? {}),
      )
    },
  },
  { name: 'definitions', look: async ({ built }) => (await built()).told },
  {
    name: 'tables',
    look: async (ground) => {
      const { version } = await ground.built()
      if (version === undefined) return []
      return inTables((database) => lookAtTables(database, version.manifest.streams))(ground)
    },
  },
  {
    name: 'catalogs',
    look: async ({ built, subject }) => {
      const { version } = await built()
      return version === undefined ? [] : lookAtCatalogs(subject, watchedFolders(version))
    },
  },
  { name: 'connections', look: async ({ built, subject }) => lookAtConnections(subject, (await built()).version) },
  { name: 'kafka', look: async ({ built, subject }) => lookAtKafka(subject, (await built()).version) },
  { name: 'port', look: ({ subject }) => lookAtPort(subject) },
  { name: 'objects', look: inTables(lookAtObjects) },
  { name: 'work', look: inTables(lookAtWork) },
  { name: 'offsets', look: inTables(lookAtOffsetGaps) },
]

/** The findings of all checks, or of those named. */
export async function examine(subject: Subject, names?: readonly string[]): Promise<Finding[]> {
  const home = once(() => lookAtHome(subject))
  const broken = async () => (await home()).some(({ state }) => state === 'fail')
  const embedded = subject.config.databaseUrl === undefined
  let opened = nothingReached
  const ground: Ground = {
    subject,
    home,
    reached: once(async () => {
      if (!embedded || !(await broken())) opened = await reachDatabase(subject)
      return opened
    }),
    built: once(async () => ((await broken()) ? { told: [] } : buildProject(subject))),
  }
  const findings: Finding[] = []
  try {
    for (const check of checks) {
      if (names === undefined || names.includes(check.name)) findings.push(...(await toldBy(check, ground)))
    }
    return findings
  } finally {
    await opened.close()
  }
}

const nothingReached: Reached = { database: undefined, told: [], close: async () => {} }

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined
  return () => {
    done ??= work()
    return done
  }
}

async function toldBy({ name, look }: Check, ground: Ground): Promise<Finding[]> {
  try {
    return (await look(ground)).map((told) => ({ check: name, ...told }))
  } catch (thrown) {
    return [
      { check: name, ...fail(messageOf(thrown), 'it could not be looked at', 'correct what it names, and ask again') },
    ]
  }
}

function watchedFolders({ manifest }: Version): string[] {
  const plans = manifest.workflows.flatMap((workflow) => workflow.plans)
  const folders = plans.flatMap((plan) => (plan.kind === 'file-arrival' ? [plainPart(plan.glob)] : []))
  return [...new Set(folders.filter((folder) => folder !== ''))]
}

/** Of a glob: the folders before the first part with a wildcard. */
function plainPart(glob: string): string {
  const parts = glob.split('/')
  const wild = parts.findIndex((part) => /[*?[{]/.test(part))
  return parts.slice(0, wild < 0 ? -1 : wild).join('/')
}

const oldestNode = 24

export function checkNode(version: string, path: string): Finding {
  const check = 'node'
  if (Number(version.split('.')[0]) >= oldestNode) return { check, ...ok(`${version} (${path})`) }
  const fix = `run npm install, which brings Node ${oldestNode} along, or install it`
  return { check, ...fail(`${version} is too old`, `Sluice needs Node ${oldestNode}`, fix) }
}

export function checkSettings(unknown: readonly string[], names: readonly string[]): Finding[] {
  const check = 'settings'
  if (unknown.length === 0) return [{ check, ...ok('the environment is well formed') }]
  return unknown.map((name) => {
    const meant = nearest(name, names)
    const fix = meant
      ? `did you mean ${meant}?`
      : `Sluice has ${names.join(', ')}, SLUICE_SECRET_<NAME> and SLUICE_CONNECTION_<NAME>`
    return { check, ...warn(`${name} means nothing to Sluice`, 'it is misspelt, or of another version', fix) }
  })
}
