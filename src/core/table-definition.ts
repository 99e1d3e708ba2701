import { fieldsOf, type Table } from '../sdk/table.ts'
import type { TableManifest } from './manifest.ts'

/** What a definition says of its table, without the code of its schema. */
export function tableOf({ name, schema, key, onConflict, recordId }: Table): TableManifest {
  const columns = fieldsOf(schema) ?? []
  return { table: name, columns, key, onConflict, ...(recordId === undefined ? {} : { recordId }) }
}
