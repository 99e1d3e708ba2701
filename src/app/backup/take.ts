/** Takes a backup: one moment of the database, the objects that it refers to, and the code that its runs need. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SluiceError } from '../../errors.ts'
import type { Database, Session } from '../../ports/database.ts'
import type { ObjectStore } from '../../ports/objects.ts'
import {
  type BackedTable,
  listAppPartitions,
  listMigrations,
  listNeededVersions,
  listPartitions,
  listReferencedObjects,
  listSequences,
  listTables,
  sumObjects,
  withSnapshot,
} from '../../store/backup.ts'
import { version } from '../version.ts'
import { formatNumber, type Head, type Manifest, parts, type TableFacts } from './manifest.ts'
import { type TapeWriter, writeTape } from './tape.ts'

export interface TakeOptions {
  /** With two connections at least, and no limit to idle transactions. */
  readonly database: Database
  readonly store: ObjectStore
  /** Where the folders of versions are. */
  readonly versionsFolder: string
  readonly file: string
  readonly now: Date
  readonly signal: AbortSignal
  /** Bytes of rows and objects; the total is what the database estimates. */
  readonly onProgress: (done: number, total: number, what: string) => void
}

export interface Taken {
  readonly file: string
  readonly bytes: number
  readonly tables: number
  readonly rows: number
  readonly objects: number
  readonly objectBytes: number
  readonly missing: readonly string[]
  readonly damaged: readonly string[]
  readonly versionsMissing: readonly string[]
}

/** @throws SluiceError CONFLICT (the file is there, another backup runs), STORAGE_FULL, USAGE, CANCELLED, DATABASE_* */
export async function takeBackup(options: TakeOptions): Promise<Taken> {
  const { database, file, now, signal } = options
  let manifest: Manifest | undefined
  const bytes = await writeTape(file, signal, async (tape) => {
    manifest = await withSnapshot(database, async (session) => {
      const head: Head = {
        format: formatNumber,
        sluice: version,
        takenAt: now.toISOString(),
        migrations: await listMigrations(session),
      }
      await addJson(tape, parts.head, head)
      return fill(tape, session, options)
    })
    await addJson(tape, parts.manifest, manifest)
  })
  const { tables, objects, versionsMissing } = manifest!
  return {
    ...{ file, bytes, tables: tables.length, rows: tables.reduce((sum, { rows }) => sum + rows, 0) },
    ...{ objects: objects.count, objectBytes: objects.bytes, missing: objects.missing, damaged: objects.damaged },
    versionsMissing,
  }
}

async function fill(
  tape: TapeWriter,
  session: Session,
  { store, versionsFolder, onProgress }: TakeOptions,
): Promise<Manifest> {
  const listed = await listTables(session)
  const expected = await sumObjects(session)
  const total = listed.reduce((sum, { bytes }) => sum + bytes, 0) + expected.bytes
  let done = 0
  const onBytes = (what: string) => (bytes: number) => {
    done += bytes
    onProgress(Math.min(done, total), total, what)
  }
  const tables: TableFacts[] = []
  for (const table of listed)
    tables.push(await addTable(tape, session, table, onBytes(`${table.schema}.${table.name}`)))
  const partitions = await listPartitions(session)
  const appPartitions = await listAppPartitions(session)
  const sequences = await listSequences(session)
  const objects = await addObjects(tape, session, store, onBytes('objects'))
  const { versions, versionsMissing } = await addVersions(tape, session, versionsFolder)
  return { tables, partitions, appPartitions, sequences, objects, versions, versionsMissing }
}

function addJson(tape: TapeWriter, name: string, value: unknown): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(value))
  return tape.add(name, bytes, bytes.length)
}

/** Rows go in pieces of about this many bytes, since the archive wants to know the length of a part before. */
const pieceBytes = 4_194_304
const newline = 10

async function addTable(
  tape: TapeWriter,
  session: Session,
  { schema, name, columns, copyOut }: BackedTable,
  onBytes: (bytes: number) => void,
): Promise<TableFacts> {
  const hash = createHash('sha256')
  let rows = 0
  let bytes = 0
  let pieces = 0
  let gathered: Uint8Array[] = []
  let size = 0
  const flush = async () => {
    if (size === 0) return
    await tape.add(parts.rows(schema, name, pieces), Buffer.concat(gathered), size)
    pieces += 1
    gathered = []
    size = 0
  }
  await session.copyOut(copyOut, async (piece) => {
    hash.update(piece)
    // In the text format of COPY a line feed ends a row, and is nowhere else.
    for (let at = piece.indexOf(newline); at >= 0; at = piece.indexOf(newline, at + 1)) rows += 1
    bytes += piece.length
    gathered.push(Buffer.from(piece))
    size += piece.length
    onBytes(piece.length)
    if (size >= pieceBytes) await flush()
  })
  await flush()
  return { schema, name, columns: [...columns], rows, bytes, sha256: hash.digest('hex') }
}

async function addObjects(
  tape: TapeWriter,
  session: Session,
  store: ObjectStore,
  onBytes: (bytes: number) => void,
): Promise<Manifest['objects']> {
  const facts = { count: 0, bytes: 0, missing: [] as string[], damaged: [] as string[] }
  for await (const sha256 of listReferencedObjects(session)) {
    const found = await store.stat(sha256)
    if (found === undefined) {
      facts.missing.push(sha256)
      continue
    }
    let sound = true
    const content = wholeObject(store, sha256, found.bytes, () => {
      sound = false
    })
    await tape.add(parts.object(sha256), content, found.bytes)
    if (!sound) facts.damaged.push(sha256)
    facts.count += 1
    facts.bytes += found.bytes
    onBytes(found.bytes)
  }
  return facts
}

/** As many bytes as were announced, also of an object that is not sound: then what cannot be had is zero. */
async function* wholeObject(store: ObjectStore, sha256: string, bytes: number, onUnsound: () => void) {
  let left = bytes
  try {
    for await (const piece of (await store.open(sha256)) as AsyncIterable<Uint8Array>) {
      left -= piece.length
      yield piece
    }
  } catch (thrown) {
    if (!(thrown instanceof SluiceError) || !unsound.has(thrown.code)) throw thrown
    onUnsound()
    for (; left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length))
  }
}

const unsound: ReadonlySet<string> = new Set(['OBJECT_CORRUPT', 'OBJECT_NOT_FOUND', 'STORAGE_FAILED'])
const zeros = Buffer.alloc(65_536)

async function addVersions(tape: TapeWriter, session: Session, folder: string) {
  const versions: Manifest['versions'] = []
  const versionsMissing: string[] = []
  for (const hash of await listNeededVersions(session)) {
    const found = await readdir(join(folder, hash), { recursive: true, withFileTypes: true }).catch(() => undefined)
    if (found === undefined) {
      versionsMissing.push(hash)
      continue
    }
    const files: Manifest['versions'][number]['files'] = []
    for (const entry of found.filter((one) => one.isFile())) {
      const path = join(entry.parentPath, entry.name)
      const bytes = await readFile(path)
      const inside = path.slice(join(folder, hash).length + 1)
      await tape.add(parts.version(hash, inside), bytes, bytes.length)
      files.push({ path: inside, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') })
    }
    versions.push({ hash, files })
  }
  return { versions, versionsMissing }
}
