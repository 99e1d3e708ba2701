/** Cursors say where a list goes on. They are opaque to callers, and checked like any other input. */
import { SluiceError } from '../errors.ts'
import { type Schema, z } from '../sdk/schema.ts'

const longest = 500

export function encodeCursor(kind: string, position: unknown): string {
  return Buffer.from(JSON.stringify([kind, position])).toString('base64url')
}

/** @throws SluiceError INVALID_CURSOR for what `encodeCursor` did not make for a list of this kind. */
export function decodeCursor<Position>(kind: string, position: Schema<Position>, cursor: string): Position {
  const parsed = z.tuple([z.literal(kind), position]).safeParse(read(cursor))
  if (!parsed.success) {
    throw new SluiceError('INVALID_CURSOR', 'This cursor was not given out by this list; pass a nextCursor unchanged')
  }
  return parsed.data[1]
}

function read(cursor: string): unknown {
  if (cursor.length > longest || !/^[A-Za-z0-9_-]+$/.test(cursor)) return undefined
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {
    return undefined
  }
}
