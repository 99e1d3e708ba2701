/**
 * A collection of documents as the sink of a stream. Transactional: everything is written in the transaction that
 * commits the offset.
 *
 * 1. First all rows are inserted, in the order of their keys; then documents are merged, in the order of their keys. An insert may wait for
 *    a transaction that inserts or merges, a merge only for one that merges, so nobody waits in a circle.
 * 2. Of two rows with one key in one batch, the one with the lower offset is the document.
 * 3. What merges into a document does so in the order of the offsets, on the row as it is under its lock.
 */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import type { ByteField, PreparedRow, Sink, SinkEnd, SinkItem } from '../ports/sink.ts'
import { encodeDocument, isRefusal, keyFault, refuse } from './document-body.ts'
import { type DocumentObjects, fieldReferences, referrerOf, spill, writeBytes } from './document-bytes.ts'

export interface DocumentSinkOptions {
  readonly collection: string
  /** The field that is the key. */
  readonly key: string
  /** What a document becomes when another record leads to it; undefined when it stays as it is. */
  readonly merge: ((document: Record<string, unknown>, record: unknown) => unknown) | undefined
  readonly objects: DocumentObjects
}

type Origin = { readonly stream: string; readonly partition: number }

export function documentSink(options: DocumentSinkOptions): Sink {
  return {
    class: 'transactional',
    prepare: (row) => prepare(options, row),
    write: (session, origin, items) => write(options, session, origin, items),
  }
}

function prepare({ key: field, objects }: DocumentSinkOptions, row: unknown) {
  const encoded = encodeDocument(row)
  if (isRefusal(encoded)) return encoded
  const key = (row as Record<string, unknown>)[field]
  const fault = keyFault(key)
  if (fault) return refuse(fault.reason, `the field "${field}": ${fault.detail}`)
  const size = encoded.fields.reduce((sum, { bytes }) => sum + bytes.byteLength, encoded.body.length)
  const ready = (bytes: readonly ByteField[]): PreparedRow => ({ key: key as string, body: encoded.body, bytes, size })
  return encoded.fields.length === 0 ? ready([]) : spill(encoded.fields, objects).then(ready)
}

type RowItem = SinkItem & { readonly target: PreparedRow }

const hasRow = (item: SinkItem): item is RowItem => 'key' in item.target
const keyOf = ({ target }: SinkItem): string => ('key' in target ? target.key : target.repeats)
const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

async function write(
  options: DocumentSinkOptions,
  session: Session,
  origin: Origin,
  items: readonly SinkItem[],
): Promise<SinkEnd[]> {
  const firsts = new Map<string, RowItem>()
  for (const item of items) if (hasRow(item) && !firsts.has(item.target.key)) firsts.set(item.target.key, item)
  const written = await insertRows(options, session, origin, [...firsts.values()])
  const repeats = items.filter((item) => !written.has(item))
  const refused = await mergeAll(options, session, repeats)
  return items.map((item) => {
    const refusal = refused.get(item)
    if (refusal) return { outcome: 'rejected', ...refusal }
    return { outcome: written.has(item) ? 'written' : 'duplicate' }
  })
}

const insertStatement = statement<{ key: string }>(
  'documents.insert',
  `
  insert into sluice.documents (collection, stream, partition, key, record_id, "offset", body)
  select $1, $2, $3, key, record_id, "offset", body
  from rows from (unnest($4::text[]), unnest($5::text[]), unnest($6::bigint[]), jsonb_array_elements($7::jsonb))
    with ordinality as given (key, record_id, "offset", body, position)
  order by position
  on conflict (collection, key) do nothing
  returning key`,
)

const ownStatement = statement<{ key: string }>(
  'documents.own',
  `
  select d.key from sluice.documents d
  join unnest($4::text[], $5::text[], $6::bigint[]) as given (key, record_id, "offset") on d.key = given.key
  where d.collection = $1 and d.stream = $2 and d.partition = $3 and d.record_id = given.record_id and d."offset" = given."offset"`,
)

/** Rows in one statement: its text stays far below the 256 MB that jsonb allows (64 at 1 MiB, or 5,000). */
const chunkRows = 5_000
const chunkChars = 67_108_864

async function insertRows(
  { collection, objects }: DocumentSinkOptions,
  session: Session,
  { stream, partition }: Origin,
  rows: readonly RowItem[],
): Promise<Set<SinkItem>> {
  const written = new Set<SinkItem>()
  const sorted = rows.toSorted((a, b) => byCodeUnits(a.target.key, b.target.key))
  for (const chunk of chunksOf(sorted)) {
    const columns = [
      chunk.map((item) => item.target.key),
      chunk.map((item) => item.recordId),
      chunk.map((item) => item.offset),
    ]
    const bodies = `[${chunk.map((item) => item.target.body).join(',')}]`
    const inserted = await session.query(insertStatement, [collection, stream, partition, ...columns, bodies])
    const keys = new Set(inserted.map((row) => row.key))
    const fresh = chunk.filter((item) => keys.has(item.target.key))
    await writeBytes(session, collection, bytesOf(fresh))
    await objects.refer(session, referencesOf(collection, fresh))
    for (const item of fresh) written.add(item)
    if (fresh.length === chunk.length) continue
    const own = await session.query(ownStatement, [collection, stream, partition, ...columns])
    const ownKeys = new Set(own.map((row) => row.key))
    for (const item of chunk) if (ownKeys.has(item.target.key)) written.add(item)
  }
  return written
}

function* chunksOf(rows: readonly RowItem[]): Generator<RowItem[]> {
  let chunk: RowItem[] = []
  let chars = 0
  for (const row of rows) {
    if (chunk.length > 0 && (chunk.length === chunkRows || chars + row.target.body.length > chunkChars)) {
      yield chunk
      chunk = []
      chars = 0
    }
    chunk.push(row)
    chars += row.target.body.length
  }
  if (chunk.length > 0) yield chunk
}

function* bytesOf(rows: readonly RowItem[]): Generator<ByteField & { key: string }> {
  for (const { target } of rows) for (const field of target.bytes) yield { ...field, key: target.key }
}

const referencesOf = (collection: string, rows: readonly RowItem[]) =>
  rows.flatMap(({ target, objects }) => [
    ...objects.map((sha256) => ({ ...referrerOf(collection, target.key), sha256 })),
    ...fieldReferences(collection, target.key, target.bytes),
  ])

const lockStatement = statement<{ key: string; body: Record<string, unknown> }>(
  'documents.lock',
  `
  select d.key, d.body from unnest($2::text[]) with ordinality as given (key, position)
  join sluice.documents d on d.collection = $1 and d.key = given.key
  order by given.position
  for no key update of d`,
)

const changeStatement = statement(
  'documents.change',
  `
  update sluice.documents d set body = given.body, updated_at = sluice.sluice_now()
  from rows from (unnest($2::text[]), jsonb_array_elements($3::jsonb)) as given (key, body)
  where d.collection = $1 and d.key = given.key`,
)

/** Documents that are read, merged and written at once: at most 64 MiB of JSON at their largest. */
const mergeChunk = 64

type Refused = Map<SinkItem, { readonly reason: string; readonly detail: string }>

async function mergeAll(
  { collection, key: field, merge }: DocumentSinkOptions,
  session: Session,
  repeats: readonly SinkItem[],
): Promise<Refused> {
  const refused: Refused = new Map()
  if (merge === undefined || repeats.length === 0) return refused
  const byKey = Map.groupBy(repeats, keyOf)
  const keys = [...byKey.keys()].sort(byCodeUnits)
  for (let start = 0; start < keys.length; start += mergeChunk) {
    const found = await session.query(lockStatement, [collection, keys.slice(start, start + mergeChunk)])
    const changed: { key: string; body: string }[] = []
    for (const { key, body } of found) {
      const after = mergeOne(body, byKey.get(key) ?? [], (document, record) => merge(document, record), field, refused)
      if (after !== undefined) changed.push({ key, body: after })
    }
    if (changed.length === 0) continue
    const bodies = `[${changed.map((document) => document.body).join(',')}]`
    await session.execute(changeStatement, [collection, changed.map((document) => document.key), bodies])
  }
  return refused
}

/** The JSON after all merges; undefined when none applied. A merge that fails leaves the document as the last left it. */
function mergeOne(
  body: Record<string, unknown>,
  items: readonly SinkItem[],
  merge: (document: Record<string, unknown>, record: unknown) => unknown,
  field: string,
  refused: Refused,
): string | undefined {
  const key = body[field]
  let text: string | undefined
  for (const item of items) {
    try {
      // A fresh copy each time: a merge that changes what it is given and then fails leaves no trace.
      const document = text === undefined ? structuredClone(body) : JSON.parse(text)
      const encoded = encodeDocument(merge(document, item.record))
      if (isRefusal(encoded)) throw new SluiceError('INVALID_INPUT', `${encoded.reason}: ${encoded.detail}`)
      if (encoded.fields.length > 0) throw new SluiceError('INVALID_INPUT', 'a merge cannot give byte fields')
      if (JSON.parse(encoded.body)[field] !== key) {
        throw new SluiceError('INVALID_INPUT', `a merge cannot change the key "${field}"`)
      }
      text = encoded.body
    } catch (thrown) {
      refused.set(item, refuse('merge failed', thrown instanceof Error ? thrown.message : String(thrown)))
    }
  }
  return text
}
