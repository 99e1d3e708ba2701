/** Finds places in authors' original files through the source maps of a bundle. */
import { readdirSync, readFileSync } from 'node:fs'
import { SourceMap, type SourceMapPayload } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Places } from './manifest-of.ts'

/** @param folder of the bundle, absolute, without symbolic links. Source maps are read at the first question. */
export function placesIn(folder: string): Places & { ofText(text: RegExp, file: string): string | undefined } {
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
  return {
    ofText,
    ofDefinition: (kind, name, file) =>
      ofText(new RegExp(`\\b${kind}\\s*(<[^()]*>)?\\(\\s*['"\`]${RegExp.escape(name)}['"\`]`), file) ?? `${file}:1:1`,
    ofThrown(thrown) {
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
