/**
 * The child process of a build: imports the bundled definitions and tells, a JSON line each on file descriptor 3, what it
 * is at (`working`), and at the end what they say. It has no secrets; what authors' code does wrong here ends here.
 */
import { readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Fault, messageOf } from '../../errors.ts'
import { collect, type DefinitionModule } from '../definitions.ts'
import type { Job, Told } from './evaluate.ts'
import { manifestOf } from './manifest-of.ts'
import { placesIn } from './places.ts'
import { functionsIn, wrongFiles } from './what-is-defined.ts'

const end = process.exit.bind(process)
const tell = (told: Told) => writeSync(3, `${JSON.stringify(told)}\n`)
const job = JSON.parse(readFileSync(0, 'utf8')) as Job
const places = placesIn(job.folder)
const faults: Fault[] = []
let current = ''

Error.stackTraceLimit = 100
process.exit = () => {
  throw new Error('it calls process.exit; a definition file only defines')
}
process.on('uncaughtException', (thrown) => report(thrown))

/** Faults of imports, by file. */
const failed = new Map<string, Fault[]>()
const modules: DefinitionModule[] = []
for (const { file, module, from } of job.entries) {
  current = file
  tell({ working: file })
  try {
    const exports: Record<string, unknown> = await import(pathToFileURL(join(job.folder, module)).href)
    // What it left behind on the event loop and already went wrong is still its fault.
    await new Promise((resolve) => setImmediate(resolve))
    modules.push({ file, exports, kept: from !== undefined })
  } catch (thrown) {
    report(thrown)
  }
}

if (job.what === 'config') {
  tell({ config: (modules[0]?.exports.default ?? null) as object | null, faults })
} else {
  const sound = modules.filter(({ file }) => !failed.has(file))
  const definitions = collect(sound, (file) => places.ofYaml(file))
  const watched: typeof definitions = {
    ...definitions,
    graphOf(name) {
      const workflow = definitions.workflows.get(name)
      if (workflow) tell({ working: definitions.fileOf(workflow) })
      return definitions.graphOf(name)
    },
  }
  const described = manifestOf(watched, places)
  tell({
    files: sound.map(({ file }) => file),
    described: { ...described, faults: [...faults, ...[...definitions.wrong.values()].flat(), ...described.faults] },
    broken: Object.fromEntries([...failed, ...definitions.wrong, ...wrongFiles(definitions, described)]),
    functions: functionsIn(definitions, described),
  })
}
end(0)

function report(thrown: unknown): void {
  const [message, name] = plainMessage(thrown)
  const text = name === undefined ? undefined : new RegExp(`(?<![\\w$])${RegExp.escape(name)}(?![\\w$])`)
  const where = places.ofThrown(thrown) ?? (text && places.ofText(text, current)) ?? `${current}:1:1`
  if (!faults.some((fault) => fault.where === where && fault.message === message)) faults.push({ where, message })
  failed.set(current, [...(failed.get(current) ?? []), { where, message }])
}

/** What went wrong, without paths of the bundle, and the word in the author's file that it is about. */
function plainMessage(thrown: unknown): [message: string, about?: string] {
  const message = messageOf(thrown)
  const missing = /^Cannot find (?:package|module) '([^']+)'/.exec(message)?.[1]
  if (missing !== undefined) return [`Cannot find the package ${missing}; is it installed?`, missing]
  const unknown = /module '([^']+)' does not provide an export named '([^']+)'/.exec(message)
  if (unknown) return [`${unknown[1]} does not export ${unknown[2]}`, unknown[2]]
  return [message]
}
