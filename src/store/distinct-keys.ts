/** How the first record of each key of a distinct stream ended. */
import { type Session, statement } from '../ports/database.ts'

export type FirstOutcome = 'written' | 'duplicate' | 'filtered' | 'rejected' | 'dead'

/** The end of a record that went through the steps. */
export interface FirstEnd {
  readonly key: string
  readonly recordId: string
  readonly outcome: FirstOutcome
  /** The document it led to. */
  readonly documentKey: string | null
  /** It was let through although the key was known: it replaces the entry if it led to a document or nothing did. */
  readonly again: boolean
}

export interface KnownKey {
  readonly key: string
  readonly recordId: string
  readonly outcome: FirstOutcome
  readonly documentKey: string | null
}

const registerStatement = statement<{ key: string }>(
  'distinct-keys.register',
  `
  insert into sluice.stream_keys as known (stream, key, record_id, outcome, document_key, at)
  select $1, key, record_id, outcome, document_key, $2
  from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bool[]) as given (key, record_id, outcome, document_key, again)
  order by key
  on conflict (stream, key) do update
  set record_id = excluded.record_id, outcome = excluded.outcome, document_key = excluded.document_key, at = excluded.at
  where known.outcome = 'dead'
  returning key`,
)

const replaceStatement = statement(
  'distinct-keys.replace',
  `
  update sluice.stream_keys known
  set record_id = given.record_id, outcome = given.outcome, document_key = given.document_key, at = $2
  from unnest($3::text[], $4::text[], $5::text[], $6::text[]) as given (key, record_id, outcome, document_key)
  where known.stream = $1 and known.key = given.key and (given.document_key is not null or known.document_key is null)`,
)

/**
 * Registers ends, one per key at most; waits for whoever registers the same key at this moment. Gives the keys whose end
 * now stands; of a key left out another record was first, and the entry says how that one ended.
 */
export async function register(
  session: Session,
  stream: string,
  at: Date,
  ends: readonly FirstEnd[],
): Promise<Set<string>> {
  if (ends.length === 0) return new Set()
  const rows = await session.query(registerStatement, [stream, at, ...columns(ends), ends.map((end) => end.again)])
  const stands = new Set(rows.map((row) => row.key))
  const replacing = ends.filter((end) => end.again && !stands.has(end.key))
  if (replacing.length > 0) await session.execute(replaceStatement, [stream, at, ...columns(replacing)])
  for (const { key } of replacing) stands.add(key)
  return stands
}

const columns = (ends: readonly FirstEnd[]): unknown[] => [
  ends.map((end) => end.key),
  ends.map((end) => end.recordId),
  ends.map((end) => end.outcome),
  ends.map((end) => end.documentKey),
]

const lookUpStatement = statement<KnownKey>(
  'distinct-keys.look-up',
  `
  select key, record_id as "recordId", outcome, document_key as "documentKey"
  from sluice.stream_keys where stream = $1 and key = any ($2::text[])`,
)

/** The entries of those keys that have one. */
export async function lookUp(session: Session, stream: string, keys: Iterable<string>): Promise<Map<string, KnownKey>> {
  const wanted = [...new Set(keys)]
  if (wanted.length === 0) return new Map()
  const rows = await session.query(lookUpStatement, [stream, wanted])
  return new Map(rows.map((row) => [row.key, row]))
}
