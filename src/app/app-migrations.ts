/** The migrations of a project's apps, and what follows them: the login of authors' code and its rights. */
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { SluiceError } from '../errors.ts'
import type { Database } from '../ports/database.ts'
import type { ProjectConfig } from '../sdk/config.ts'
import { prepareApps } from '../store/app-login.ts'
import { type MigrationFolder, migrate, platformMigrations } from '../store/migrate.ts'
import { configFile } from './build/project-files.ts'

/** The platform's, then those of the apps as they stand in the project's settings. @throws SluiceError CONFIGURATION */
export function migrationFolders(
  projectDir: string,
  { migrations = {} }: Pick<ProjectConfig, 'migrations'>,
): readonly MigrationFolder[] {
  const apps = Object.entries(migrations).map(([scope, path]) => {
    const folder = join(projectDir, path)
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return { scope, folder }
    throw new SluiceError('CONFIGURATION', `${configFile} /migrations/${scope}: there is no folder ${path}`)
  })
  return [platformMigrations, ...apps]
}

/** Brings all tables up to date. Gives what was applied. @throws SluiceError MIGRATION_FAILED, DATABASE_UNSUPPORTED */
export async function migrateAll(database: Database, folders: readonly MigrationFolder[]) {
  const applied = await migrate(database, { folders })
  await prepareApps(database, randomBytes(24).toString('base64url'))
  return applied
}
