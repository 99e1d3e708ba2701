/** Collections of documents, as authors read and write them. */
import { SluiceError } from '../errors.ts'
import { type Database, statement } from '../ports/database.ts'
import type { Documents, ListOptions, Page } from '../sdk/context.ts'
import { encodeDocument, isRefusal, keyFault } from './document-body.ts'
import { type DocumentObjects, readBytes, referrerOf, removeBytes, spill, writeBytes } from './document-bytes.ts'

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
      order by seq limit $4
    ) as page
  ) as sized
  where before < $5 order by seq`,
)

/**
 * The collection of a name. Documents have up to 1 MiB of JSON; byte fields (top-level, Uint8Array) come on top, and
 * those of over 12,000,000 bytes are kept in the object store.
 *
 * `list` goes by the time of insertion; a document whose transaction ends while a reader pages past its place may be
 * left out of that reading.
 * @throws SluiceError INVALID_INPUT, OBJECT_NOT_FOUND (put), INVALID_CURSOR, USAGE (list)
 */
export function openDocuments<Document extends object = Body>(
  database: Database,
  objects: DocumentObjects,
  collection: string,
): Documents<Document> {
  return {
    get: async (key, options) => {
      const [row] = await database.query(getStatement, [collection, key])
      if (row === undefined) return undefined
      return (options?.bytes ? { ...row.body, ...(await bytesOf(key)) } : row.body) as Document
    },
    put: (key, document, options) => put(database, objects, collection, key, document, options?.objects ?? []),
    list: (options) => list<Document>(database, collection, options),
  }

  async function bytesOf(key: string): Promise<Record<string, Uint8Array>> {
    const rows = await readBytes(database, collection, key)
    const fields = rows.map(
      async ({ field, bytes, object }) => [field, bytes ?? (await objects.read(object!))] as const,
    )
    return Object.fromEntries(await Promise.all(fields))
  }
}

async function put(
  database: Database,
  objects: DocumentObjects,
  collection: string,
  key: string,
  document: object,
  named: readonly string[],
): Promise<void> {
  const encoded = encodeDocument(document)
  const fault = keyFault(key) ?? (isRefusal(encoded) ? encoded : undefined)
  if (fault || isRefusal(encoded)) {
    throw new SluiceError('INVALID_INPUT', `The document "${key}" of "${collection}" cannot be kept: ${fault?.detail}`)
  }
  const fields = await spill(encoded.fields, objects)
  const referrer = referrerOf(collection, key)
  await database.transaction(async (session) => {
    await session.execute(putStatement, [collection, key, encoded.body])
    await removeBytes(session, collection, key)
    await writeBytes(
      session,
      collection,
      fields.map((field) => ({ ...field, key })),
    )
    const kept = [...named, ...fields.flatMap((field) => ('object' in field ? [field.object] : []))]
    if (kept.length > 0)
      await objects.refer(
        session,
        kept.map((sha256) => ({ sha256, document: referrer })),
      )
  })
}

async function list<Document extends object>(
  database: Database,
  collection: string,
  { limit = 50, cursor = null, where }: ListOptions = {},
): Promise<Page<Document>> {
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) {
    throw new SluiceError('USAGE', `The limit ${limit} is not a whole number from 1 to 1000`)
  }
  const after = cursor === null ? 0 : positionOf(collection, cursor)
  const filter = where === undefined ? null : JSON.stringify(where)
  const rows = await database.query(listStatement, [collection, after, filter, limit + 1, pageBytes])
  const items = rows.slice(0, limit)
  const nextCursor = (rows[0]?.found ?? 0) > items.length ? cursorAt(collection, items.at(-1)!.seq) : null
  return { items: items.map((row) => row.body as Document), nextCursor }
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
