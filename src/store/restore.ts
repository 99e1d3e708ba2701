/** What a restore writes; its rules are those of `backup.ts`. */
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { type DayPartition, listTables, type SequenceValue, type TableName } from './backup.ts'
import { applyWithin, type MigrationFolder, readMigrations } from './migrate.ts'
import { type AppliedMigration, failed } from './migration-plan.ts'

const presentStatement = statement<{ tables: number }>(
  'restore.present',
  `
  select count(*)::int as tables from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any ($1::text[]) and c.relkind in ('r', 'p')`,
)

/** @throws SluiceError CONFLICT when the database has tables of Sluice's or of the named apps */
export async function refuseUsedDatabase(session: Session, scopes: readonly string[]): Promise<void> {
  const [row] = await session.query(presentStatement, [['sluice', ...scopes]])
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

const setSequenceStatement = statement(
  'restore.set-sequence',
  'select setval(pg_get_serial_sequence(format($$%I.%I$$, $1::text, $2::text), $3), $4)',
)

export async function setSequences(session: Session, sequences: readonly SequenceValue[]): Promise<void> {
  for (const { schema, name, column, last } of sequences)
    if (last !== null) await session.execute(setSequenceStatement, [schema, name, column, last])
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
