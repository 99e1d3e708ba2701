/** Collections of documents, as authors read and write them. */
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'
import type { ByteField } from '../ports/sink.ts'
import type { Documents, ListOptions, Page } from '../sdk/context.ts'
import { type EncodedDocument, encodeDocument, isRefusal, keyFault } from './document-body.ts'
import {
  type DocumentObjects,
  fieldReferences,
  readBytes,
  referrerOf,
  removeBytes,
  spill,
  storedFields,
  writeBytes,
} from './document-bytes.ts'

type Body = Record<string, unknown>

const getStatement = statement<{ body: Body }>(
  'documents.get',
  'select body from sluice.documents where collection = $1 and key = $2',
)

const putStatement = statement(
  'documents.put',
  `
  insert into sluice.documents (collection, key, body) values ($1, $2, $3)
  on conflict (collection, key) do update set body = excluded.body, updated_at = sluice.sluice_now()`,
)

/** `revision` changes whenever the body does. */
const getRevisionStatement = statement<{ body: Body; revision: string }>(
  'documents.get-revision',
  'select body, md5(body::text) as revision from sluice.documents where collection = $1 and key = $2',
)

const replaceStatement = statement<{ transaction: string }>(
  'documents.replace',
  `
  update sluice.documents set body = $4, updated_at = sluice.sluice_now()
  where collection = $1 and key = $2 and md5(body::text) = $3
  returning pg_current_xact_id()::text as transaction`,
)

/** Null once the server has forgotten it, two billion transactions later or so. */
const outcomeStatement = statement<{ outcome: string | null }>(
  'documents.replace-outcome',
  'select pg_xact_status($1::text::xid8) as outcome',
)

const countStatement = statement<{ documents: number }>(
  'documents.count',
  'select count(*) as documents from sluice.documents where collection = $1 and ($2::jsonb is null or body @> $2)',
)

/** Of one page, as stored (compressed); a page has at least one document. */
const pageBytes = 8_388_608

const listStatement = statement<{ seq: number; body: Body; found: number }>(
  'documents.list',
  `
  select seq, body, found::int from (
    select seq, body, count(*) over () as found, sum(pg_column_size(body)) over (order by seq) - pg_column_size(body) as before
    from (
      select seq, body from sluice.documents
      where collection = $1 and seq > $2 and ($3::jsonb is null or body @> $3)
        and ($6::text is null or case when body ->> $6 ~ '^[0-9a-f]{16}$'
          then bit_count(('x' || (body ->> $6))::bit(64) # ('x' || $7::text)::bit(64)) <= $8::int else false end)
      order by seq limit $4
    ) as page
  ) as sized
  where before < $5 order by seq`,
)

/** Of the transaction; a shorter one that holds for all statements of the process is not made longer. */
const limitTimeStatement = statement(
  'documents.limit-time',
  `
  select set_config('statement_timeout', least($1::int, nullif(setting::int, 0))::text, true)
  from pg_settings where name = 'statement_timeout'`,
)

/** `list` with `near` looks at each document: 100,000 take a second or less, see docs/images.md. */
const nearMs = 10_000

/**
 * The collection of a name. Documents have up to 1 MiB of JSON; byte fields (top-level, Uint8Array) come on top, and
 * those of over 12,000,000 bytes are kept in the object store.
 *
 * `list` goes by the time of insertion; a document whose transaction ends while a reader pages past its place may be
 * left out of that reading.
 * @throws SluiceError INVALID_INPUT, OBJECT_NOT_FOUND (put, replace), INVALID_CURSOR, USAGE (list, stored), TIMEOUT (list with `near`)
 */
export function openDocuments<Document extends object = Body>(
  database: Database,
  objects: DocumentObjects,
  collection: string,
  limits: { readonly nearMs: number } = { nearMs },
): StoredDocuments<Document> {
  return {
    get: async (key, options) => {
      const [row] = await database.query(getStatement, [collection, key])
      if (row === undefined) return undefined
      return (options?.bytes ? { ...row.body, ...(await bytesOf(key)) } : row.body) as Document
    },
    put: (key, document, options) => put(database, objects, collection, key, document, options?.objects ?? []),
    revised: async (key) => {
      const [row] = await database.query(getRevisionStatement, [collection, key])
      return row && { document: row.body as Document, revision: row.revision }
    },
    replace: (key, revision, document, options = {}, tried = {}) =>
      replace(database, objects, { collection, key, revision, document, ...options }, tried),
    list: (options) => list<Document>(database, collection, limits.nearMs, options),
    count: async ({ where } = {}) => {
      const [row] = await database.query(countStatement, [collection, filterOf(where)])
      return row!.documents
    },
    stored: async (keys) => {
      if (keys.length > 1_000) throw new SluiceError('USAGE', `${keys.length} keys are too many; 1000 are allowed`)
      return storedFields(database, collection, keys)
    },
  }

  async function bytesOf(key: string): Promise<Record<string, Uint8Array>> {
    const rows = await readBytes(database, collection, key)
    const fields = rows.map(
      async ({ field, bytes, object }) => [field, bytes ?? (await objects.read(object!))] as const,
    )
    return Object.fromEntries(await Promise.all(fields))
  }
}

/** What a document was when it was read, for `replace`. */
export interface Revised<Document extends object> {
  readonly document: Document
  readonly revision: string
}

export interface ReplaceOptions {
  readonly objects?: readonly string[]
  readonly drop?: readonly string[]
}

/**
 * What is remembered between tries of one replacement. A try whose COMMIT was not answered may have been done: the next finds
 * another revision, and only the server's record of that transaction says whether it is this call's own.
 */
export interface Tried {
  transaction?: string
}

/** As authors have it, but for `change`, whose two halves may lie in different processes. */
export interface StoredDocuments<Document extends object> extends Omit<Documents<Document>, 'change'> {
  revised(key: string): Promise<Revised<Document> | undefined>
  /**
   * Gives false, and writes nothing, when the document is not what it was. The same call may be made again with the same
   * `tried`, as after DATABASE_UNREACHABLE: it takes place once.
   */
  replace(key: string, revision: string, document: Document, options?: ReplaceOptions, tried?: Tried): Promise<boolean>
}

async function put(
  database: Database,
  objects: DocumentObjects,
  collection: string,
  key: string,
  document: object,
  named: readonly string[],
): Promise<void> {
  const encoded = encodedOf(collection, key, document)
  const fields = await spill(encoded.fields, objects)
  await database.transaction(async (session) => {
    await session.execute(putStatement, [collection, key, encoded.body])
    await removeBytes(session, objects, { collection, key })
    await keep(session, objects, { collection, key, fields, named })
  })
}

interface Replacement extends ReplaceOptions {
  readonly collection: string
  readonly key: string
  readonly revision: string
  readonly document: object
}

async function replace(
  database: Database,
  objects: DocumentObjects,
  replacement: Replacement,
  tried: Tried,
): Promise<boolean> {
  const { collection, key, revision, document, objects: named = [], drop = [] } = replacement
  const encoded = encodedOf(collection, key, document)
  const fields = await spill(encoded.fields, objects)
  return database.transaction(async (session) => {
    // Before: somebody may have changed the document back since. After: a try that was still under way held the row.
    if (await isDone(session, tried)) return true
    const [written] = await session.query(replaceStatement, [collection, key, revision, encoded.body])
    if (written === undefined) return isDone(session, tried)
    tried.transaction = written.transaction
    const replaced = fields.map(({ field }) => field)
    if (replaced.length > 0) await removeBytes(session, objects, { collection, key, fields: replaced })
    const dropped = drop.filter((sha256) => !named.includes(sha256))
    if (dropped.length > 0) await objects.release(session, referrerOf(collection, key), dropped)
    await keep(session, objects, { collection, key, fields, named })
    return true
  })
}

async function isDone(session: Session, { transaction }: Tried): Promise<boolean> {
  if (transaction === undefined) return false
  const [found] = await session.query(outcomeStatement, [transaction])
  return found?.outcome === 'committed'
}

/** @throws SluiceError INVALID_INPUT */
function encodedOf(collection: string, key: string, document: object): EncodedDocument {
  const encoded = encodeDocument(document)
  const fault = keyFault(key) ?? (isRefusal(encoded) ? encoded : undefined)
  if (fault || isRefusal(encoded)) {
    throw new SluiceError('INVALID_INPUT', `The document "${key}" of "${collection}" cannot be kept: ${fault?.detail}`)
  }
  return encoded
}

interface Kept {
  readonly collection: string
  readonly key: string
  readonly fields: readonly ByteField[]
  readonly named: readonly string[]
}

/** Writes the byte fields, and keeps the objects that they are or that the document names. */
async function keep(session: Session, objects: DocumentObjects, { collection, key, fields, named }: Kept) {
  await writeBytes(
    session,
    collection,
    fields.map((field) => ({ ...field, key })),
  )
  const references = [
    ...named.map((sha256) => ({ ...referrerOf(collection, key), sha256 })),
    ...fieldReferences(collection, key, fields),
  ]
  if (references.length > 0) await objects.refer(session, references)
}

async function list<Document extends object>(
  database: Database,
  collection: string,
  nearMs: number,
  { limit = 50, cursor = null, where, near }: ListOptions = {},
): Promise<Page<Document>> {
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) {
    throw new SluiceError('USAGE', `The limit ${limit} is not a whole number from 1 to 1000`)
  }
  const after = cursor === null ? 0 : positionOf(collection, cursor)
  const filter = filterOf(where)
  const values = [collection, after, filter, limit + 1, pageBytes, ...nearOf(near)]
  const rows = await (near === undefined
    ? database.query(listStatement, values)
    : within(database, nearMs, (session) => session.query(listStatement, values)))
  const items = rows.slice(0, limit)
  const nextCursor = (rows[0]?.found ?? 0) > items.length ? cursorAt(collection, items.at(-1)!.seq) : null
  return { items: items.map((row) => row.body as Document), nextCursor }
}

/** @throws SluiceError TIMEOUT */
async function within<T>(database: Database, ms: number, work: (session: Session) => Promise<T>): Promise<T> {
  try {
    return await database.transaction(async (session) => {
      await session.query(limitTimeStatement, [ms])
      return work(session)
    })
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === '57014')) throw thrown
    throw new SluiceError('TIMEOUT', `Looking for what is near took longer than ${ms} ms; ask for less`, {
      cause: thrown,
    })
  }
}

const filterOf = (where: ListOptions['where']): string | null => (where === undefined ? null : JSON.stringify(where))

function nearOf(near: ListOptions['near']): [string | null, string | null, number | null] {
  if (near === undefined) return [null, null, null]
  const { field, hash, distance } = near
  if (!/^[0-9a-f]{16}$/.test(hash) || !Number.isInteger(distance) || distance < 0 || distance > 64) {
    throw new SluiceError('USAGE', `near takes a hash of 16 hex digits and a distance of 0 to 64 bits`)
  }
  return [field, hash, distance]
}

const cursorAt = (collection: string, seq: number): string => Buffer.from(`${collection}:${seq}`).toString('base64url')

function positionOf(collection: string, cursor: string): number {
  const text = Buffer.from(cursor, 'base64url').toString()
  const seq = Number(text.slice(collection.length + 1))
  if (!Number.isSafeInteger(seq) || cursor !== cursorAt(collection, seq)) {
    throw new SluiceError('INVALID_CURSOR', `The cursor is not one that a list of "${collection}" gave`)
  }
  return seq
}
