import { SluiceError } from '../errors.ts'
import type { Schema } from './schema.ts'

export interface TableOptions<Row extends object, Input = Row> {
  /** An object schema: it types and checks the rows; its fields are columns of the same names. */
  readonly schema: Schema<Row, Input>
  /** Columns with a unique index of exactly these. Without one, every row is inserted. */
  readonly key?: (keyof Row & string) | readonly (keyof Row & string)[]
  /**
   * What a row does whose key is there: `ignore` (default) leaves the row that is there, and the record ends as duplicate;
   * `update` replaces the other columns by its own, and the record ends as written.
   */
  readonly onConflict?: 'ignore' | 'update'
  /**
   * A text column that keeps the id of the row's record, and is no field of the schema. Under `ignore` a row that is there under the same id is
   * this record's own: it ends as written.
   */
  readonly recordId?: string
}

/** A table of the platform's database as the end of streams; an app's migrations make it. */
export interface Table<Input = unknown> {
  readonly kind: 'table'
  /** `schema.table`. */
  readonly name: string
  readonly schema: Schema<object, Input>
  readonly key: readonly string[]
  readonly onConflict: 'ignore' | 'update'
  readonly recordId: string | undefined
}

const nameForm = /^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$/
const columnForm = /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/

/**
 * `table('monitoring.results', { schema, key: ['site', 'scheduled_at'] })`. The name and the columns are taken as they are written:
 * upper and lower case differ in columns.
 * @throws SluiceError DEFINITION_INVALID
 */
export function table<Row extends object, Input = Row>(name: string, options: TableOptions<Row, Input>): Table<Input> {
  if (typeof name !== 'string' || !nameForm.test(name)) {
    throw wrong(`${JSON.stringify(name)} is not the name of a table; write schema.table in a-z, 0-9 and _`)
  }
  const [schema = ''] = name.split('.')
  if (schema === 'sluice' || schema === 'information_schema' || schema.startsWith('pg_')) {
    throw wrong(`the table ${name} is in the schema ${schema}, which is not an app's; make a schema of your own`)
  }
  const { key = [], onConflict = 'ignore', recordId } = options
  const columns: readonly string[] = typeof key === 'string' ? [key] : key
  const fields = fieldsOf(options.schema)
  if (fields === undefined) throw wrong(`the schema of table ${name} must be a z.object: its fields are the columns`)
  const odd = [...fields, ...(recordId === undefined ? [] : [recordId])].find((column) => !columnForm.test(column))
  if (odd !== undefined)
    throw wrong(`${JSON.stringify(odd)} cannot be a column of table ${name}; use letters, digits and _, at most 63`)
  const unknown = columns.find((column) => !fields.includes(column))
  if (unknown !== undefined) {
    throw wrong(`the key of table ${name} names ${unknown}, which is no field of its schema: ${fields.join(', ')}`)
  }
  if (new Set(columns).size < columns.length) throw wrong(`the key of table ${name} names a column twice`)
  if (onConflict !== 'ignore' && onConflict !== 'update') {
    throw wrong(`onConflict of table ${name} is ${JSON.stringify(onConflict)}; allowed are ignore, update`)
  }
  if (onConflict === 'update' && columns.length === 0) throw wrong(`onConflict of table ${name} needs a key`)
  if (recordId !== undefined && fields.includes(recordId)) {
    throw wrong(
      `recordId of table ${name} is ${recordId}, which is a field of its schema too; it is filled by the stream`,
    )
  }
  return { kind: 'table', name, schema: options.schema as Schema<object, Input>, key: columns, onConflict, recordId }
}

/** Of an object schema; undefined of any other. */
export function fieldsOf(schema: unknown): string[] | undefined {
  const shape = (schema as { readonly shape?: unknown } | null | undefined)?.shape
  return typeof shape === 'object' && shape !== null ? Object.keys(shape) : undefined
}

const wrong = (message: string) => new SluiceError('DEFINITION_INVALID', message)
