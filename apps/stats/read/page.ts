/** Pages of a list that is in the order of some texts: a cursor is those of its last item. */
import { problem, SluiceError, z } from 'sluice'

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(1_000).default(100).meta({ description: 'Items at most' }),
  cursor: z.string().max(2_000).optional().meta({ description: 'The nextCursor of the page before' }),
}

export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    items: z.array(item).readonly(),
    nextCursor: z.string().nullable().meta({ description: 'null at the end' }),
  })

/** @throws SluiceError INVALID_CURSOR unless it is of as many texts */
export const placeOf = (cursor: string | undefined, texts: number) => placeWith(cursor, texts, () => true)

/** @throws SluiceError INVALID_CURSOR unless it is of as many texts, and they are of the form */
export function placeWith(
  cursor: string | undefined,
  texts: number,
  ofForm: (texts: readonly string[]) => boolean,
): readonly string[] | undefined {
  if (cursor === undefined) return undefined
  const place = z.array(z.string().max(1_000)).length(texts).refine(ofForm).safeParse(parsed(cursor))
  return place.success ? place.data : problem('INVALID_CURSOR', 'cursor is not the nextCursor of a page of this list')
}

const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/

/** It begins with a time. */
export const isTimed = ([time = '']: readonly string[]): boolean =>
  rfc3339.test(time) && !Number.isNaN(Date.parse(time))

/** It begins with a time and the number of a row. */
export const isNumbered = (texts: readonly string[]): boolean => isTimed(texts) && /^\d{1,18}$/.test(texts[1] ?? '')

function parsed(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch {
    return undefined
  }
}

/** `rows` are one more than `limit` where there is a page behind this one. */
export function page<Row, Item>(
  rows: readonly Row[],
  limit: number,
  itemOf: (row: Row) => Item,
  placeOfRow: (row: Row) => readonly string[],
): { readonly items: readonly Item[]; readonly nextCursor: string | null } {
  const items = rows.slice(0, limit)
  const last = rows.length > limit ? items.at(-1) : undefined
  const nextCursor = last === undefined ? null : Buffer.from(JSON.stringify(placeOfRow(last))).toString('base64url')
  return { items: items.map(itemOf), nextCursor }
}

/** @throws SluiceError INVALID_INPUT */
export function refuse(where: string, message: string): never {
  throw new SluiceError('INVALID_INPUT', `${where} ${message}`, { faults: [{ where, message }] })
}
