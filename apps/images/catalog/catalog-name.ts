import { basename } from 'node:path'

/** Names of catalogs appear in URLs and lists; none is ever used as a path. */
export const catalogNamePattern = /^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._-]{0,99}$/u

export const catalogNameRule = 'letters, digits, space, . _ and -, starting with a letter or digit, at most 100'

/** `catalogs/birds.txt` is the catalog `birds`. Names are in NFC, so that one name is one catalog however it is typed. */
export function nameOfFile(path: string): string {
  return basename(path)
    .replace(/\.txt$/i, '')
    .normalize()
}
