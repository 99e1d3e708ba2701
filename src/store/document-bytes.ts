/** The byte fields of documents: inline up to a limit, in the object store beyond. */
import type { Database, Session } from '../ports/database.ts'
import { statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import type { ByteField } from '../ports/sink.ts'
import type { StoredField } from '../sdk/context.ts'
import { maxInlineBytes } from './document-body.ts'
import { groupedClaims, referToObjects, releaseObjects, releaseReferences } from './objects.ts'

/** What documents need of the object store. */
export interface DocumentObjects {
  put(bytes: Uint8Array): Promise<{ readonly sha256: string }>
  read(sha256: string): Promise<Uint8Array>
  /** In the transaction that writes the documents: their objects are kept as long as they are. */
  refer(session: Session, references: readonly DocumentReference[]): Promise<void>
  /** In the transaction that replaces them: what only these kept may be swept. */
  release(session: Session, referrer: Referrer, hashes?: readonly string[]): Promise<void>
}

/** A document, which names objects; or a byte field of it that is one. They are apart, so that replacing the field keeps the name. */
export interface Referrer {
  readonly kind: 'document' | 'document-bytes'
  readonly id: string
}

export type DocumentReference = Referrer & { readonly sha256: string }

const claimMs = 3_600_000

/**
 * The object store as documents use it. `claimant` must be the one under which the steps of a stream put objects, so that
 * their claims turn into references of the documents.
 */
export function documentObjects(database: Database, store: ObjectStore, claimant: string): DocumentObjects {
  const claim = groupedClaims(database, claimant, claimMs)
  return {
    put: (bytes) => store.put(bytes, claim),
    read: (sha256) => store.read(sha256),
    refer: (session, references) => referToObjects(session, claimant, references),
    release: async (session, referrer, hashes) => {
      if (hashes) await releaseReferences(session, referrer, hashes)
      else await releaseObjects(session, referrer.kind, [referrer.id])
    },
  }
}

/** The name under which a document refers to objects. */
export const referrerOf = (collection: string, key: string): Referrer => ({
  kind: 'document',
  id: `${collection}/${key}`,
})

/** The name under which a byte field refers to the object that it is. */
const fieldReferrer = (collection: string, key: string, field: string): Referrer => ({
  kind: 'document-bytes',
  id: `${collection}/${encodeURIComponent(field)}/${key}`,
})

/** The references of byte fields that are objects. */
export const fieldReferences = (
  collection: string,
  key: string,
  fields: readonly ByteField[],
): readonly DocumentReference[] =>
  fields.flatMap((one) =>
    'object' in one ? [{ ...fieldReferrer(collection, key, one.field), sha256: one.object }] : [],
  )

/** Puts what is too long for the database into the object store. */
export async function spill(
  fields: readonly { readonly field: string; readonly bytes: Uint8Array }[],
  objects: DocumentObjects,
): Promise<ByteField[]> {
  return Promise.all(
    fields.map(async ({ field, bytes }) =>
      bytes.byteLength <= maxInlineBytes
        ? { field, bytes }
        : { field, object: (await objects.put(bytes)).sha256, size: bytes.byteLength },
    ),
  )
}

const writeStatement = statement(
  'document-bytes.write',
  `
  insert into sluice.document_bytes (collection, key, field, bytes, object, size)
  select $1, key, field, case when object is null then substring($2::bytea from start for size::int) end, object, size
  from unnest($3::text[], $4::text[], $5::int[], $6::text[], $7::bigint[]) as given (key, field, start, object, size)`,
)

/** Bytes in one statement at most, but for a field that is longer alone. */
const chunkBytes = 8_388_608

/**
 * Writes byte fields of new documents. The bytes of many travel as one binary value, since an array of them would
 * travel as hexadecimal text, twice as long and slow to make and to read.
 */
export async function writeBytes(
  session: Session,
  collection: string,
  fields: Iterable<ByteField & { readonly key: string }>,
): Promise<void> {
  let chunk: (ByteField & { readonly key: string })[] = []
  let size = 0
  const flush = async () => {
    if (chunk.length > 0) await session.execute(writeStatement, [collection, ...columns(chunk)])
    chunk = []
    size = 0
  }
  for (const field of fields) {
    const bytes = 'bytes' in field ? field.bytes.byteLength : 0
    if (size + bytes > chunkBytes) await flush()
    chunk.push(field)
    size += bytes
  }
  await flush()
}

function columns(fields: readonly (ByteField & { readonly key: string })[]): unknown[] {
  const parts: Uint8Array[] = []
  const starts: number[] = []
  let start = 1
  for (const field of fields) {
    starts.push(start)
    if ('bytes' in field) {
      parts.push(field.bytes)
      start += field.bytes.byteLength
    }
  }
  return [
    Buffer.concat(parts),
    fields.map((field) => field.key),
    fields.map((field) => field.field),
    starts,
    fields.map((field) => ('bytes' in field ? null : field.object)),
    fields.map((field) => ('bytes' in field ? field.bytes.byteLength : field.size)),
  ]
}

const readStatement = statement<{ field: string; bytes: Buffer | null; object: string | null }>(
  'document-bytes.read',
  'select field, bytes, object from sluice.document_bytes where collection = $1 and key = $2',
)

export function readBytes(session: Session, collection: string, key: string) {
  return session.query(readStatement, [collection, key])
}

const removeStatement = statement<{ field: string; object: string | null }>(
  'document-bytes.remove',
  `
  delete from sluice.document_bytes where collection = $1 and key = $2 and ($3::text[] is null or field = any ($3))
  returning field, object`,
)

/** Removes the byte fields of a document, or only these; the objects that they are need not be kept for them any more. */
export async function removeBytes(
  session: Session,
  objects: DocumentObjects,
  {
    collection,
    key,
    fields,
  }: { readonly collection: string; readonly key: string; readonly fields?: readonly string[] },
): Promise<void> {
  for (const { field, object } of await session.query(removeStatement, [collection, key, fields ?? null])) {
    if (object !== null) await objects.release(session, fieldReferrer(collection, key, field))
  }
}

const storedStatement = statement<{ key: string; field: string; bytes: number; sha256: string; in_objects: boolean }>(
  'document-bytes.stored',
  `
  select key, field, coalesce(octet_length(bytes), size)::int8 as bytes,
    coalesce(encode(sha256(bytes), 'hex'), object) as sha256, object is not null as in_objects
  from sluice.document_bytes where collection = $1 and key = any ($2::text[])`,
)

/** What the byte fields of documents are as stored; the server hashes them, so that they do not travel. */
export async function storedFields(
  session: Session,
  collection: string,
  keys: readonly string[],
): Promise<Record<string, Record<string, StoredField>>> {
  const found: Record<string, Record<string, StoredField>> = Object.create(null)
  for (const row of await session.query(storedStatement, [collection, keys])) {
    found[row.key] ??= Object.create(null) as Record<string, StoredField>
    found[row.key]![row.field] = { bytes: row.bytes, sha256: row.sha256, inObjects: row.in_objects }
  }
  return found
}
