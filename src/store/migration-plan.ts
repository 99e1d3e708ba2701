/** Which migrations are to be run: decided from the files and from what the database says it has. */
import { SluiceError } from '../errors.ts'

export interface MigrationFile {
  /** `sluice`, or the app that brings it. */
  readonly scope: string
  /** From 1, without gaps within a scope. */
  readonly number: number
  /** File name, such as `0001-runs.sql`. */
  readonly name: string
  readonly sha256: string
  readonly sql: string
}

export type AppliedMigration = Pick<MigrationFile, 'scope' | 'number' | 'name' | 'sha256'>

const nameForm = /^(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.sql$/

/** @throws SluiceError MIGRATION_FAILED when the name is not of the form `0001-some-words.sql`. */
export function numberOf(scope: string, name: string): number {
  const number = Number(nameForm.exec(name)?.[1] ?? 0)
  if (number === 0) {
    throw failed(`${scope}/${name}: a migration is named like 0001-some-words.sql, counted from 0001`)
  }
  return number
}

/** The files to run, scope after scope as given, each in the order of its numbers. @throws SluiceError MIGRATION_FAILED */
export function pendingMigrations(
  files: readonly MigrationFile[],
  applied: readonly AppliedMigration[],
): readonly MigrationFile[] {
  const scopes = [...new Set(files.map((file) => file.scope))]
  return scopes.flatMap((scope) =>
    pendingOfScope(
      scope,
      files.filter((file) => file.scope === scope),
      applied.filter((row) => row.scope === scope),
    ),
  )
}

function pendingOfScope(
  scope: string,
  files: readonly MigrationFile[],
  applied: readonly AppliedMigration[],
): readonly MigrationFile[] {
  const ordered = files.toSorted((a, b) => a.number - b.number)
  ordered.forEach((file, index) => {
    if (file.number === index) throw failed(`${scope}/${file.name}: there are two migrations of this number`)
    if (file.number !== index + 1) throw failed(`${scope}/${file.name}: migration ${index + 1} is missing before it`)
  })
  const done = applied.toSorted((a, b) => a.number - b.number)
  done.forEach((row, index) => {
    const file = ordered[row.number - 1]
    if (file === undefined) {
      throw failed(`The database is newer than this Sluice: it has ${scope}/${row.name}, which is not known here`)
    }
    if (row.number !== index + 1) throw failed(`The database has ${scope}/${row.name} but not migration ${index + 1}`)
    if (file.sha256 !== row.sha256) {
      throw failed(`${scope}/${file.name} was changed after it was applied; restore it and add a new migration instead`)
    }
  })
  return ordered.slice(done.length)
}

const oldestServer = 150_000

/** `number` as in server_version_num. @throws SluiceError DATABASE_UNSUPPORTED before PostgreSQL 15. */
export function refuseOldServer(server: { readonly number: number; readonly version: string }): void {
  if (server.number >= oldestServer) return
  throw new SluiceError('DATABASE_UNSUPPORTED', `PostgreSQL 15 or newer is needed; the server is ${server.version}`)
}

export function failed(detail: string, cause?: unknown): SluiceError {
  return new SluiceError('MIGRATION_FAILED', detail, { cause })
}
