/** The byte fields of documents: inline up to a limit, in the object store beyond. */
import type { Database, Session } from '../ports/database.ts'
import { statement } from '../ports/database.ts'
import type { ObjectStore } from '../ports/objects.ts'
import type { ByteField } from '../ports/sink.ts'
import { maxInlineBytes } from './document-body.ts'
import { groupedClaims, referToObjects } from './objects.ts'

/** What documents need of the object store. */
export interface DocumentObjects {
  put(bytes: Uint8Array): Promise<{ readonly sha256: string }>
  read(sha256: string): Promise<Uint8Array>
  /** In the transaction that writes the documents: their objects are kept as long as they are. */
  refer(session: Session, references: readonly { readonly sha256: string; readonly document: string }[]): Promise<void>
}

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
    refer: (session, references) =>
      referToObjects(
        session,
        claimant,
        references.map(({ sha256, document }) => ({ sha256, kind: 'document', id: document })),
      ),
  }
}

/** The name under which a document refers to objects. */
export const referrerOf = (collection: string, key: string): string => `${collection}/${key}`

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

const removeStatement = statement(
  'document-bytes.remove',
  'delete from sluice.document_bytes where collection = $1 and key = $2',
)

export async function removeBytes(session: Session, collection: string, key: string): Promise<void> {
  await session.execute(removeStatement, [collection, key])
}
