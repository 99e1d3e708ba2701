/**
 * YAML files in a bundle: each becomes a module that exports its document as JSON. Comments and the order of lines make no
 * difference to it; the text goes into its source map, where a build finds the places that faults name.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Fault } from '../../../errors.ts'
import { readYaml } from './read-yaml.ts'

export const isYaml = (file: string): boolean => /\.ya?ml$/.test(file)

export interface YamlModules {
  readonly files: ReadonlyMap<string, string>
  readonly entries: readonly { readonly file: string; readonly module: string }[]
  readonly broken: ReadonlyMap<string, readonly Fault[]>
}

/** @param files relative to the project. */
export async function yamlModules(projectDir: string, files: readonly string[]): Promise<YamlModules> {
  const made = new Map<string, string>()
  const entries: { file: string; module: string }[] = []
  const broken = new Map<string, readonly Fault[]>()
  for (const file of files) {
    const bytes = await readFile(join(projectDir, file))
    const read = readYaml(file, bytes)
    if ('faults' in read) {
      broken.set(file, read.faults)
      continue
    }
    const module = `${file}.js`
    const text = JSON.stringify(JSON.stringify(read.value))
    made.set(module, `export default { kind: 'yaml', document: JSON.parse(${text}) }\n`)
    made.set(`${module}.map`, mapTo(file, new TextDecoder().decode(bytes)))
    entries.push({ file, module })
  }
  return { files: made, entries, broken }
}

function mapTo(file: string, text: string): string {
  return JSON.stringify({ version: 3, sources: [file], sourcesContent: [text], names: [], mappings: '' })
}

/** The document of a file as one text. */
export async function documentText(projectDir: string, file: string): Promise<string> {
  const read = readYaml(file, await readFile(join(projectDir, file)))
  return JSON.stringify('value' in read ? read.value : null)
}
