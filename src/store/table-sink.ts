/**
 * A table as the sink of a stream. Transactional: its rows are written in the transaction that commits the offset.
 *
 * 1. Without a key all rows go by one COPY; with a key by one insert from a list per column, in the order of the keys, so that
 *    transactions which meet at the same keys wait for one another in one order.
 * 2. `ignore`: of rows with one key the first that is committed stands, within a batch that with the lowest offset; it is `written`,
 *    the others are `duplicate`, but for those with the id that the row bears. `update`: the last stands, all are `written`.
 * 3. After a row that the server refused, the next writes find such rows within their transaction, between savepoints, which costs a healthy
 *    stream nothing. Measured on a busy machine, one row of ten wrong: 100 records/s by halving commits.
 * 4. The catalogue says what the columns are; it is read when the sink is opened, once. Who changes the table under a stream
 *    that runs makes its shards fail: they open the sink again.
 */
import type { TableManifest } from '../core/manifest.ts'
import { plainParser } from '../core/plain-schema.ts'
import type { Session } from '../ports/database.ts'
import type { PreparedRow, Refusal, RowCopy, Sink, SinkEnd, SinkItem } from '../ports/sink.ts'
import type { Schema } from '../sdk/schema.ts'
import { columnText, copyText, quickCopy, quickText } from './column-text.ts'
import { rowFault } from './row-fault.ts'
import { type Column, findTable } from './table-catalogue.ts'
import { type TableStatements, tableStatements } from './table-sql.ts'

/** UTF-16 units of the texts of a row, together. */
export const maxRowChars = 16_777_216

export interface TableSinkOptions extends TableManifest {
  /** Checks the rows. */
  readonly schema: Schema<object>
}

interface Opened {
  /** Those that the row fills: all but that of the record's id. */
  readonly filled: readonly Column[]
  readonly statements: TableStatements
}

export function tableSink(database: Session, options: TableSinkOptions): Sink {
  let opening: Promise<Opened> | undefined
  let opened: Opened | undefined
  const open = async () => {
    opening ??= openTable(database, options)
    try {
      opened = await opening
      return opened
    } catch (thrown) {
      opening = undefined
      throw thrown
    }
  }
  const prepared = new Preparation(options)
  let careful = 0
  return {
    class: 'transactional',
    open: async () => void (await open()),
    copy: () => (opened === undefined || options.key.length > 0 ? undefined : rowCopy(opened, options)),
    prepare: (row) => (opened ? prepared.of(opened, row) : open().then((ready) => prepared.of(ready, row))),
    async write(session, _origin, items) {
      const parts = { ...(opened ?? (await open())), ...options }
      if (careful > 0) {
        careful -= 1
        return write(items, (rows) => insertApart(parts, session, rows))
      }
      try {
        return await write(items, (rows) => insert(parts, session, rows))
      } catch (thrown) {
        if (rowFault(thrown) !== undefined) careful = carefulWrites
        throw thrown
      }
    },
  }
}

const rowCopy = ({ statements }: Opened, { recordId }: TableManifest): RowCopy => ({
  sql: statements.copy,
  line: (row, id) => copyLine(row, recordId === undefined ? undefined : id),
})

async function openTable(session: Session, options: TableManifest): Promise<Opened> {
  const { columns } = await findTable(session, options)
  const filled = columns.slice(0, options.columns.length)
  const { table, key, onConflict, recordId } = options
  return { filled, statements: tableStatements({ table, columns, key, onConflict, recordId }) }
}

/** Makes a row ready: checked by its schema, each column as text. */
class Preparation {
  readonly #options: TableSinkOptions
  readonly #fields: ReadonlySet<string>
  readonly #key: ReadonlySet<string>
  readonly #plain: ((row: unknown) => Readonly<Record<string, unknown>> | undefined) | undefined

  constructor(options: TableSinkOptions) {
    this.#options = options
    this.#plain = plainParser(options.schema)
    this.#fields = new Set(options.columns)
    this.#key = new Set(options.key)
  }

  of({ filled }: Opened, row: unknown): PreparedRow | Refusal {
    const plain = this.#plain?.(row)
    if (plain !== undefined) return this.#encoded(filled, plain)
    if (typeof row !== 'object' || row === null || Array.isArray(row)) {
      return { reason: 'invalid row', detail: `a row is an object, not ${JSON.stringify(row)?.slice(0, 100)}` }
    }
    const odd = Object.keys(row).find((field) => !this.#fields.has(field))
    if (odd !== undefined)
      return {
        reason: 'unknown field',
        detail: `${JSON.stringify(odd.slice(0, 100))} is no field of ${this.#options.table}`,
      }
    const parsed = this.#options.schema.safeParse(row)
    if (!parsed.success) {
      const [issue] = parsed.error.issues
      return { reason: 'invalid row', detail: `/${issue?.path.join('/')}: ${issue?.message}` }
    }
    return this.#encoded(filled, parsed.data as Readonly<Record<string, unknown>>)
  }

  #encoded(filled: readonly Column[], row: Readonly<Record<string, unknown>>): PreparedRow | Refusal {
    if (this.#key.size === 0) return this.#lineOf(filled, row)
    const values: (string | null)[] = []
    let size = 0
    for (const column of filled) {
      const text = quickText(column.type, row[column.name]) ?? this.#textOf(column, row)
      if (typeof text === 'object' && text !== null) return text
      size += text === null ? 1 : text.length
      values.push(text)
    }
    return size > maxRowChars ? tooLarge(size) : { key: '', body: '', bytes: [], values, size }
  }

  /** Without a key all goes by COPY: its line is made at once, of values that are never held apart. */
  #lineOf(filled: readonly Column[], row: Readonly<Record<string, unknown>>): PreparedRow | Refusal {
    let line = ''
    for (let at = 0; at < filled.length; at += 1) {
      const column = filled[at]!
      let text = quickCopy(column.type, row[column.name])
      if (text === undefined) {
        const slow = this.#textOf(column, row)
        if (typeof slow === 'object' && slow !== null) return slow
        text = copyText(slow)
      }
      line += at === 0 ? text : `\t${text}`
    }
    const { length: size } = line
    return size > maxRowChars ? tooLarge(size) : { key: '', body: '', bytes: [], line, size }
  }

  #textOf({ name, type, notNull }: Column, row: Readonly<Record<string, unknown>>): string | null | Refusal {
    const encoded = columnText(type, row[name])
    if (!('text' in encoded)) return { reason: encoded.reason, detail: `${name}: ${encoded.detail}` }
    if (encoded.text === null && (notNull || this.#key.has(name))) {
      return {
        reason: 'missing value',
        detail: `${name} must have a value${notNull ? '' : ': it is part of the key'}`,
      }
    }
    return encoded.text
  }
}

const tooLarge = (size: number): Refusal => ({
  reason: 'row too large',
  detail: `the row has ${size} characters as text; ${maxRowChars} are allowed`,
})

type RowItem = SinkItem & { readonly target: PreparedRow }

const hasRow = (item: SinkItem): item is RowItem => 'key' in item.target
const written: SinkEnd = { outcome: 'written' }
const duplicate: SinkEnd = { outcome: 'duplicate' }

/** After a refused row, so many writes look out for more. */
const carefulWrites = 100

type Parts = Opened & TableManifest

async function write(
  items: readonly SinkItem[],
  insertRows: (rows: readonly RowItem[]) => Promise<readonly SinkEnd[]>,
): Promise<SinkEnd[]> {
  const rows = items.filter(hasRow)
  const ends = rows.length === 0 ? [] : await insertRows(rows)
  const endOf = new Map<SinkItem, SinkEnd>(rows.map((item, index) => [item, ends[index]!]))
  return items.map((item) => endOf.get(item) ?? duplicate)
}

/** The rows as one, or by halves where the server refuses one; each that it refuses alone is rejected. */
async function insertApart(parts: Parts, session: Session, rows: readonly RowItem[]): Promise<readonly SinkEnd[]> {
  await session.script('savepoint rows')
  try {
    const ends = await insert(parts, session, rows)
    await session.script('release savepoint rows')
    return ends
  } catch (thrown) {
    const fault = rowFault(thrown)
    if (fault === undefined) throw thrown
    await session.script('rollback to savepoint rows; release savepoint rows')
    if (rows.length === 1) return [{ outcome: 'rejected', ...fault }]
    const middle = rows.length >> 1
    const first = await insertApart(parts, session, rows.slice(0, middle))
    return [...first, ...(await insertApart(parts, session, rows.slice(middle)))]
  }
}

async function insert(parts: Parts, session: Session, rows: readonly RowItem[]): Promise<readonly SinkEnd[]> {
  const { statements, columns, key, onConflict, recordId } = parts
  if (key.length === 0) {
    await session.copyIn(statements.copy, lines(rows, recordId !== undefined))
    return rows.map(() => written)
  }
  const values = rows.map(({ target, recordId: id }) =>
    recordId === undefined ? target.values! : [...target.values!, id],
  )
  const width = columns.length + (recordId === undefined ? 0 : 1)
  const inserted = await session.query(statements.insert, listsOf(values, width))
  if (onConflict === 'update' || inserted.length === rows.length) return rows.map(() => written)
  const places = new Set(inserted.map(({ place }) => place))
  const left = rows.flatMap((_, index) => (places.has(index + 1) ? [] : [{ index, values: values[index]! }]))
  const own =
    statements.own && (await session.query(statements.own, listsOf(idsOf(left, columns, key), key.length + 1)))
  for (const { place } of own ?? []) places.add(left[place - 1]!.index + 1)
  return rows.map((_, index) => (places.has(index + 1) ? written : duplicate))
}

function* lines(rows: readonly RowItem[], withIds: boolean): Generator<string> {
  for (const { target, recordId } of rows) yield copyLine(target, withIds ? recordId : undefined)
}

const copyLine = ({ line }: PreparedRow, id: string | undefined): string =>
  id === undefined ? `${line}\n` : `${line}\t${copyText(id)}\n`

/** A list per column. */
function listsOf(rows: readonly (readonly (string | null)[])[], width: number): (string | null)[][] {
  return Array.from({ length: width }, (_, index) => rows.map((row) => row[index]!))
}

/** Of each row the values of its key, and its record's id, which stands last. */
function idsOf(
  rows: readonly { readonly values: readonly (string | null)[] }[],
  columns: readonly string[],
  key: readonly string[],
): (string | null)[][] {
  const places = key.map((name) => columns.indexOf(name))
  return rows.map(({ values }) => [...places.map((place) => values[place]!), values.at(-1)!])
}
