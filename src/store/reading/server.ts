/** What kind of server and login this is, and what waits in it. */
import { type Session, statement } from '../../ports/database.ts'

export interface ServerFacts {
  /** As in server_version_num. */
  readonly number: number
  readonly version: string
  readonly readOnly: boolean
  readonly standby: boolean
  readonly encoding: string
  readonly user: string
  readonly database: string
  readonly schemaThere: boolean
  /** May make the schema, or, where it is there, tables in it. */
  readonly mayCreate: boolean
  /** The user's own tables, or those of a role that it belongs to. */
  readonly owns: boolean
  readonly freeConnections: number
}

interface Server extends ServerFacts {
  readonly now: Date
}

const serverStatement = statement<Server>(
  'reading.server',
  `
  with schema as (select oid from pg_namespace where nspname = 'sluice')
  select current_setting('server_version_num')::int as number, current_setting('server_version') as version,
    current_setting('default_transaction_read_only')::bool as "readOnly", pg_is_in_recovery() as standby,
    current_setting('server_encoding') as encoding, current_user::text as user, current_database()::text as database,
    exists (select from schema) as "schemaThere",
    case when exists (select from schema) then (select bool_and(has_schema_privilege(oid, 'create') and has_schema_privilege(oid, 'usage')) from schema)
      else has_database_privilege(current_database(), 'create') end as "mayCreate",
    coalesce((select bool_and(pg_has_role(c.relowner, 'usage')) from pg_class c join schema s on s.oid = c.relnamespace
      where c.relkind in ('r', 'p')), true) as owns,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - (select count(*) from pg_stat_activity where backend_type = 'client backend')::int as "freeConnections",
    clock_timestamp() as now`,
)

export async function readServer(session: Session): Promise<Server> {
  const [row] = await session.query(serverStatement)
  return row!
}

interface Stuck {
  /** Nodes with a live lease. */
  readonly engines: number
  readonly shardProcesses: number
  /** Unfinished runs without an owner that lives, for longer than a minute. */
  readonly orphanRuns: number
  /** Shards with records to do and without a holder that lives. */
  readonly orphanShards: number
  /** Streams with dead letters, the most first, as `name: number`. */
  readonly deadLetters: readonly string[]
}

const stuckStatement = statement<Stuck>(
  'reading.stuck',
  `
  select
    (select count(*) from sluice.nodes where kind = 'engine' and lease_until > sluice.sluice_now())::int as engines,
    (select count(*) from sluice.nodes where kind = 'shard' and lease_until > sluice.sluice_now())::int as "shardProcesses",
    (select count(*) from sluice.runs r
     where state in ('queued', 'running') and created_at < sluice.sluice_now() - interval '1 minute'
       and not exists (select from sluice.nodes n where n.id = r.node_id and n.lease_until > sluice.sluice_now() - interval '1 minute'))::int
      as "orphanRuns",
    (select count(*) from sluice.shards s left join sluice.topic_partitions p on p.topic = s.topic and p.partition = s.partition
     where (s.holder is null or s.lease_until < sluice.sluice_now() - interval '1 minute')
       and (coalesce(p.next_offset, s.source_end, 0) > s.committed_offset or s.items > 0 or exists (
         select from sluice.stream_waiting w where w.stream = s.stream and w.partition = s.partition and w.state <> 'dead')))::int
      as "orphanShards",
    array(select stream || ': ' || count(*) from sluice.stream_waiting where state = 'dead' group by stream order by count(*) desc limit 10)
      as "deadLetters"`,
)

export async function readStuck(session: Session): Promise<Stuck> {
  const [row] = await session.query(stuckStatement)
  return row!
}

const sampleStatement = statement<{ sha256: string; bytes: number }>(
  'reading.sample-objects',
  `
  select encode(o.sha256, 'hex') as sha256, bytes from sluice.objects o
  where o.sha256 >= decode($1, 'hex') and exists (select from sluice.object_refs r where r.sha256 = o.sha256)
  order by o.sha256 limit $2`,
)

/** Objects that something refers to, from a hash on. */
export function sampleObjects(session: Session, from: string, limit: number) {
  return session.query(sampleStatement, [from, limit])
}
