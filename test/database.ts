import { createHash, randomBytes } from 'node:crypto'
import { inject } from 'vitest'
import type { Database } from '../src/ports/database.ts'
import { statement } from '../src/ports/database.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { type DatabaseOptions, openDatabase } from '../src/postgres/pool.ts'
import { type MigrationFolder, migrate, platformMigrations, readMigrations } from '../src/store/migrate.ts'
import type { TestServer } from './global-setup.ts'

export interface TestDatabase {
  readonly db: Database
  /** For programs that open it themselves. */
  readonly url: string
  /** For further pools: `openDatabase({ ...options, max: 1 })`. */
  readonly options: DatabaseOptions
  /** Closes `db` and removes the database, whoever is still connected. */
  drop(): Promise<void>
}

export interface TestDatabaseOptions {
  /** Migrations of apps that it has besides ours; for their login see `src/store/app-login.ts`. */
  readonly apps?: readonly MigrationFolder[]
  /** False for an empty database. */
  readonly migrated?: boolean
  /** Connections of `db`; default 5. */
  readonly max?: number
}

/**
 * A database of one's own, cloned from a migrated template (10 ms; the first of a run waits for server and template, about a
 * second). The server is the embedded one, without fsync, or that of SLUICE_TEST_DATABASE_URL, whose user must be allowed
 * to create databases.
 */
export async function testDatabase(wishes: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const serverUrl = await testServerUrl()
  const administer = (sql: string) => withDatabase(urlOf(serverUrl, 'postgres'), (admin) => admin.script(sql))
  const template =
    wishes.migrated === false
      ? 'template0'
      : await makeTemplate(serverUrl, [platformMigrations, ...(wishes.apps ?? [])])
  const name = `sluice_test_${randomBytes(6).toString('hex')}`
  // Measured without fsync: 8 ms by files, 17 ms by WAL; with fsync WAL is quicker.
  const strategy = testServer().url === undefined ? 'FILE_COPY' : 'WAL_LOG'
  await administer(`CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY ${strategy}`)
  const url = urlOf(serverUrl, name)
  const options = { url, applicationName: 'sluice test', max: wishes.max ?? 5 }
  const db = openDatabase(options)
  return {
    db,
    url,
    options,
    drop: async () => {
      await db.close()
      await administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
      // Where a test made the login of apps, which belongs to the server.
      await administer(`DROP ROLE IF EXISTS sluice_apps_${name}`)
    },
  }
}

/** As the run's global set-up says; a process that a test has started is told by it. */
function testServer(): TestServer {
  const told = process.env.SLUICE_TEST_SERVER
  return told === undefined ? inject('testServer') : JSON.parse(told)
}

let starting: Promise<string> | undefined

/** Address of the run's server. Workers never stop it: it goes on between test files and is stopped by the global set-up. */
function testServerUrl(): Promise<string> {
  const { url, home } = testServer()
  const settings = { fsync: 'off', full_page_writes: 'off', max_wal_size: '256MB', max_connections: '200' }
  starting ??= url === undefined ? startEmbedded({ home, settings }).then((server) => server.url) : Promise.resolve(url)
  return starting
}

const urlOf = (url: string, database: string) => url.replace(/^([a-z]+:\/\/[^/?]*)(\/[^?]*)?/, `$1/${database}`)

async function withDatabase<T>(url: string, work: (database: Database) => Promise<T>): Promise<T> {
  const database = openDatabase({ url, applicationName: 'sluice test set-up', max: 2 })
  return work(database).finally(() => database.close())
}

const lockTemplates = statement('test.lock-templates', 'SELECT pg_advisory_xact_lock(7365)')
const findDatabase = statement('test.find-database', 'SELECT 1 FROM pg_database WHERE datname = $1')

const templates = new Map<string, Promise<string>>()

/** Name of the template for exactly these files, made by whoever asks first; one under its final name is complete. */
async function makeTemplate(serverUrl: string, folders: readonly MigrationFolder[]): Promise<string> {
  const files = await readMigrations(folders)
  const hash = createHash('sha256')
  for (const { scope, name, sha256 } of files) hash.update(`${scope}/${name} ${sha256}\n`)
  const template = `sluice_template_${hash.digest('hex').slice(0, 16)}`
  const made = templates.get(template) ?? buildTemplate(serverUrl, template, folders).then(() => template)
  templates.set(template, made)
  return made
}

async function buildTemplate(serverUrl: string, template: string, folders: readonly MigrationFolder[]): Promise<void> {
  await withDatabase(urlOf(serverUrl, 'postgres'), (admin) =>
    admin.transaction(async (session) => {
      await session.query(lockTemplates)
      if ((await session.query(findDatabase, [template])).length > 0) return
      const building = `${template}_building`
      await admin.script(`DROP DATABASE IF EXISTS ${building} WITH (FORCE)`)
      await admin.script(`CREATE DATABASE ${building} TEMPLATE template0`)
      await withDatabase(urlOf(serverUrl, building), (database) => migrate(database, { folders }))
      // Nobody may connect, autovacuum included: a template in use cannot be cloned.
      await admin.script(`ALTER DATABASE ${building} ALLOW_CONNECTIONS false`)
      await admin.script(`ALTER DATABASE ${building} RENAME TO ${template}`)
    }),
  )
}
