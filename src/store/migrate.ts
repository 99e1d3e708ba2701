/**
 * Brings a database to the tables that this code needs.
 *
 * 1. Each file runs once, in a transaction with its row in `sluice.migrations`.
 * 2. One migrator at a time: each transaction takes the advisory lock first and then reads again what is applied.
 * 3. A statement that waits for a lock of others gives up after a while, so that a migration on a live system cannot block
 *    everybody behind it; nothing of its file is left, and running again goes on there.
 * 4. With nothing to do it is one query.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { messageOf, SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import { noteSchemas } from './app-schemas.ts'
import {
  type AppliedMigration,
  failed,
  type MigrationFile,
  numberOf,
  pendingMigrations,
  refuseOldServer,
} from './migration-plan.ts'

/** Where `.sql` files of one owner lie: ours are `sluice`, an app's bear its name. */
export interface MigrationFolder {
  readonly scope: string
  readonly folder: string
}

export interface MigrateOptions {
  /** Run in this order; default `[platformMigrations]`, to which a composition adds its apps'. */
  readonly folders?: readonly MigrationFolder[]
  /** How long a statement waits for a lock of others; default 10 s. */
  readonly lockTimeoutMs?: number
  /** How long to wait for another migrator; default 60 s. */
  readonly turnTimeoutMs?: number
}

/** The platform's own, beside this file in `src` and in `dist`. */
export const platformMigrations: MigrationFolder = {
  scope: 'sluice',
  folder: fileURLToPath(new URL('./migrations', import.meta.url)),
}

/**
 * Gives what was applied now, in order; empty when there was nothing to do.
 * @throws SluiceError MIGRATION_FAILED (a failing, changed, missing or doubled file, named; a database that is newer than
 * this code; a lock that did not come), DATABASE_UNSUPPORTED (a server before PostgreSQL 15).
 */
export async function migrate(database: Database, options: MigrateOptions = {}): Promise<readonly AppliedMigration[]> {
  const files = await readMigrations(options.folders)
  const pending = pendingMigrations(files, await appliedIn(database))
  if (pending.length === 0) return []
  for (const server of await database.query(serverVersion)) refuseOldServer(server)
  await takeTurn(database, options, (session) => session.script(bookkeeping))
  const ran: AppliedMigration[] = []
  for (const file of pending) {
    if (await takeTurn(database, options, (session) => apply(session, file, files, options))) ran.push(file)
  }
  return ran.map(({ scope, number, name, sha256 }) => ({ scope, number, name, sha256 }))
}

/**
 * Runs these files on a database without any, in the transaction of the caller, who is the only migrator until it ends.
 * @throws SluiceError MIGRATION_FAILED
 */
export async function applyWithin(session: Session, files: readonly MigrationFile[]): Promise<void> {
  for (const server of await session.query(serverVersion)) refuseOldServer(server)
  await session.query(lockMigrations)
  await session.script(bookkeeping)
  for (const file of files) await runFile(session, file)
}

/** What `migrate` would do, and the server's version; changes nothing. @throws SluiceError as `migrate` does */
export async function migrationState(
  database: Database,
  folders?: readonly MigrationFolder[],
): Promise<{ readonly server: string; readonly applied: number; readonly pending: readonly MigrationFile[] }> {
  const [server] = await database.query(serverVersion)
  const applied = await appliedIn(database)
  const pending = pendingMigrations(await readMigrations(folders), applied)
  return { server: server?.version ?? 'unknown', applied: applied.length, pending }
}

/** @throws SluiceError MIGRATION_FAILED (a wrong name, one scope twice), CONFIGURATION (a folder that cannot be read) */
export async function readMigrations(
  folders: readonly MigrationFolder[] = [platformMigrations],
): Promise<readonly MigrationFile[]> {
  const scopes = folders.map(({ scope }) => scope)
  const twice = scopes.find((scope, index) => scopes.indexOf(scope) !== index)
  if (twice !== undefined) throw failed(`Two folders of migrations are called ${twice}`)
  return (await Promise.all(folders.map(readFolder))).flat()
}

async function readFolder({ scope, folder }: MigrationFolder): Promise<MigrationFile[]> {
  const names = await readdir(folder).catch((thrown: unknown) => {
    throw new SluiceError('CONFIGURATION', `The migrations of ${scope} cannot be read: ${messageOf(thrown)}`)
  })
  const read = async (name: string): Promise<MigrationFile> => {
    // A checkout may have changed the ends of lines; that is not another migration.
    const sql = (await readFile(join(folder, name), 'utf8')).replaceAll('\r\n', '\n')
    return { scope, number: numberOf(scope, name), name, sha256: createHash('sha256').update(sql).digest('hex'), sql }
  }
  return Promise.all(
    names
      .filter((name) => name.endsWith('.sql'))
      .sort()
      .map(read),
  )
}

const undefinedTable = '42P01'

async function appliedIn(session: Session): Promise<readonly AppliedMigration[]> {
  try {
    return await session.query(listApplied)
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === undefinedTable) return []
    throw thrown
  }
}

async function takeTurn<T>(database: Database, options: MigrateOptions, work: (session: Session) => Promise<T>) {
  const turnTimeoutMs = options.turnTimeoutMs ?? 60_000
  return database.transaction(async (session) => {
    await session.query(setLockTimeout, [String(turnTimeoutMs)])
    await session.query(lockMigrations).catch((thrown: unknown) => {
      throw failed(`Another migrator has not finished for ${turnTimeoutMs} ms: ${messageOf(thrown)}`, thrown)
    })
    return work(session)
  })
}

/** Whether it was still to be done. */
async function apply(
  session: Session,
  file: MigrationFile,
  files: readonly MigrationFile[],
  options: MigrateOptions,
): Promise<boolean> {
  const pending = pendingMigrations(files, await session.query(listApplied))
  if (!pending.includes(file)) return false
  await session.query(setLockTimeout, [String(options.lockTimeoutMs ?? 10_000)])
  await runFile(session, file)
  return true
}

async function runFile(session: Session, file: MigrationFile): Promise<void> {
  try {
    const run = () => session.script(file.sql)
    await (file.scope === platformMigrations.scope ? run() : noteSchemas(session, file, run))
  } catch (thrown) {
    if (thrown instanceof SluiceError) throw thrown
    throw failed(`${file.scope}/${file.name}${lineOf(thrown, file.sql)}: ${messageOf(thrown)}`, thrown)
  }
  await session.execute(recordApplied, [file.scope, file.number, file.name, file.sha256])
}

/** `:<line>` when the server tells where in the text it stumbled. */
function lineOf(thrown: unknown, sql: string): string {
  const position = thrown instanceof Error && 'position' in thrown ? Number(thrown.position) : Number.NaN
  return position > 0 ? `:${sql.slice(0, position - 1).split('\n').length}` : ''
}

const bookkeeping = `
CREATE SCHEMA IF NOT EXISTS sluice;
CREATE TABLE IF NOT EXISTS sluice.migrations (
  scope text NOT NULL,
  number integer NOT NULL,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, number)
)`

const listApplied = statement<AppliedMigration>(
  'migrations.list',
  'SELECT scope, number, name, sha256 FROM sluice.migrations ORDER BY scope, number',
)

const serverVersion = statement<{ number: number; version: string }>(
  'migrations.server-version',
  `SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version`,
)

/** A pool's limit for statements is not meant for a migration that rewrites a table. */
const setLockTimeout = statement(
  'migrations.set-lock-timeout',
  `SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true)`,
)

/** Held by whoever changes tables, roles or rights, until its transaction ends. The number is 'sluice' in hexadecimal digits of its letters. */
export const lockMigrations = statement('migrations.lock', "SELECT pg_advisory_xact_lock(x'736c75696365'::bigint)")

const recordApplied = statement(
  'migrations.record',
  'INSERT INTO sluice.migrations (scope, number, name, sha256) VALUES ($1, $2, $3, $4)',
)
