/**
 * What HTTP ingest writes besides rows: its lanes (shards that a serving process holds), the ids of events, and the
 * ledger of a group.
 */
import { type PipelineStep, type Session, statement } from '../ports/database.ts'
import type { HeldShard, ShardId } from './shards.ts'

const addStatement = statement<HeldShard>(
  'ingest.add-lane',
  `
  insert into sluice.shards (stream, partition, topic, committed_offset, holder, epoch, lease_until)
  select $1, coalesce(max(partition) + 1, 0), $2, 0, $3, 1, sluice.sluice_now() + $4 * interval '1 ms'
  from sluice.shards where stream = $1
  on conflict do nothing
  returning stream, partition, topic, epoch, committed_offset as "committedOffset"`,
)

/** Makes the shard of the next number, held by the node. None when another process made it at this moment. */
export async function addLane(
  session: Session,
  { stream, source, node, leaseMs }: { stream: string; source: string; node: string; leaseMs: number },
): Promise<HeldShard | undefined> {
  return (await session.query(addStatement, [stream, source, node, leaseMs]))[0]
}

const takeIdsStatement = statement<{ id: string }>(
  'ingest.take-ids',
  `
  insert into sluice.ingest_ids (id, expires_at)
  select id, sluice.sluice_now() + $2 * interval '1 ms' from unnest($1::uuid[]) as given (id) order by id
  on conflict do nothing
  returning id`,
)

/** Registers ids (sorted, so that nobody waits in a circle); gives those that were not known. Waits for whoever registers one of them now. */
export async function takeIds(session: Session, ids: readonly string[], forMs: number): Promise<Set<string>> {
  return new Set((await session.query(takeIdsStatement, [ids, forMs])).map((row) => row.id))
}

const giveUpIdsStatement = statement('ingest.give-up-ids', 'delete from sluice.ingest_ids where id = any ($1::uuid[])')

/** Of events that were not stored after all. */
export async function giveUpIds(session: Session, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await session.execute(giveUpIdsStatement, [ids])
}

const batchStatement = statement(
  'ingest.batch',
  `
  insert into sluice.ledger_batches
    (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at, reasons)
  values ($1, $2, $3, $4, $4::bigint - $3::bigint, $5, $6, 0, $7, 0, 0, $8, $9)`,
)

export interface IngestBatch extends ShardId {
  readonly from: number
  readonly to: number
  readonly written: number
  readonly duplicate: number
  readonly rejected: number
  /** How many were rejected for which reason. */
  readonly reasons: Readonly<Record<string, number>>
}

/** The ledger of a group; part of a transaction that began with `advance`, whose time it bears. */
export async function addBatch(session: Session, batch: IngestBatch, at: Date): Promise<void> {
  const { stream, partition, from, to, written, duplicate, rejected, reasons } = batch
  await session.execute(batchStatement, [
    ...[stream, partition, from, to],
    ...[written, duplicate, rejected, at, JSON.stringify(reasons)],
  ])
}

const guardedBatchStatement = statement(
  'ingest.guarded-batch',
  `
  with held as (
    update sluice.shards
    set committed_offset = $5, in_flight = 0, parked = 0, committed_at = greatest(sluice.sluice_now(), folded_through)
    where stream = $1 and partition = $2 and epoch = $3 and committed_offset = $4 and holder is not null
    returning committed_at
  )
  insert into sluice.ledger_batches
    (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at, reasons)
  values ($1, $2, $4, $5, $5::bigint - $4::bigint, $6, $7, 0, $8, 0, 0, (select committed_at from held), $9)`,
)

/**
 * `advance` and `addBatch` in one, as the first step of a pipeline. Without the shard it has no time to bear, and fails (see
 * `isFenced`).
 */
export function guardedBatch(batch: IngestBatch & { readonly epoch: number }): PipelineStep {
  const { stream, partition, epoch, from, to, written, duplicate, rejected, reasons } = batch
  const numbers = [partition, epoch, from, to, written, duplicate, rejected].map(String)
  return { statement: guardedBatchStatement, values: [stream, ...numbers, JSON.stringify(reasons)] }
}

/** Whether a pipeline failed since its guard did not hold. */
export function isFenced(thrown: unknown): boolean {
  const { code, column } = (thrown ?? {}) as { readonly code?: unknown; readonly column?: unknown }
  return code === '23502' && column === 'committed_at'
}

const newIdsStatement = statement(
  'ingest.new-ids',
  `
  insert into sluice.ingest_ids (id, expires_at)
  select id, sluice.sluice_now() + $2 * interval '1 ms' from unnest($1::uuid[]) as given (id)`,
)

/** Registers ids (sorted) of which none is known, as a step of a pipeline; else it fails (see `isKnownId`). */
export function newIds(ids: readonly string[], forMs: number): PipelineStep {
  return { statement: newIdsStatement, values: [`{${ids.join(',')}}`, String(forMs)] }
}

/** Whether a pipeline failed since an id was known. */
export function isKnownId(thrown: unknown): boolean {
  const { code, constraint } = (thrown ?? {}) as { readonly code?: unknown; readonly constraint?: unknown }
  return code === '23505' && constraint === 'ingest_ids_pkey'
}

const knownIdsStatement = statement<{ id: string }>(
  'ingest.known-ids',
  'select id from sluice.ingest_ids where id = any ($1::uuid[])',
)

/** Those of the ids that are registered. */
export async function knownIds(session: Session, ids: readonly string[]): Promise<Set<string>> {
  return new Set((await session.query(knownIdsStatement, [ids])).map((row) => row.id))
}

const forgetStatement = statement(
  'ingest.forget-ids',
  `
  delete from sluice.ingest_ids
  where ctid = any (array(select ctid from sluice.ingest_ids where expires_at < sluice.sluice_now() limit $1))`,
)

/** Deletes up to `limit` ids whose time is over; gives their number. */
export function forgetIngestIds(session: Session, limit: number): Promise<number> {
  return session.execute(forgetStatement, [limit])
}
