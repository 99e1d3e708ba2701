/** What a restore writes; its rules are those of `backup.ts`. */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import {
  type AppPartition,
  type DayPartition,
  listAppSchemas,
  listTables,
  type SequenceValue,
  type TableName,
} from './backup.ts'
import { applyWithin, type MigrationFolder, readMigrations } from './migrate.ts'
import { type AppliedMigration, failed } from './migration-plan.ts'

const presentStatement = statement<{ tables: number }>(
  'restore.present',
  `
  select count(*)::int as tables from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any ($1::text[]) and c.relkind in ('r', 'p')`,
)

/** @throws SluiceError CONFLICT when the database has tables of Sluice's, or in the named schemas */
export async function refuseUsedDatabase(session: Session, schemas: readonly string[]): Promise<void> {
  const [row] = await session.query(presentStatement, [['sluice', ...schemas]])
  if (row!.tables === 0) return
  throw new SluiceError(
    'CONFLICT',
    'The database has a Sluice in it already. Restore into an empty one: give another SLUICE_HOME or SLUICE_DATABASE_URL, or move away what is there',
  )
}

/**
 * Makes the tables as they were when the backup was taken. Gives the migrations that this Sluice has besides.
 * @throws SluiceError MIGRATION_FAILED when the backup has migrations that this Sluice does not know, or others
 */
export async function makeTables(
  session: Session,
  applied: readonly AppliedMigration[],
  folders?: readonly MigrationFolder[],
): Promise<void> {
  const files = await readMigrations(folders)
  for (const { scope, name, number, sha256 } of applied) {
    const file = files.find((one) => one.scope === scope && one.number === number)
    if (file === undefined) {
      throw failed(`The backup was made by a newer Sluice or with another app: ${scope}/${name} is not known here`)
    }
    if (file.sha256 !== sha256) throw failed(`The backup has another ${scope}/${name} than this Sluice`)
  }
  const before = files.filter((file) =>
    applied.some(({ scope, number }) => scope === file.scope && number === file.number),
  )
  await applyWithin(session, before)
}

const makePartitionStatement = statement(
  'restore.make-partition',
  `select sluice.ensure_day_partitions(to_regclass(format('%I.%I', $1::text, $2::text)), to_date($3, 'YYYYMMDD'), 1)`,
)

export async function makePartitions(session: Session, partitions: readonly DayPartition[]): Promise<void> {
  for (const { schema, name, day } of partitions) await session.execute(makePartitionStatement, [schema, name, day])
}

const copyInStatement = statement<{ sql: string }>(
  'restore.copy-in',
  `
  select format('copy %I.%I (%s) from stdin', $1::text, $2::text,
    (select string_agg(format('%I', name), ', ' order by place) from unnest($3::text[]) with ordinality as u (name, place))) as sql`,
)

export interface KeptTable extends TableName {
  readonly columns: readonly string[]
}

/** Only tables that a backup reads are written, whatever the file says. @throws SluiceError BACKUP_INVALID */
export async function openTables(session: Session): Promise<(table: KeptTable) => Promise<string>> {
  const known = new Map((await listTables(session)).map((table) => [`${table.schema}.${table.name}`, table.columns]))
  return async ({ schema, name, columns }) => {
    const own = known.get(`${schema}.${name}`)
    if (own === undefined || columns.length !== own.length || columns.some((column) => !own.includes(column))) {
      throw new SluiceError(
        'BACKUP_INVALID',
        `The backup has a table ${schema}.${name} that its migrations do not make`,
      )
    }
    const [row] = await session.query(copyInStatement, [schema, name, columns])
    return row!.sql
  }
}

const makeAppPartitionStatement = statement<{ sql: string }>(
  'restore.make-app-partition',
  `
  select format('create table if not exists %I.%I partition of %I.%I %s', $1::text, $2::text, $3::text, $4::text, $5::text)
    || case when $6::text is null then '' else ' partition by ' || $6 end as sql`,
)

const literal = `(?:'(?:[^']|'')*'|-?\\d+(?:\\.\\d+)?|MINVALUE|MAXVALUE|NULL|true|false)`
const literals = `\\(${literal}(?:, ${literal})*\\)`
const boundForm = new RegExp(
  `^(?:DEFAULT|FOR VALUES (?:IN ${literals}|FROM ${literals} TO ${literals}|WITH \\(modulus \\d+, remainder \\d+\\)))$`,
)
const keyForm = /^(?:RANGE|LIST|HASH) \([a-z_][a-z0-9_]*(?:, [a-z_][a-z0-9_]*)*\)$/

/** What the file says becomes part of a statement only in the forms that the server writes. @throws SluiceError BACKUP_INVALID */
export async function makeAppPartitions(session: Session, partitions: readonly AppPartition[]): Promise<void> {
  for (const { schema, name, parentSchema, parent, bound, by } of partitions) {
    if (schema === 'sluice' || !boundForm.test(bound) || (by !== null && !keyForm.test(by))) {
      throw new SluiceError('BACKUP_INVALID', `The backup has a partition ${schema}.${name} that is of no known form`)
    }
    const [row] = await session.query(makeAppPartitionStatement, [schema, name, parentSchema, parent, bound, by])
    await session.script(row!.sql)
  }
}

const emptyStatement = statement<{ sql: string | null }>(
  'restore.empty-apps',
  `
  select 'truncate ' || string_agg(format('%I.%I', n.nspname, c.relname), ', ') as sql
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any ($1::text[]) and c.relkind in ('r', 'p') and not c.relispartition`,
)

const triggersStatement = statement<{ off: string; on: string }>(
  'restore.app-triggers',
  `
  select format('alter table %I.%I disable trigger %I', n.nspname, c.relname, t.tgname) as off,
    format('alter table %I.%I enable %s trigger %I', n.nspname, c.relname, case t.tgenabled when 'A' then 'always' else '' end, t.tgname) as on
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any ($1::text[]) and not t.tgisinternal and t.tgparentid = 0 and t.tgenabled in ('O', 'A')`,
)

/**
 * Runs what fills the tables of apps: without the rows that their migrations have put there, and without their triggers, whose work is in
 * the backup already.
 */
export async function refillApps(session: Session, work: () => Promise<void>): Promise<void> {
  const schemas = await listAppSchemas(session)
  const [tables] = await session.query(emptyStatement, [schemas])
  if (tables?.sql != null) await session.script(tables.sql)
  const triggers = await session.query(triggersStatement, [schemas])
  for (const { off } of triggers) await session.script(off)
  await work()
  for (const { on } of triggers) await session.script(on)
}

const setSequenceStatement = statement(
  'restore.set-sequence',
  'select setval(pg_get_serial_sequence(format($$%I.%I$$, $1::text, $2::text), $3), $4)',
)

const setFreeSequenceStatement = statement(
  'restore.set-free-sequence',
  'select setval(format($$%I.%I$$, $1::text, $2::text)::regclass, $3)',
)

export async function setSequences(session: Session, sequences: readonly SequenceValue[]): Promise<void> {
  for (const { schema, name, column, last } of sequences) {
    if (last === null) continue
    if (column === '') await session.execute(setFreeSequenceStatement, [schema, name, last])
    else await session.execute(setSequenceStatement, [schema, name, column, last])
  }
}

/**
 * A million epochs: the old system may have gone on for any number of them that it can have lived through, and a writer
 * of it that still reaches the database must never bear the epoch of a new one.
 */
const freshEpochs = `
  update sluice.runs set node_id = null, epoch = epoch + 1000000 where state in ('queued', 'running');
  update sluice.tasks set token = -token where token is not null;
  update sluice.shards set holder = null, lease_until = null, in_flight = 0, parked = 0, epoch = epoch + 1000000;`

/** Objects without a reference are not in a backup. Those that are have the whole grace before the sweep looks at them. */
const soundObjects = `
  delete from sluice.objects o where not exists (select from sluice.object_refs r where r.sha256 = o.sha256);
  update sluice.objects set idle_since = sluice.sluice_now() where idle_since is not null;`

export async function forgetHolders(session: Session): Promise<void> {
  await session.script(freshEpochs)
  await session.script(soundObjects)
}

/** The server knows nothing of the rows that have come, and its plans would be for empty tables. */
export async function analyse(session: Session): Promise<void> {
  await session.script('analyze')
}
