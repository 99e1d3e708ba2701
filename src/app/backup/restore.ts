/**
 * Puts a backup into an empty database and a home.
 *
 * 1. The file is read to its end and found sound before anything is touched.
 * 2. First the objects and the code, which harm nobody when the rest fails; then all rows in one transaction.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SluiceError } from '../../errors.ts'
import type { Database, Session } from '../../ports/database.ts'
import type { ObjectStore } from '../../ports/objects.ts'
import type { MigrationFolder } from '../../store/migrate.ts'
import {
  analyse,
  forgetHolders,
  makeAppPartitions,
  makePartitions,
  makeTables,
  openTables,
  refillApps,
  refuseUsedDatabase,
  setSequences,
} from '../../store/restore.ts'
import { migrateAll } from '../app-migrations.ts'
import type { Head, Manifest, TableFacts } from './manifest.ts'
import { invalid, type Part, readTape, wholeOf } from './tape.ts'

export interface RestoreOptions {
  readonly file: string
  /** What `verifyBackup` found. */
  readonly head: Head
  readonly manifest: Manifest
  readonly database: Database
  /** Of the platform and of the project's apps; see `migrationFolders`. */
  readonly folders: readonly MigrationFolder[]
  readonly store: ObjectStore
  readonly versionsFolder: string
  readonly signal: AbortSignal
  readonly onRead: (bytes: number) => void
}

/** @throws SluiceError CONFLICT when the database is in use; MIGRATION_FAILED; STORAGE_FULL; CANCELLED; DATABASE_* */
export async function restoreBackup(options: RestoreOptions): Promise<void> {
  const { file, head, manifest, database, folders, signal } = options
  await refuseUsedDatabase(database, [...new Set(manifest.tables.map(({ schema }) => schema))])
  await putFiles(options)
  await database.transaction(async (session) => {
    await session.script('set local statement_timeout = 0; set local lock_timeout = 0')
    await makeTables(session, head.migrations, folders)
    await makePartitions(session, manifest.partitions)
    await makeAppPartitions(session, manifest.appPartitions)
    await refillApps(session, () => copyRows(session, file, manifest, options))
    await setSequences(session, manifest.sequences)
    await forgetHolders(session)
    stopIfAsked(signal)
  })
  await migrateAll(database, folders)
  await analyse(database)
}

function stopIfAsked(signal: AbortSignal): void {
  if (signal.aborted) throw new SluiceError('CANCELLED', 'It was interrupted; the database is as it was')
}

async function putFiles({ file, manifest, store, versionsFolder, signal, onRead }: RestoreOptions): Promise<void> {
  const damaged = new Set(manifest.objects.damaged)
  for await (const part of readTape(file, onRead)) {
    stopIfAsked(signal)
    const [kind, group, ...rest] = part.name.split('/')
    const last = rest.join('/')
    if (kind === 'objects' && !damaged.has(last)) await putObject(file, part, last, store)
    if (kind === 'versions' && group !== undefined) await putCode(file, part, join(versionsFolder, group, last))
  }
}

async function putObject(file: string, part: Part, hash: string, store: ObjectStore): Promise<void> {
  // Nobody sweeps a store whose database has no tables yet: there is nothing to claim.
  const { sha256 } = await store.put(part.content, async () => {})
  if (sha256 !== hash) throw invalid(file, `its object ${hash} is damaged`)
}

async function putCode(file: string, part: Part, path: string): Promise<void> {
  const bytes = await wholeOf(file, part)
  await mkdir(dirname(path), { recursive: true })
  const fresh = `${path}.${randomBytes(6).toString('hex')}`
  await writeFile(fresh, bytes)
  await rename(fresh, path).catch(async (thrown: unknown) => {
    await rm(fresh, { force: true })
    throw thrown
  })
}

async function copyRows(
  session: Session,
  file: string,
  manifest: Manifest,
  { signal, onRead }: RestoreOptions,
): Promise<void> {
  const copyTextOf = await openTables(session)
  const tape = readTape(file, onRead)
  try {
    let part = await nextRows(tape)
    for (const table of manifest.tables) {
      const sql = await copyTextOf(table)
      const folder = `tables/${table.schema}.${table.name}/`
      const rows = async function* () {
        for (; part?.name.startsWith(folder); part = await nextRows(tape)) {
          stopIfAsked(signal)
          yield* part.content
        }
      }
      checkCount(file, table, await session.copyIn(sql, rows()))
    }
  } finally {
    await tape.return(undefined)
  }
}

/** The next part with rows; all of them come before the objects. */
async function nextRows(tape: AsyncGenerator<Part>): Promise<Part | undefined> {
  for (;;) {
    const { done, value } = await tape.next()
    if (done) return undefined
    if (value.name.startsWith('tables/')) return value
    if (value.name.startsWith('objects/') || value.name.startsWith('versions/')) return undefined
  }
}

function checkCount(file: string, { schema, name, rows }: TableFacts, copied: number): void {
  if (copied !== rows)
    throw invalid(file, `${copied} rows of ${schema}.${name} were copied of the ${rows} that it lists`)
}
