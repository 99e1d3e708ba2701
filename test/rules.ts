/**
 * The rules of the house, as functions over a map of files, so that a fixture can break each of them. A breach is one
 * line that says where and what. Files whose name ends in `.test.ts` may import and say what they like.
 */
import { builtinModules } from 'node:module'
import { posix } from 'node:path'
import { readSource, type Source } from './source.ts'

/** Path from the root of the repository, with `/`, to text. */
export type Files = ReadonlyMap<string, string>

/** From the ground up: a room uses itself and what is below its floor; rooms of one floor do not use each other. */
const floors: readonly (readonly string[])[] = [
  ['errors'],
  ['time'],
  ['sdk'],
  ['core'],
  ['ports'],
  ['store', 'postgres', 'executors', 'connectors', 'objects'],
  ['engine', 'streams', 'observe', 'api'],
  ['app'],
  ['testing'],
  ['cli'],
]

export const largestFile = 600
export const questionedFile = 400

interface Unit extends Source {
  readonly path: string
}

/** Shipped TypeScript of `src` and `apps`, read. */
function unitsOf(files: Files): Unit[] {
  return [...files]
    .filter(([path]) => /^(src|apps)\/.*\.tsx?$/.test(path) && !path.endsWith('.test.ts'))
    .map(([path, text]) => ({ path, ...readSource(path, text) }))
}

/** The file that a relative import names, from the root of the repository. */
function target(from: string, specifier: string): string {
  return posix.normalize(posix.join(posix.dirname(from), specifier))
}

const isRelative = (specifier: string) => specifier.startsWith('.')

function roomOf(path: string): string | undefined {
  return /^src\/([^/]+?)(?:\/|\.ts$)/.exec(path)?.[1]
}

const floorOf = (room: string | undefined) => floors.findIndex((rooms) => room !== undefined && rooms.includes(room))

export function layerBreaches(files: Files): string[] {
  const breaches: string[] = []
  for (const { path, imports } of unitsOf(files).filter((unit) => unit.path.startsWith('src/'))) {
    const room = roomOf(path)
    if (floorOf(room) < 0) breaches.push(`${path} is in no room of the house`)
    for (const specifier of imports.filter(isRelative)) {
      const used = target(path, specifier)
      const usedRoom = roomOf(used)
      if (usedRoom === undefined) breaches.push(`${path} imports ${used}, which is outside src`)
      else if (usedRoom !== room && floorOf(usedRoom) >= floorOf(room)) {
        breaches.push(`${path} (${room}) imports ${used} (${usedRoom}), which is not below it`)
      }
    }
  }
  return breaches
}

/** Each cycle once, as `a -> b -> a`. */
export function importCycles(files: Files): string[] {
  const graph = new Map(
    unitsOf(files).map(({ path, imports }) => [path, imports.filter(isRelative).map((name) => target(path, name))]),
  )
  const cycles: string[] = []
  const finished = new Set<string>()
  const visit = (path: string, trail: readonly string[]) => {
    const seenAt = trail.indexOf(path)
    if (seenAt >= 0) cycles.push([...trail.slice(seenAt), path].join(' -> '))
    if (seenAt >= 0 || finished.has(path)) return
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path])
    finished.add(path)
  }
  for (const path of graph.keys()) visit(path, [])
  return cycles
}

/** An app sees its own files, its own packages, Node, and the entry points that `sluice` publishes: as any user would. */
export function appBreaches(files: Files): string[] {
  const entryPoints = Object.keys(manifest(files, 'package.json').exports ?? {}).map((key) => posix.join('sluice', key))
  const breaches: string[] = []
  for (const { path, imports } of unitsOf(files)) {
    const app = /^apps\/[^/]+/.exec(path)?.[0]
    if (app === undefined) continue
    const { dependencies = {} } = manifest(files, `${app}/package.json`)
    for (const specifier of new Set(imports)) {
      const name = /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier
      if (isRelative(specifier)) {
        const used = target(path, specifier)
        if (!used.startsWith(`${app}/`)) breaches.push(`${path} imports ${used}, which is outside ${app}`)
      } else if (name === 'sluice') {
        if (!entryPoints.includes(specifier))
          breaches.push(`${path} imports ${specifier}, which sluice does not publish`)
      } else if (!specifier.startsWith('node:') && !builtinModules.includes(name) && !(name in dependencies)) {
        breaches.push(`${path} imports ${specifier}, which is no dependency of ${app}`)
      }
    }
  }
  return breaches
}

function manifest(files: Files, path: string): { exports?: object; dependencies?: object } {
  return JSON.parse(files.get(path) ?? '{}')
}

/** Scripts that a person starts, at the top of an app; they are no part of what runs under Sluice. */
const appScript = /^apps\/[^/]+\/[^/]+\.ts$/

export function environmentBreaches(files: Files): string[] {
  return unitsOf(files)
    .filter(({ path, readsEnvironment }) => readsEnvironment && path !== 'src/app/config.ts' && !appScript.test(path))
    .map(({ path }) => `${path} reads process.env; only src/app/config.ts does`)
}

/** Time and randomness are given to whoever decides; the processes (app, cli) give them. */
export function ambientBreaches(files: Files): string[] {
  return unitsOf(files)
    .filter(({ path }) => /^src\//.test(path) && !/^src\/(time\.ts|app\/|cli\/)/.test(path))
    .flatMap(({ path, ambient }) =>
      ambient.map((call) => `${path} uses ${call}; take a Clock or a source of randomness`),
    )
}

const sql =
  /^\s*(select\s.+?\sfrom\s|insert\s+into\s|update\s+\S+\s(.*\s)?set\s|delete\s+from\s|with\s+(recursive\s+)?\w+\s+as\s+(not\s+|materialized\s+)*\(|(create|alter|drop)\s+(or\s+replace\s+|unique\s+)?(table|schema|function|index|view|type|role|database)\s|truncate\s+\S|copy\s+\S+\s.*(from|to)\s)/is

/** The platform's SQL is in `store`. `postgres` sets servers up, `connectors` write authors' tables: neither names ours. */
export function sqlBreaches(files: Files): string[] {
  return unitsOf(files)
    .filter(({ path }) => path.startsWith('src/') && !path.startsWith('src/store/'))
    .flatMap(({ path, texts }) => {
      const mayHaveSql = /^src\/(postgres|connectors)\//.test(path)
      return texts
        .filter((text) => sql.test(text) && (!mayHaveSql || /\bsluice\.\w/.test(text)))
        .map((text) => `${path} has SQL of the platform: ${text.trim().replace(/\s+/g, ' ').slice(0, 60)}`)
    })
}

/**
 * Names that an author gives to a table and its columns, taken from the catalogue and quoted, are put into SQL by the first of these alone; the
 * others share fixed pieces of their own between statements.
 */
const builders: readonly string[] = ['src/store/table-sql.ts', 'src/store/clear.ts', 'src/store/transitions.ts']

/** A statement of the store is whole: no part of its text comes from elsewhere. In `texts` such a part is a `?`, which our SQL has not. */
export function builtSqlBreaches(files: Files): string[] {
  return unitsOf(files)
    .filter(({ path }) => path.startsWith('src/store/') && !builders.includes(path))
    .flatMap(({ path, texts }) =>
      texts
        .filter((text) => sql.test(text) && text.replace(/'[^']*'/g, '').includes('?'))
        .map((text) => `${path} puts SQL together: ${text.trim().replace(/\s+/g, ' ').slice(0, 60)}`),
    )
}

const vague = /^(utils?|helpers?|common|types?|interfaces?|managers?)(\.|$)/

export function nameBreaches(files: Files): string[] {
  const breaches = new Set<string>()
  for (const path of files.keys()) {
    if (!/^(src|apps|bench|bin)\//.test(path)) continue
    const parts = path.split('/')
    const found = parts.findIndex((part) => vague.test(part))
    if (found >= 0) breaches.add(`${parts.slice(0, found + 1).join('/')} names a kind, not a concept`)
    if (/[A-Z_]/.test(parts.at(-1)!) && parts.at(-1)!.endsWith('.ts')) breaches.add(`${path} is not in kebab-case`)
  }
  return [...breaches]
}

/** Files of `src` and `apps` with more lines than `limit`, the longest first. */
export function longFiles(files: Files, limit: number): string[] {
  return [...files]
    .filter(([path]) => /^(src|apps)\/.*\.(tsx?|sql|mjs)$/.test(path))
    .map(([path, text]) => ({ path, lines: text.split('\n').length - (text.endsWith('\n') ? 1 : 0) }))
    .filter(({ lines }) => lines > limit)
    .sort((a, b) => b.lines - a.lines)
    .map(({ path, lines }) => `${path} has ${lines} lines`)
}
