/**
 * Loaded before all else by a scenario's process and by those that it starts (`--import` in NODE_OPTIONS): one shipped
 * file is read as if the bug of SLUICE_SEEDED_BUG had been written in it. Nothing on the disk is changed.
 */
import { appendFileSync } from 'node:fs'
import files from 'node:fs/promises'
import { registerHooks, syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Patch {
  readonly file: string
  readonly find: string
  readonly replace: string
  /** A line is added to this file each time that the patch was applied. */
  readonly marker: string
}

const told = process.env.SLUICE_SEEDED_BUG
if (told !== undefined) apply(JSON.parse(told))

function apply({ file, find, replace, marker }: Patch): void {
  const path = join(import.meta.dirname, '../..', file)
  const patched = (text: string): string => {
    if (text.split(find).length !== 2) throw new Error(`the patch does not apply exactly once to ${file}`)
    appendFileSync(marker, 'applied\n')
    return text.replace(find, () => replace)
  }
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context)
      if (!url.startsWith('file:') || fileURLToPath(new URL(url.split('?')[0]!)) !== path) return loaded
      return { ...loaded, source: patched(Buffer.from(loaded.source as Uint8Array).toString('utf8')) }
    },
  })
  // Migrations are not loaded but read.
  const { readFile } = files
  files.readFile = (async (...args: Parameters<typeof readFile>) => {
    const found = await readFile(...args)
    return args[0] === path ? patched(String(found)) : found
  }) as typeof readFile
  syncBuiltinESMExports()
}
