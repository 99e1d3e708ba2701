import { problem } from 'sluice'

/** Where a list goes on, as text that says nothing. */
export const cursorOf = (place: string | number): string => Buffer.from(JSON.stringify(place)).toString('base64url')

/** @throws SluiceError INVALID_CURSOR */
export function placeOf<Place extends string | number>(
  cursor: string | undefined,
  isPlace: (value: unknown) => value is Place,
): Place | undefined {
  if (cursor === undefined) return undefined
  try {
    const place: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (isPlace(place)) return place
  } catch {
    // said below
  }
  return problem('INVALID_CURSOR', 'The cursor is none of this list: take the nextCursor of a page')
}

export const isId = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0

export const isTime = (value: unknown): value is string => typeof value === 'string' && !Number.isNaN(Date.parse(value))
