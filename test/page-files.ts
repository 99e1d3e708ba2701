/** The files that a page of the documentation shows: blocks of code that open with a comment of nothing but their path. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const block = /^```(?:ts|yaml|py)\n(?:\/\/|#) (\S+\.(?:ts|yaml|py))\n([\s\S]*?)^```$/gm

/** @param page relative to `docs`. A path that comes twice is an error: one of the two would never be run. */
export function pageFiles(page: string): Record<string, string> {
  const text = readFileSync(join(import.meta.dirname, '../docs', page), 'utf8')
  const files: Record<string, string> = {}
  for (const [, path, code] of text.matchAll(block)) {
    if (path! in files) throw new Error(`docs/${page} shows ${path} twice`)
    files[path!] = code!
  }
  return files
}
