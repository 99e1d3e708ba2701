/**
 * Bytes inside JSON: `{ "$bytes": base64 }` at any depth, on the way between a runner and the engine; an author's object
 * of that shape travels as `{ "$literal": ... }`.
 */
export function toWire(value: unknown): unknown {
  if (value instanceof Uint8Array)
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') }
  if (Array.isArray(value)) return value.map(toWire)
  if (value !== null && typeof value === 'object' && !(value instanceof Date)) {
    const object = Object.fromEntries(Object.entries(value).map(([key, field]) => [key, toWire(field)]))
    return '$bytes' in object || '$literal' in object ? { $literal: object } : object
  }
  return value
}

export function fromWire(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromWire)
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value)
  if (entries.length === 1 && entries[0]![0] === '$bytes' && typeof entries[0]![1] === 'string') {
    return Buffer.from(entries[0]![1], 'base64')
  }
  const fields =
    entries.length === 1 && entries[0]![0] === '$literal' ? Object.entries(entries[0]![1] as object) : entries
  return Object.fromEntries(fields.map(([key, field]) => [key, fromWire(field)]))
}
