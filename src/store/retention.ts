/** History is bounded: runs are deleted in batches, append-only facts are dropped by their day. */
import { type Session, statement } from '../ports/database.ts'

const prepare = statement(
  'retention.prepare',
  `select sluice.ensure_day_partitions('sluice.transitions', (sluice.sluice_now() at time zone 'UTC')::date, 3),
     sluice.ensure_day_partitions('sluice.log_chunks', (sluice.sluice_now() at time zone 'UTC')::date, 3)`,
)

/** `create table if not exists` fails when two do it at once. */
const oneAtATime = statement('retention.one_at_a_time', `select pg_advisory_xact_lock(hashtext('sluice partitions'))`)

/** Makes the day partitions of today and the two days ahead. In a transaction, since engines may start at once. */
export async function preparePartitions(session: Session): Promise<void> {
  await session.execute(oneAtATime)
  await session.execute(prepare)
}

const deleteRuns = statement<{ id: string }>(
  'retention.delete_runs',
  `with old as (
     select id from sluice.runs
     where finished_at < $1 and state in ('success', 'failed', 'cancelled')
     order by finished_at limit $2 for update skip locked
   ), tasks as (delete from sluice.tasks t using old where t.run_id = old.id),
   widths as (delete from sluice.map_ranges m using old where m.run_id = old.id),
   steps as (delete from sluice.checkpoints c using old where c.run_id = old.id),
   progress as (delete from sluice.task_progress p using old where p.run_id = old.id),
   lineage as (delete from sluice.lineage l using old where l.run_id = old.id),
   environments as (delete from sluice.run_environments e using old where e.run_id = old.id),
   told as (delete from sluice.lineage_sent s using old where s.run_id = old.id),
   wishes as (delete from sluice.inbox i using old where i.run_id = old.id)
   delete from sluice.runs r using old where r.id = old.id returning r.id`,
)

/** Deletes up to `limit` runs that finished before a time, with all that belongs to them but their log; gives their ids. */
export async function deleteFinishedRuns(session: Session, before: Date, limit: number): Promise<string[]> {
  return (await session.query(deleteRuns, [before, limit])).map((row) => row.id)
}

/**
 * Days are kept from the horizon on, and from the day on which the oldest unfinished run began, since adopting and
 * showing it needs its facts.
 */
const dropDays = statement<{ name: string }>(
  'retention.drop_days',
  `with bound as (
     select (least($1::timestamptz, (select min(created_at) from sluice.runs where state in ('queued', 'running')))
       at time zone 'UTC')::date as keep_from
   )
   select name from bound, sluice.drop_day_partitions('sluice.transitions', keep_from) as name
   union all
   select name from bound, sluice.drop_day_partitions('sluice.log_chunks', keep_from) as name`,
)

export async function dropOldDays(session: Session, before: Date): Promise<string[]> {
  return (await session.query(dropDays, [before])).map((row) => row.name)
}

const deleteTicks = statement('retention.delete_ticks', 'delete from sluice.ticks where at < $1')

export function deleteOldTicks(session: Session, before: Date): Promise<number> {
  return session.execute(deleteTicks, [before])
}

const deleteEdits = statement(
  'retention.delete_edits',
  `delete from sluice.record_edits e
   where at < $1 and not exists (
     select from sluice.stream_waiting w where w.stream = e.stream and w.partition = e.partition and w."offset" = e."offset")`,
)

/** Deletes what is known of edits before a time, of records that have ended. */
export function deleteOldEdits(session: Session, before: Date): Promise<number> {
  return session.execute(deleteEdits, [before])
}

const deleteVersions = statement<{ hash: string }>(
  'retention.delete_versions',
  `delete from sluice.versions v
   where used_at < $1
     and not exists (select from sluice.runs r where r.version = v.hash)
     and not exists (select from sluice.deployment d where d.version = v.hash)
     and not exists (select from sluice.backfills b where b.version = v.hash and b.state = 'submitting')
   returning hash`,
)

/** Removes versions that took no new work since a time, and that no run, no deployment and no backfill that makes runs names; gives their hashes. */
export async function deleteUnusedVersions(session: Session, before: Date): Promise<string[]> {
  return (await session.query(deleteVersions, [before])).map((row) => row.hash)
}

const topicNames = statement<{ name: string }>('retention.topics', 'select name from sluice.topics order by name')

export async function listTopics(session: Session): Promise<string[]> {
  return (await session.query(topicNames)).map((row) => row.name)
}
