/** How values of rows are read: see `SqlQueries.query` for what each type becomes. */
import pg from 'pg'

/** Numbers as far as they are exact. */
const readInt8 = (text: string): number | string => {
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : text
}

const timeForm = /^(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d(?::\d\d)*)?$/

/** As `toISOString` writes it where it has no microseconds. Infinity and years before 1 stay as the server writes them. */
export function readTimestamptz(text: string): string {
  const [, date, time, fraction = '.', zone] = timeForm.exec(text) ?? []
  if (date === undefined) return text
  const digits = fraction.slice(1)
  return `${date}T${time}.${digits.padEnd(digits.length > 3 ? 6 : 3, '0')}${zone === '+00' ? 'Z' : zone}`
}

const readTimestamp = (text: string): string => (timeForm.test(text) ? text.replace(' ', 'T') : text)
const asText = (text: string): string => text

/** By the oid of the type, and that of its arrays. */
const readers: readonly (readonly [type: number, array: number, read: (text: string) => unknown])[] = [
  [20, 1016, readInt8],
  [1184, 1185, readTimestamptz],
  [1114, 1115, readTimestamp],
  [1082, 1182, asText],
  [1700, 1231, asText],
  [1186, 1187, asText],
  [600, 1017, asText],
  [718, 719, asText],
]

const textArray = 1009

export function rowTypes(): pg.TypeOverrides {
  const types = new pg.TypeOverrides()
  const readTexts = pg.types.getTypeParser(textArray as number, 'text') as (text: string) => unknown[]
  for (const [type, array, read] of readers) {
    types.setTypeParser(type as number, read)
    types.setTypeParser(array as number, (text: string) => deeply(readTexts(text), read))
  }
  return types
}

function deeply(items: readonly unknown[], read: (text: string) => unknown): unknown[] {
  return items.map((item) => (Array.isArray(item) ? deeply(item, read) : item === null ? null : read(item as string)))
}
