/** What the catalogue says of the table of a sink, and whether the sink can write to it. */
import type { TableManifest } from '../core/manifest.ts'
import { SluiceError } from '../errors.ts'
import { type Session, statement } from '../ports/database.ts'
import { type ColumnType, columnType } from './column-text.ts'

export interface Column {
  readonly name: string
  readonly type: ColumnType
  /** To which given text is cast: the type, with a precision where an assignment would round to it. */
  readonly cast: string
  readonly notNull: boolean
}

/** A table that is as its definition says. */
export interface FoundTable {
  /** Those that are filled, in the order of the definition, the one for the record's id last. */
  readonly columns: readonly Column[]
}

interface CatalogueRow {
  readonly kind: string
  readonly mayWrite: boolean
  readonly columns: readonly CatalogueColumn[]
  /** The columns of each unique index that ON CONFLICT can take. */
  readonly unique: readonly (readonly string[])[]
}

interface CatalogueColumn {
  readonly name: string
  readonly type: string
  readonly cast: string
  readonly base: string
  readonly isArray: boolean
  readonly notNull: boolean
  readonly hasDefault: boolean
  readonly generated: boolean
}

const findStatement = statement<CatalogueRow>(
  'tables.find',
  `
  select c.relkind as kind, has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update') as "mayWrite",
    (select coalesce(json_agg(json_build_object(
        'name', a.attname,
        'type', format_type(a.atttypid, a.atttypmod),
        'cast', format_type(a.atttypid, case when base.typname in ('numeric', 'timestamp', 'timestamptz', 'time', 'timetz', 'interval')
          then a.atttypmod else -1 end),
        'base', coalesce(element.typname, base.typname),
        'isArray', element.oid is not null,
        'notNull', a.attnotnull or chain.not_null,
        'hasDefault', a.atthasdef or a.attidentity <> '' or chain.has_default,
        'generated', a.attgenerated <> '' or a.attidentity = 'a'
      ) order by a.attnum), '[]')
      from pg_attribute a
      cross join lateral (
        with recursive domains as (
          select t.oid, t.typtype, t.typbasetype, t.typnotnull, t.typdefault from pg_type t where t.oid = a.atttypid
          union all
          select t.oid, t.typtype, t.typbasetype, t.typnotnull, t.typdefault
          from domains d join pg_type t on t.oid = d.typbasetype where d.typtype = 'd'
        )
        select max(oid) filter (where typtype <> 'd') as oid, bool_or(typnotnull) as not_null, bool_or(typdefault is not null) as has_default
        from domains
      ) as chain
      join pg_type base on base.oid = chain.oid
      left join pg_type element on element.oid = base.typelem and base.typcategory = 'A'
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns,
    (select coalesce(json_agg(array(
        select a.attname from generate_series(0, i.indnkeyatts - 1) as n
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[n]
      )), '[]')
      from pg_index i
      where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
    ) as unique
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = split_part($1, '.', 1) and c.relname = split_part($1, '.', 2)
    and has_schema_privilege(n.oid, 'usage')`,
)

/** What is wrong with the table, as sentences without an end; empty when the sink can write to it. */
export async function tableFaults(session: Session, wanted: TableManifest): Promise<readonly string[]> {
  const [found] = await session.query(findStatement, [wanted.table])
  return faultsOf(wanted, found)
}

/** @throws SluiceError CONFIGURATION with everything that is wrong with it */
export async function findTable(session: Session, wanted: TableManifest): Promise<FoundTable> {
  const [found] = await session.query(findStatement, [wanted.table])
  const faults = faultsOf(wanted, found)
  if (found === undefined || faults.length > 0) {
    throw new SluiceError(
      'CONFIGURATION',
      `The table ${wanted.table} cannot take the rows of a stream: ${faults.join('; ')}`,
    )
  }
  const names = [...wanted.columns, ...(wanted.recordId === undefined ? [] : [wanted.recordId])]
  return {
    columns: names.map((name) => {
      const { type, cast, base, isArray, notNull } = found.columns.find((column) => column.name === name)!
      return { name, type: columnType(base, type.replace(/\[\]$/, ''), isArray), cast, notNull }
    }),
  }
}

function faultsOf(wanted: TableManifest, found: CatalogueRow | undefined): string[] {
  if (found === undefined) return ['it is not there; an app makes it by a migration (migrations in sluice.config.ts)']
  if (found.kind !== 'r' && found.kind !== 'p') return ['it is no table']
  const filled = [...wanted.columns, ...(wanted.recordId === undefined ? [] : [wanted.recordId])]
  const there = new Map(found.columns.map((column) => [column.name, column]))
  const names = [...there.keys()].join(', ')
  const faults = found.mayWrite ? [] : ['the platform may not write to it']
  for (const name of filled) {
    const column = there.get(name)
    if (column === undefined) faults.push(`it has no column ${name}, but ${names}`)
    else if (column.generated) faults.push(`its column ${name} is generated by the server`)
  }
  for (const { name, notNull, hasDefault, generated } of found.columns) {
    if (notNull && !hasDefault && !generated && !filled.includes(name)) {
      faults.push(`its column ${name} must have a value, and is no field of the schema`)
    }
  }
  const id = wanted.recordId === undefined ? undefined : there.get(wanted.recordId)
  if (id !== undefined && (id.isArray || columnType(id.base, id.type, false).kind !== 'text')) {
    faults.push(`its column ${id.name} is of type ${id.type}; the id of a record is text`)
  }
  const key = [...wanted.key].sort().join('\0')
  if (wanted.key.length > 0 && !found.unique.some((columns) => [...columns].sort().join('\0') === key)) {
    faults.push(`it has no unique index on (${wanted.key.join(', ')}) that is neither partial nor deferrable`)
  }
  return faults
}
