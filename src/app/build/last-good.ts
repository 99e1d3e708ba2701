/**
 * What takes the place of definition files that are wrong now: their modules of an earlier version, copied with all that
 * they import into `.kept/<hash of that version>` of the new one, where nothing of the new one has the same path.
 *
 * 1. A file that is gone is not kept. A new one that is wrong takes over from one that is gone if it still names something
 *    that was defined there: then it was renamed.
 * 2. What was kept before is kept under the same path, so that keeping it again makes no other version.
 */
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'
import type { EntryManifest, Manifest } from '../../core/manifest.ts'

/** An earlier version whose folder is on this machine. */
export interface Earlier {
  readonly folder: string
  readonly manifest: Manifest
}

/** How an entry of an earlier version stands in a later one. */
export interface Keeping {
  /** The path of its module in the earlier version. */
  readonly module: string
  /** As the later version has it. */
  readonly entry: EntryManifest & { readonly from: string }
}

/** Undefined where there is none, or only a part of one: a machine may go down while it is written. */
export async function readEarlier(folder: string): Promise<Earlier | undefined> {
  try {
    return { folder, manifest: JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest }
  } catch {
    return undefined
  }
}

export interface KeepParts {
  readonly earlier: Manifest
  /** Definition files that are there now. */
  readonly files: readonly string[]
  /** Those of them that are wrong, with their texts. */
  readonly broken: ReadonlyMap<string, string>
}

/** Those of the wrong files that an earlier version can stand in for. */
export function keep({ earlier, files, broken }: KeepParts): Keeping[] {
  const byFile = new Map(earlier.entries.map((entry) => [entry.file, entry]))
  const gone = earlier.entries.filter(({ file }) => !files.includes(file))
  return [...broken].flatMap(([file, text]) => {
    const entry = byFile.get(file) ?? gone.find((one) => namesOf(earlier, one.file).some((name) => says(text, name)))
    if (entry === undefined) return []
    const from = entry.from ?? earlier.hash
    return [{ module: entry.module, entry: { file, module: keptPath(entry.module, earlier.hash), from } }]
  })
}

const keptFolder = '.kept'

const keptPath = (path: string, hash: string) =>
  path.startsWith(`${keptFolder}/`) ? path : `${keptFolder}/${hash}/${path}`

/** What a file defined. */
function namesOf({ workflows, streams, endpoints, commands }: Manifest, file: string): string[] {
  const named = [...workflows, ...streams, ...commands].filter((one) => one.file === file).map(({ name }) => name)
  return [...named, ...endpoints.filter((one) => one.file === file).map(({ method, path }) => `${method} ${path}`)]
}

/** As a text of TypeScript, or as a value of YAML. */
function says(text: string, name: string): boolean {
  return new RegExp(`(['"\`]|:\\s+)${RegExp.escape(name)}(['"\`]|\\s*$)`, 'm').test(text)
}

/** Copies a module, all that it imports, and their source maps from an earlier version; gives the paths of the code. */
export async function copyModule({ folder, manifest }: Earlier, module: string, to: string): Promise<string[]> {
  const paths = new Set([module])
  for (const path of paths) {
    const text = await readFile(join(folder, path), 'utf8')
    for (const [, specifier] of text.matchAll(/["'](\.{1,2}\/[^"'\n]+\.js)["']/g)) {
      const imported = posix.join(posix.dirname(path), specifier as string)
      const isThere = !imported.startsWith('..') && (await canRead(join(folder, imported)))
      // A text that looks like an import and is none names no file of the bundle.
      if (isThere) paths.add(imported)
    }
    await copy(join(folder, path), join(to, keptPath(path, manifest.hash)))
    await copy(join(folder, `${path}.map`), join(to, keptPath(`${path}.map`, manifest.hash))).catch(() => {})
  }
  return [...paths].map((path) => keptPath(path, manifest.hash))
}

async function copy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await copyFile(from, to)
}

async function canRead(file: string): Promise<boolean> {
  return readFile(file).then(
    () => true,
    () => false,
  )
}
