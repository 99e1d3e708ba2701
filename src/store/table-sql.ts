/**
 * The statements of a table that an author names. This is the one place where SQL is put together from parts: names that the
 * catalogue has given back (`findTable`), quoted here, and types as `format_type` writes them. Values never become part of a text.
 */
import { createHash } from 'node:crypto'
import { type Statement, statement } from '../ports/database.ts'
import type { Column } from './table-catalogue.ts'

export interface TableStatements {
  /** Text lines of COPY, of all columns. */
  readonly copy: string
  /** Takes a list of texts per column, in the order of the columns. */
  readonly insert: Statement<{ place: number }>
  /** Takes a list of texts per column of the key, and the ids: gives the places of rows that are there under that id. */
  readonly own: Statement<{ place: number }> | undefined
}

export interface TableNames {
  /** `schema.table`. */
  readonly table: string
  readonly columns: readonly Column[]
  readonly key: readonly string[]
  readonly onConflict: 'ignore' | 'update'
  readonly recordId: string | undefined
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
const list = (names: readonly string[]): string => names.map(quoted).join(', ')

export function tableStatements(names: TableNames): TableStatements {
  const into = names.table.split('.').map(quoted).join('.')
  const all = names.columns.map(({ name }) => name)
  const insert = names.onConflict === 'update' ? upsert(names, into, all) : insertNew(names, into, all)
  return {
    copy: `copy ${into} (${list(all)}) from stdin`,
    insert: named(`tables.${names.onConflict}`, insert),
    own: names.recordId === undefined ? undefined : named('tables.own', ownRows(names, into, names.recordId)),
  }
}

/** A statement is prepared once per connection under its name, so the name says which text it is. */
function named(verb: string, text: string): Statement<{ place: number }> {
  return statement(`${verb}-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`, text)
}

/** The given rows with their places, from a list of texts per column. */
function given(columns: readonly Column[]): string {
  const values = columns.map(({ cast }, index) => `v${index}::${cast} as c${index}`)
  const lists = columns.map((_, index) => `$${index + 1}::text[]`)
  const names = columns.map((_, index) => `v${index}`)
  return `select ${values.join(', ')}, place from unnest(${lists.join(', ')}) with ordinality as given (${names.join(', ')}, place)`
}

const placesOf = (of: readonly string[], columns: readonly Column[]): string[] =>
  of.map((name) => `c${columns.findIndex((column) => column.name === name)}`)

/** Of several rows with one key the first is inserted, in the order of the keys: so nobody waits in a circle. */
function insertNew({ columns, key }: TableNames, into: string, all: readonly string[]): string {
  const taken = placesOf(all, columns).join(', ')
  const keys = placesOf(key, columns)
  const joined = keys.map((place, index) => `given.${place} = inserted.${quoted(key[index]!)}`).join(' and ')
  return `with given as (${given(columns)}), inserted as (
    insert into ${into} (${list(all)}) select ${taken} from given order by ${[...keys, 'place'].join(', ')}
    on conflict (${list(key)}) do nothing returning ${list(key)}
  )
  select min(given.place)::int as place from inserted join given on ${joined} group by ${keys.map((place) => `given.${place}`).join(', ')}`
}

/** Of several rows with one key the last stands. */
function upsert({ columns, key }: TableNames, into: string, all: readonly string[]): string {
  const keys = placesOf(key, columns).join(', ')
  const others = all.filter((name) => !key.includes(name))
  const change = others.map((name) => `${quoted(name)} = excluded.${quoted(name)}`).join(', ')
  const conflict = others.length === 0 ? 'do nothing' : `do update set ${change}`
  return `insert into ${into} (${list(all)}) select ${placesOf(all, columns).join(', ')}
  from (select distinct on (${keys}) * from (${given(columns)}) as every order by ${keys}, place desc) as last order by ${keys}
  on conflict (${list(key)}) ${conflict} returning null::int as place`
}

function ownRows({ columns, key, recordId }: TableNames, into: string, id: string): string {
  const asked = [...key, id].map((name) => columns.find((column) => column.name === name)!)
  const places = placesOf([...key, id], asked)
  const same = [...key, recordId!].map((name, index) => `there.${quoted(name)} = given.${places[index]}`)
  return `select given.place::int as place from (${given(asked)}) as given join ${into} as there on ${same.join(' and ')}`
}
