/** Reads a backup from its beginning to its end and holds everything against what it says of itself. Touches nothing. */
import { createHash, type Hash } from 'node:crypto'
import type { z } from 'zod'
import { messageOf } from '../../errors.ts'
import { formatNumber, type Head, headSchema, type Manifest, manifestSchema, parts } from './manifest.ts'
import { invalid, type Part, readTape, wholeOf } from './tape.ts'

export interface Verified {
  readonly head: Head
  readonly manifest: Manifest
}

interface Seen {
  readonly tables: Map<string, { readonly hash: Hash; bytes: number; pieces: number }>
  readonly damaged: Set<string>
  readonly versions: Map<string, { bytes: number; sha256: string }>
  objects: number
  objectBytes: number
}

/** @throws SluiceError BACKUP_INVALID (foreign, newer, cut short, damaged: it says which), USAGE (not there) */
export async function verifyBackup(file: string, onRead: (bytes: number) => void): Promise<Verified> {
  const seen: Seen = { tables: new Map(), damaged: new Set(), versions: new Map(), objects: 0, objectBytes: 0 }
  let head: Head | undefined
  let manifest: Manifest | undefined
  for await (const part of readTape(file, onRead)) {
    if (head === undefined) head = await readHead(file, part)
    else if (manifest !== undefined) throw invalid(file, 'it goes on behind its end')
    else if (part.name === parts.manifest) manifest = await readJson(file, part, manifestSchema)
    else await look(file, part, seen)
  }
  if (head === undefined) throw invalid(file, 'it is empty')
  if (manifest === undefined) throw invalid(file, 'it was cut short: it has no end')
  compare(file, manifest, seen)
  return { head, manifest }
}

async function readHead(file: string, part: Part): Promise<Head> {
  if (part.name !== parts.head)
    throw invalid(file, `it is another sort of archive: it begins with ${part.name.slice(0, 80)}`)
  const text = (await wholeOf(file, part)).toString()
  const format = /^\{"format":(\d{1,9}),/.exec(text)?.[1]
  if (Number(format) > formatNumber) {
    throw invalid(
      file,
      `a newer Sluice made it (format ${format}; this one reads ${formatNumber}). Restore it with that one`,
    )
  }
  return parseJson(file, parts.head, text, headSchema)
}

async function readJson<T>(file: string, part: Part, schema: z.ZodType<T>): Promise<T> {
  return parseJson(file, part.name, (await wholeOf(file, part)).toString(), schema)
}

function parseJson<T>(file: string, name: string, text: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text))
  } catch (thrown) {
    throw invalid(file, `its ${name} is damaged: ${messageOf(thrown).slice(0, 200)}`, thrown)
  }
}

async function look(file: string, part: Part, seen: Seen): Promise<void> {
  const [kind, group, ...rest] = part.name.split('/')
  const last = rest.join('/')
  if (kind === 'tables' && group !== undefined) {
    const table = seen.tables.get(group) ?? { hash: createHash('sha256'), bytes: 0, pieces: 0 }
    const expected = String(table.pieces).padStart(6, '0')
    if (last !== `${expected}.copy`) throw invalid(file, `its part ${part.name} is not the one that is due`)
    for await (const piece of part.content) table.hash.update(piece)
    table.bytes += part.bytes
    table.pieces += 1
    seen.tables.set(group, table)
    return
  }
  const hash = createHash('sha256')
  for await (const piece of part.content) hash.update(piece)
  const sha256 = hash.digest('hex')
  if (kind === 'objects' && part.name === parts.object(last)) {
    if (sha256 !== last) seen.damaged.add(last)
    seen.objects += 1
    seen.objectBytes += part.bytes
  } else if (kind === 'versions' && group !== undefined) {
    seen.versions.set(part.name, { bytes: part.bytes, sha256 })
  } else throw invalid(file, `it has a part ${part.name.slice(0, 80)} that no backup has`)
}

function compare(file: string, { tables, objects, versions }: Manifest, seen: Seen): void {
  const named = new Set(tables.map(({ schema, name }) => `${schema}.${name}`))
  for (const name of seen.tables.keys())
    if (!named.has(name)) throw invalid(file, `it has rows of ${name} that it does not list`)
  for (const { schema, name, bytes, sha256 } of tables) {
    const found = seen.tables.get(`${schema}.${name}`)
    const same = found === undefined ? bytes === 0 : found.bytes === bytes && found.hash.digest('hex') === sha256
    if (!same) throw invalid(file, `its rows of ${schema}.${name} are not those that it lists`)
  }
  const known = new Set(objects.damaged)
  const damaged = [...seen.damaged].find((sha256) => !known.has(sha256))
  if (damaged !== undefined) throw invalid(file, `its object ${damaged} is damaged`)
  if (seen.objects !== objects.count || seen.objectBytes !== objects.bytes) {
    throw invalid(file, `it has ${seen.objects} objects of the ${objects.count} that it lists`)
  }
  const files = versions.flatMap(({ hash, files: list }) =>
    list.map((one) => ({ ...one, part: parts.version(hash, one.path) })),
  )
  for (const { part, sha256 } of files) {
    if (seen.versions.get(part)?.sha256 !== sha256) throw invalid(file, `its part ${part} is not the one that it lists`)
  }
  if (files.length !== seen.versions.size) throw invalid(file, 'it has code of versions that it does not list')
}
