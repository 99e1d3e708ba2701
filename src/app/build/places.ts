/** Finds places in authors' original files through the source maps of a bundle. */
import { readdirSync, readFileSync } from 'node:fs'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { SluiceError } from '../../errors.ts'
import type { Places } from './manifest-of.ts'
import { isYaml } from './yaml/module.ts'
import type { Places as YamlPlaces } from './yaml/pointer.ts'
import { readYaml } from './yaml/read-yaml.ts'

interface PlacesOfBundle extends Places {
  ofText(text: RegExp, file: string): string | undefined
  /** Of a YAML file. */
  ofYaml(file: string): YamlPlaces | undefined
}

/** @param folder of the bundle, absolute, without symbolic links. Source maps are read at the first question. */
export function placesIn(folder: string): PlacesOfBundle {
  let maps: Map<string, SourceMap> | undefined
  const all = () => {
    maps ??= readMaps(folder)
    return maps
  }
  const ofText = (text: RegExp, file: string) => {
    const sources = [...all().values()].flatMap(({ payload }) =>
      payload.sources.map((source, index) => ({ source, text: payload.sourcesContent?.[index] ?? '' })),
    )
    // The file itself first: others may say the same.
    sources.sort((a, b) => Number(b.source === file) - Number(a.source === file))
    for (const { source, text: content } of sources) {
      const at = content.search(text)
      if (at >= 0) return `${source}:${lineAndColumn(content, at)}`
    }
    return undefined
  }
  const ofYaml = (file: string) => {
    const text = all().get(pathToFileURL(join(folder, `${file}.js`)).href)?.payload.sourcesContent?.[0]
    const read = text === undefined ? undefined : readYaml(file, Buffer.from(text))
    return read && 'places' in read ? read.places : undefined
  }
  return {
    ofText,
    ofYaml,
    ofDefinition: (kind, name, file) =>
      (isYaml(file) ? ofYaml(file)?.of('/workflow') : undefined) ??
      ofText(new RegExp(`\\b${kind}\\s*(<[^()]*>)?\\(\\s*['"\`]${RegExp.escape(name)}['"\`]`), file) ??
      `${file}:1:1`,
    ofThrown(thrown) {
      const where = thrown instanceof SluiceError ? thrown.faults[0]?.where : undefined
      if (where !== undefined && /\.ya?ml:\d+:\d+$/.test(where)) return where
      if (!(thrown instanceof Error) || typeof thrown.stack !== 'string') return undefined
      for (const [, path, line, column] of thrown.stack.matchAll(/(file:\/\/[^\s()]+?):(\d+):(\d+)/g)) {
        const found = all()
          .get(path as string)
          ?.findEntry(Number(line) - 1, Number(column) - 1)
        if (found && 'originalSource' in found) {
          return `${found.originalSource}:${found.originalLine + 1}:${found.originalColumn + 1}`
        }
      }
      return undefined
    },
  }
}

function readMaps(folder: string): Map<string, SourceMap> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.js.map'))
  return new Map(
    files.map((file) => {
      const payload = JSON.parse(readFileSync(join(folder, file), 'utf8')) as SourceMapPayload
      return [pathToFileURL(join(folder, file.slice(0, -'.map'.length))).href, new SourceMap(payload)]
    }),
  )
}

function lineAndColumn(text: string, at: number): string {
  const before = text.slice(0, at)
  return `${before.split('\n').length}:${at - before.lastIndexOf('\n')}`
}
