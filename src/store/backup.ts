/**
 * What a backup reads of the database, and what a restore writes.
 *
 * 1. Everything is read in one transaction, REPEATABLE READ: what was committed before its first statement, and nothing
 *    else. While it lasts, nothing removes what such a transaction cannot keep: partitions, objects, versions
 *    (`withoutBackup`).
 * 2. A restore is one transaction, too, with the tables and their rows: it is there whole or not at all. It holds the lock
 *    of the migrators, so a Sluice that starts meanwhile waits for it.
 * 3. What held leases when the backup was taken holds nothing any more: nodes, what they say, and claims are left out, epochs and tokens
 *    become others that nobody was ever given.
 */
import { SluiceError } from '../errors.ts'
import { type Database, type Session, statement } from '../ports/database.ts'

/** The number is 'backup' in hexadecimal digits of its letters. */
const lockStatement = statement('backup.lock', "select pg_advisory_xact_lock(x'6261636b7570'::bigint)")
const tryShareStatement = statement<{ got: boolean }>(
  'backup.try-share',
  "select pg_try_advisory_xact_lock_shared(x'6261636b7570'::bigint) as got",
)
const setLockTimeoutStatement = statement(
  'backup.set-lock-timeout',
  `select set_config('lock_timeout', '60s', true), set_config('statement_timeout', '0', true)`,
)
const aliveStatement = statement('backup.still-locked', 'select 1')

/**
 * Runs `work` on a snapshot of the database. Needs two connections, of a pool that does not end idle transactions.
 * @throws SluiceError CONFLICT when another backup has been running for a minute
 */
export function withSnapshot<T>(database: Database, work: (session: Session) => Promise<T>): Promise<T> {
  // The lock must be held before the snapshot is taken, which is at the first statement of a transaction.
  return database.transaction(async (holder) => {
    await holder.query(setLockTimeoutStatement)
    await holder.query(lockStatement).catch((thrown: unknown) => {
      if (sqlStateOf(thrown) !== '55P03') throw thrown
      throw new SluiceError('CONFLICT', 'Another backup of this database is running; wait for its end', {
        cause: thrown,
      })
    })
    const result = await database.transaction(async (session) => {
      await session.script('set transaction isolation level repeatable read, read only')
      await session.script('set local statement_timeout = 0')
      return work(session)
    })
    await holder.query(aliveStatement)
    return result
  })
}

const sqlStateOf = (thrown: unknown): unknown => (thrown instanceof Error && 'code' in thrown ? thrown.code : undefined)

/** To be asked in a transaction that removes what no snapshot keeps, before it does: false while a backup runs. */
export async function withoutBackup(session: Session): Promise<boolean> {
  const [row] = await session.query(tryShareStatement)
  return row!.got
}

export interface TableName {
  readonly schema: string
  readonly name: string
}

export interface BackedTable extends TableName {
  readonly columns: readonly string[]
  /** How much it takes on disk, about. */
  readonly bytes: number
  readonly copyOut: string
  /** Tables that its rows refer to. */
  readonly needs: readonly string[]
}

const tablesStatement = statement<BackedTable>(
  'backup.tables',
  `
  with owned as (
    select oid, nspname from pg_namespace where nspname = 'sluice' or nspname = any ($1::text[])
  ), kept as (
    select c.oid, o.nspname as schema, c.relname as name
    from pg_class c join owned o on o.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition
      and not (o.nspname = 'sluice' and c.relname in ('migrations', 'nodes', 'object_claims', 'app_schemas', 'app_login'))
      -- What a process says of itself while it lives.
      and not exists (select from pg_constraint r where r.conrelid = c.oid and r.confrelid = 'sluice.nodes'::regclass)
  )
  select k.schema, k.name, columns.names as columns,
    (select coalesce(sum(pg_table_size(t.relid)), 0)::bigint from pg_partition_tree(k.oid) t)
      + case when pg_table_size(k.oid) is null then 0 else pg_table_size(k.oid) end as bytes,
    format('copy (select %s from %I.%I) to stdout', columns.list, k.schema, k.name) as "copyOut",
    array(
      select distinct f.schema || '.' || f.name from pg_constraint r join kept f on f.oid = r.confrelid
      where r.conrelid = k.oid and r.contype = 'f' and f.oid <> k.oid
    ) as needs
  from kept k
  cross join lateral (
    select array_agg(attname::text order by attnum) as names, string_agg(format('%I', attname), ', ' order by attnum) as list
    from pg_attribute where attrelid = k.oid and attnum > 0 and not attisdropped and attgenerated = ''
  ) as columns
  order by k.schema, k.name`,
)

/** Databases of before there were apps are backed up, too. */
const knowsAppsStatement = statement<{ known: boolean }>(
  'backup.knows-apps',
  `select to_regclass('sluice.app_schemas') is not null as known`,
)
const appSchemasStatement = statement<{ schema: string }>(
  'backup.app-schemas',
  'select schema from sluice.app_schemas a join pg_namespace n on n.nspname = a.schema order by schema',
)

/** The schemas that migrations of apps have made. */
export async function listAppSchemas(session: Session): Promise<string[]> {
  const [apps] = await session.query(knowsAppsStatement)
  return apps?.known ? (await session.query(appSchemasStatement)).map(({ schema }) => schema) : []
}

/** Every table with rows of Sluice's or an app's; a table comes after those that its rows refer to. */
export async function listTables(session: Session): Promise<BackedTable[]> {
  const schemas = await listAppSchemas(session)
  const left = new Map(
    (await session.query(tablesStatement, [schemas])).map((table) => [`${table.schema}.${table.name}`, table]),
  )
  const sorted: BackedTable[] = []
  while (left.size > 0) {
    const ready = [...left].filter(([, { needs }]) => needs.every((need) => !left.has(need)))
    if (ready.length === 0) {
      const names = [...left.keys()].join(', ')
      throw new SluiceError('CONFLICT', `Tables that refer to one another in a circle cannot be backed up: ${names}`)
    }
    for (const [name, table] of ready) {
      sorted.push(table)
      left.delete(name)
    }
  }
  return sorted
}

export interface DayPartition extends TableName {
  /** YYYYMMDD. */
  readonly day: string
}

const partitionsStatement = statement<DayPartition>(
  'backup.partitions',
  `
  select n.nspname as schema, p.relname as name, right(c.relname, 8) as day
  from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
  join pg_namespace n on n.oid = p.relnamespace
  where n.nspname = 'sluice' and c.relname ~ '_[0-9]{8}$'
  order by 1, 2, 3`,
)

export function listPartitions(session: Session): Promise<DayPartition[]> {
  return session.query(partitionsStatement)
}

/** Of an app's table. Those that its migrations make are there already when it is restored. */
export interface AppPartition extends TableName {
  readonly parentSchema: string
  readonly parent: string
  /** `for values ...` or `default`, as the server writes it. */
  readonly bound: string
  /** What it is itself partitioned by; null when it is not. */
  readonly by: string | null
}

const appPartitionsStatement = statement<AppPartition>(
  'backup.app-partitions',
  `
  select n.nspname as schema, c.relname as name, pn.nspname as "parentSchema", p.relname as parent,
    pg_get_expr(c.relpartbound, c.oid) as bound, pg_get_partkeydef(c.oid) as by
  from pg_class root join pg_namespace rn on rn.oid = root.relnamespace
  cross join lateral pg_partition_tree(root.oid) t
  join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace
  join pg_class p on p.oid = t.parentrelid join pg_namespace pn on pn.oid = p.relnamespace
  where root.relkind = 'p' and not root.relispartition and rn.nspname = any ($1::text[])
  order by t.level, 1, 2`,
)

/** Those above before those below. */
export async function listAppPartitions(session: Session): Promise<AppPartition[]> {
  return session.query(appPartitionsStatement, [await listAppSchemas(session)])
}

export interface SequenceValue extends TableName {
  /** Empty: it belongs to no column, and `name` is its own. */
  readonly column: string
  /** The last number that it gave; null when it gave none. */
  readonly last: number | null
}

/** A sequence is read as it is now, not as of the snapshot: at or above every number that the snapshot has. */
const sequencesStatement = statement<SequenceValue>(
  'backup.sequences',
  `
  select n.nspname as schema, c.relname as name, a.attname as column, pg_sequence_last_value(s.oid) as last
  from pg_class s
  join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
  join pg_class c on c.oid = d.refobjid
  join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
  join pg_namespace n on n.oid = c.relnamespace
  where s.relkind = 'S' and (n.nspname = 'sluice' or n.nspname = any ($1::text[]))
  union all
  select n.nspname, s.relname, '', pg_sequence_last_value(s.oid)
  from pg_class s join pg_namespace n on n.oid = s.relnamespace
  where s.relkind = 'S' and n.nspname = any ($1::text[]) and not exists (
    select from pg_depend d
    where d.objid = s.oid and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'))
  order by 1, 2, 3`,
)

export async function listSequences(session: Session): Promise<SequenceValue[]> {
  return session.query(sequencesStatement, [await listAppSchemas(session)])
}

const migrationsStatement = statement<{ scope: string; number: number; name: string; sha256: string }>(
  'backup.migrations',
  'select scope, number, name, sha256 from sluice.migrations order by scope, number',
)

export function listMigrations(session: Session) {
  return session.query(migrationsStatement)
}

const versionsStatement = statement<{ hash: string }>(
  'backup.versions',
  `
  select hash from sluice.versions v
  where exists (select from sluice.runs r where r.version = v.hash) or exists (select from sluice.deployment d where d.version = v.hash)
  order by hash`,
)

/** Databases of before there were backfills are backed up, too. */
const knowsBackfills = statement<{ known: boolean }>(
  'backup.knows_backfills',
  `select to_regclass('sluice.backfills') is not null as known`,
)
const submittingStatement = statement<{ hash: string }>(
  'backup.versions_of_backfills',
  `select distinct version as hash from sluice.backfills where state = 'submitting'`,
)

/** Versions whose code is needed: by runs that are kept, and by what takes new work. */
export async function listNeededVersions(session: Session): Promise<string[]> {
  const [backfills] = await session.query(knowsBackfills)
  const needed = await session.query(versionsStatement)
  const submitting = backfills?.known ? await session.query(submittingStatement) : []
  return [...new Set([...needed, ...submitting].map(({ hash }) => hash))].sort()
}

const objectSumStatement = statement<{ count: number; bytes: number }>(
  'backup.sum-objects',
  `
  select count(*)::bigint as count, coalesce(sum(bytes), 0)::bigint as bytes from sluice.objects o
  where exists (select from sluice.object_refs r where r.sha256 = o.sha256)`,
)

const objectsStatement = statement<{ sha256: string }>(
  'backup.objects',
  `
  select encode(sha256, 'hex') as sha256 from sluice.objects o
  where sha256 > decode($1, 'hex') and exists (select from sluice.object_refs r where r.sha256 = o.sha256)
  order by o.sha256 limit 5000`,
)

/** How many objects something refers to, and their bytes. */
export async function sumObjects(session: Session): Promise<{ readonly count: number; readonly bytes: number }> {
  const [row] = await session.query(objectSumStatement)
  return row!
}

/** Their hashes, in order. */
export async function* listReferencedObjects(session: Session): AsyncGenerator<string> {
  for (let after = ''; ; ) {
    const rows = await session.query(objectsStatement, [after])
    for (const { sha256 } of rows) yield sha256
    if (rows.length < 5_000) return
    after = rows.at(-1)!.sha256
  }
}
