import { createHash } from 'node:crypto'
import { canonicalUrl } from './catalog-url.ts'

/** A URL as a key, the same for all its spellings. A key is at most 1,000 bytes: of a longer one it is the hash. */
export function keyOf(url: string): string {
  const canonical = canonicalUrl(url)
  return Buffer.byteLength(canonical) <= 1_000 ? canonical : `sha256:${sha256(canonical)}`
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
