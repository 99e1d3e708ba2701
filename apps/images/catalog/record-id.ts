import { createHash } from 'node:crypto'

/** A URL as a key, which is at most 1,000 bytes: as it is written, or its hash where it is longer. */
export function keyOf(url: string): string {
  return Buffer.byteLength(url) <= 1_000 ? url : `sha256:${sha256(url)}`
}

/**
 * The id under which a line is published: publishing the same again adds nothing. The text is part of it, so that of two
 * files that arrive at once under one name no line is taken for another.
 */
export function recordId(record: { catalog: string; generation: number; line: number; url: string }): string {
  return `${record.catalog}@${record.generation}#${record.line}:${sha256(record.url).slice(0, 16)}`
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
