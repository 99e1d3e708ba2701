/**
 * Values of rows as the text that PostgreSQL reads into a column of a type; the server reads it by the type's own rules. What it is
 * known not to take is refused here, so that one odd row does not hold up the others of its batch.
 */
import type { Refusal } from '../ports/sink.ts'

/** How values of a type are written; `other` types take what they take as text. */
export type ColumnKind = 'integer' | 'float' | 'numeric' | 'boolean' | 'text' | 'time' | 'json' | 'bytes' | 'other'

export interface ColumnType {
  readonly kind: ColumnKind
  /** As PostgreSQL names it, for messages. */
  readonly name: string
  /** Of integers: the largest. */
  readonly largest?: bigint
  /** It is an array of these. */
  readonly isArray: boolean
}

const kinds: Readonly<Record<string, ColumnKind>> = {
  int2: 'integer',
  int4: 'integer',
  int8: 'integer',
  float4: 'float',
  float8: 'float',
  numeric: 'numeric',
  bool: 'boolean',
  text: 'text',
  varchar: 'text',
  bpchar: 'text',
  timestamptz: 'time',
  timestamp: 'time',
  date: 'time',
  json: 'json',
  jsonb: 'json',
  bytea: 'bytes',
}

const largest: Readonly<Record<string, bigint>> = {
  int2: 32_767n,
  int4: 2_147_483_647n,
  int8: 9_223_372_036_854_775_807n,
}

/** @param typname - Of `pg_type`: of the element, of an array; of what lies below a domain. */
export function columnType(typname: string, name: string, isArray: boolean): ColumnType {
  const most = largest[typname]
  return { kind: kinds[typname] ?? 'other', name, isArray, ...(most === undefined ? {} : { largest: most }) }
}

/** Of the values that most columns have, the text at once; undefined of others, which `columnText` judges. */
export function quickText(type: ColumnType, value: unknown): string | undefined {
  if (type.isArray) return undefined
  if (typeof value === 'string') {
    return type.kind === 'text' && !value.includes('\0') && value.isWellFormed() ? value : undefined
  }
  if (typeof value === 'number') {
    const fits = type.kind === 'integer' && Number.isSafeInteger(value) && Math.abs(value) <= Number(type.largest)
    return fits ? String(value) : undefined
  }
  return type.kind === 'time' && value instanceof Date ? instantText(value.getTime()) : undefined
}

/** As `quickText`, of what is the same in a line of COPY: one look at a text says so, and that PostgreSQL keeps it. */
export function quickCopy(type: ColumnType, value: unknown): string | undefined {
  if (typeof value !== 'string') return quickText(type, value)
  return type.kind === 'text' && !type.isArray && !odd.test(value) ? value : undefined
}

/** What is escaped in a line of COPY or is in no text; a half of a surrogate pair needs a closer look. */
const odd = /[\\\n\r\t\0\ud800-\udfff]/

let lastInstant = Number.NaN
let lastText = ''

/** Rows of one moment come together. Undefined of what PostgreSQL does not read. */
function instantText(ms: number): string | undefined {
  if (ms === lastInstant) return lastText
  if (!(ms >= 0 && ms < 253_402_300_800_000)) return undefined
  lastText = new Date(ms).toISOString()
  lastInstant = ms
  return lastText
}

export type ColumnText = { readonly text: string | null } | Refusal

/** `undefined` and `null` are NULL; JSON null is written by nothing. */
export function columnText(type: ColumnType, value: unknown): ColumnText {
  if (value === null || value === undefined) return { text: null }
  return type.isArray ? arrayText(type, value) : scalarText(type, value)
}

function arrayText(type: ColumnType, value: unknown): ColumnText {
  if (!Array.isArray(value)) return wrongType(type, value)
  const items: string[] = []
  for (const item of value) {
    // A list in a list is a further dimension; of JSON it is a value.
    const inner =
      Array.isArray(item) && type.kind !== 'json'
        ? arrayText(type, item)
        : columnText({ ...type, isArray: false }, item)
    if (!('text' in inner)) return inner
    if (Array.isArray(item) && type.kind !== 'json') items.push(inner.text as string)
    else items.push(inner.text === null ? 'NULL' : `"${inner.text.replace(/["\\]/g, '\\$&')}"`)
  }
  return { text: `{${items.join(',')}}` }
}

function scalarText(type: ColumnType, value: unknown): ColumnText {
  switch (type.kind) {
    case 'integer':
      return integerText(type, value)
    case 'float':
      return typeof value === 'number' ? { text: String(value) } : wrongType(type, value)
    case 'numeric':
      return numericText(type, value)
    case 'boolean':
      return typeof value === 'boolean' ? { text: value ? 't' : 'f' } : wrongType(type, value)
    case 'time':
      return timeText(type, value)
    case 'json':
      return jsonText(value)
    case 'bytes':
      return value instanceof Uint8Array
        ? { text: `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}` }
        : wrongType(type, value)
    case 'text':
    case 'other':
      return typeof value === 'string' ? textOf(value) : wrongType(type, value)
  }
}

/** Half of a surrogate pair has no UTF-8; it would become another character unseen. */
function textOf(value: string): ColumnText {
  if (value.includes('\0'))
    return { reason: 'zero character', detail: 'a text holds a zero character, which PostgreSQL does not keep' }
  if (!value.isWellFormed()) return { reason: 'not unicode', detail: 'a text holds half of a surrogate pair' }
  return { text: value }
}

function integerText(type: ColumnType, value: unknown): ColumnText {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return wrongType(type, value)
  const whole =
    typeof value === 'number' ||
    typeof value === 'bigint' ||
    (typeof value === 'string' && /^[+-]?\d{1,30}$/.test(value))
  if (!whole) return wrongType(type, value)
  const number = BigInt(value)
  const most = type.largest as bigint
  return number <= most && number >= -most - 1n ? { text: String(number) } : wrongType(type, value)
}

function numericText(type: ColumnType, value: unknown): ColumnText {
  if (typeof value === 'number' || typeof value === 'bigint') return { text: String(value) }
  const numeric = typeof value === 'string' && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)
  return numeric ? { text: value } : wrongType(type, value)
}

/** Words such as `now` and `yesterday` would be read by the clock of the server. */
const timeForm = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?$/i

function timeText(type: ColumnType, value: unknown): ColumnText {
  if (typeof value === 'string') return timeForm.test(value) ? { text: value } : wrongType(type, value)
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) return wrongType(type, value)
  const text = value.toISOString()
  return timeForm.test(text) ? { text } : wrongType(type, value)
}

/** A zero character, or half of a surrogate pair, which JSON.stringify writes as an escape: jsonb refuses both. */
const notText = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/

function jsonText(value: unknown): ColumnText {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (thrown) {
    return { reason: 'wrong type', detail: `it is not JSON: ${thrown instanceof Error ? thrown.message : thrown}` }
  }
  if (text === undefined) return { reason: 'wrong type', detail: 'it is not JSON' }
  if (text.includes('\\u') && notText.test(text)) {
    return { reason: 'zero character', detail: 'a text in the JSON holds a zero character or half of a surrogate pair' }
  }
  return { text }
}

function wrongType(type: ColumnType, value: unknown): Refusal {
  const array = type.isArray ? '[]' : ''
  return { reason: 'wrong type', detail: `${shown(value)} does not go into a column of type ${type.name}${array}` }
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 100))
  if (typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'a Date without a time' : value.toISOString()
  return value instanceof Uint8Array ? 'bytes' : `a value of type ${typeof value}`
}

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

const special = /[\\\n\r\t]/
const specials = /[\\\n\r\t]/g

/** A value of a line of COPY in its text format. */
export const copyText = (value: string | null): string =>
  value === null ? '\\N' : special.test(value) ? value.replace(specials, (one) => escapes[one]!) : value
