/** What the definition files of a project define, found in the exports of their modules. */

import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Manifest } from '../core/manifest.ts'
import { nearest } from '../core/nearest.ts'
import { type Fault, SluiceError } from '../errors.ts'
import type { ActionDefinition } from '../sdk/action-definition.ts'
import type { Command } from '../sdk/command.ts'
import type { Endpoint } from '../sdk/endpoint.ts'
import type { GraphDefinition } from '../sdk/graph-builder.ts'
import type { Metrics } from '../sdk/metrics.ts'
import type { HttpStream, Stream } from '../sdk/stream.ts'
import type { Topic } from '../sdk/topic.ts'
import { graphOf, type Workflow } from '../sdk/workflow.ts'
import { type Linking, linkDocuments } from './build/yaml/link.ts'

export interface DefinitionModule {
  /** Relative to the project, with `/`. */
  readonly file: string
  readonly exports: Readonly<Record<string, unknown>>
  /** It is an earlier version of the file, kept since the present one is wrong: what others define now goes before it. */
  readonly kept?: boolean
}

interface Kinds {
  workflow: Workflow
  topic: Topic
  stream: Stream | HttpStream
  endpoint: Endpoint
  command: Command
  metrics: Metrics
}
export type Kind = keyof Kinds
export type Definition = Kinds[Kind]

/** What is wrong with a definition that is left out. */
export interface Refusal {
  readonly kind: Kind
  readonly name: string
  readonly file: string
  readonly message: string
}

/** By name; endpoints by `METHOD /path`. */
export interface Definitions {
  readonly workflows: ReadonlyMap<string, Workflow>
  readonly topics: ReadonlyMap<string, Topic>
  readonly streams: ReadonlyMap<string, Stream | HttpStream>
  readonly endpoints: ReadonlyMap<string, Endpoint>
  readonly commands: ReadonlyMap<string, Command>
  readonly metrics: ReadonlyMap<string, Metrics>
  /** Definitions that share their name with one of an earlier file. */
  readonly refused: readonly Refusal[]
  /** What is wrong with YAML files, which are left out then. */
  readonly wrong: ReadonlyMap<string, readonly Fault[]>
  /** The file that exports it; of a topic that nobody exports, the file of its stream. */
  fileOf(definition: Definition): string
  /** Runs `define` once. @throws SluiceError NOT_FOUND, DEFINITION_INVALID; whatever `define` throws */
  graphOf(workflow: string): GraphDefinition
  /** The action of a node. @throws SluiceError NOT_FOUND, DEFINITION_INVALID */
  actionOf(workflow: string, nodeId: string): ActionDefinition
}

/**
 * Gathers the definitions among the exports; anything else is passed over. The same object may be exported twice; of two
 * that share kind and name, the one of the first file (in order) stands. Topics are also found through their streams.
 * @param placesOf where things stand in YAML files: given in a build, which judges them.
 */
export function collect(modules: readonly DefinitionModule[], placesOf?: Linking['placesOf']): Definitions {
  const found = {
    workflow: new Map(),
    topic: new Map(),
    stream: new Map(),
    endpoint: new Map(),
    command: new Map(),
    metrics: new Map(),
  }
  const files = new Map<Definition, string>()
  const refused: Refusal[] = []

  const add = (definition: Definition, file: string, kept = false) => {
    const { kind } = definition
    const name = nameOf(definition)
    const before = found[kind].get(name) as Definition | undefined
    if (before === definition) return
    if (before === undefined) {
      found[kind].set(name, definition)
      files.set(definition, file)
      return
    }
    if (kept) return
    const message = `the ${kind} ${name} is defined in ${files.get(before)} and again in ${file}; give one another name`
    refused.push({ kind, name, file, message })
  }
  const inOrder = [...modules.filter(({ kept }) => !kept), ...modules.filter(({ kept }) => kept)]
  for (const { file, exports, kept } of inOrder)
    for (const value of Object.values(exports)) if (isDefinition(value)) add(value, file, kept)
  const keptFiles = new Set(modules.flatMap(({ file, kept }) => (kept ? [file] : [])))
  for (const stream of found.stream.values() as Iterable<Stream | HttpStream>) {
    const file = files.get(stream) as string
    for (const end of [stream.options.from, stream.options.to])
      if (isDefinition(end)) add(end, file, keptFiles.has(file))
  }

  const graphs = new Map<string, { graph: GraphDefinition; actions: Map<string, ActionDefinition> }>()
  const graphNamed = (name: string) => {
    const known = graphs.get(name)
    if (known) return known
    // The body of an `each` is known once the workflow around it is.
    const around = name.split('.', 1)[0]!
    if (around !== name && graphNamed(around) && graphs.has(name)) return graphs.get(name)!
    const workflow: Workflow | undefined = found.workflow.get(name)
    if (!workflow) throw missing('workflow', name, found.workflow.keys())
    const graph = graphOf(workflow)
    for (const [innerName, inner] of graph.inner) graphs.set(innerName, withActions(inner))
    const made = withActions(graph)
    graphs.set(name, made)
    return made
  }
  const linking = {
    modules: inOrder,
    workflows: new Map(found.workflow),
    graphOf: (name: string) => graphNamed(name).graph,
    isKept: (name: string) => keptFiles.has(files.get(found.workflow.get(name)) as string),
  }
  const linked = linkDocuments(placesOf ? { ...linking, placesOf } : linking)
  for (const { workflow, file } of linked.workflows) add(workflow, file, keptFiles.has(file))
  return {
    workflows: found.workflow,
    topics: found.topic,
    streams: found.stream,
    endpoints: found.endpoint,
    commands: found.command,
    metrics: found.metrics,
    refused,
    wrong: linked.faults,
    fileOf: (definition) => files.get(definition) as string,
    graphOf: (name) => graphNamed(name).graph,
    actionOf(name, nodeId) {
      const { actions } = graphNamed(name)
      const action = actions.get(nodeId)
      if (!action) throw missing(`task of workflow ${name}`, nodeId, actions.keys())
      return action
    },
  }
}

/**
 * Imports the bundle of a built version into this process: authors' code runs here.
 * @param files definition files to import; default all of the manifest.
 * @throws whatever an import throws, though the build has imported them all.
 */
export async function loadDefinitions(
  folder: string,
  manifest: Pick<Manifest, 'entries'>,
  files?: ReadonlySet<string>,
): Promise<Definitions> {
  const wanted = manifest.entries.filter(({ file }) => files === undefined || files.has(file))
  const modules = await Promise.all(
    wanted.map(async ({ file, module, from }) => ({
      file,
      kept: from !== undefined,
      exports: (await import(pathToFileURL(join(folder, module)).href)) as Record<string, unknown>,
    })),
  )
  return collect(modules)
}

function withActions(graph: GraphDefinition) {
  const known = graph.nodes.flatMap(({ id, action }) => (action ? [[id, action] as const] : []))
  return { graph, actions: new Map(known) }
}

export function nameOf(definition: Definition): string {
  return definition.kind === 'endpoint' ? `${definition.method} ${definition.path}` : definition.name
}

const kinds: ReadonlySet<unknown> = new Set<Kind>(['workflow', 'topic', 'stream', 'endpoint', 'command', 'metrics'])

function isDefinition(value: unknown): value is Definition {
  return typeof value === 'object' && value !== null && kinds.has((value as { kind?: unknown }).kind)
}

function missing(what: string, name: string, known: Iterable<string>): SluiceError {
  const meant = nearest(name, known)
  return new SluiceError('NOT_FOUND', `there is no ${what} named ${name}${meant ? `; did you mean ${meant}?` : ''}`)
}

/**
 * Imports a built version by its folder, which holds its manifest too.
 * @throws SluiceError VERSION_MISSING when the folder is not there, or not whole.
 */
export async function loadVersion(folder: string): Promise<Definitions> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
    return await loadDefinitions(folder, manifest)
  } catch (cause) {
    const missing = missingFile(cause)
    if (missing === undefined || !missing.includes(basename(folder))) throw cause
    const advice = 'put it back from a backup, or start a new run, which takes the latest version'
    throw new SluiceError('VERSION_MISSING', `${missing} is not there, which this version needs: ${advice}`, { cause })
  }
}

/** The file that could not be read or imported, if that is what went wrong. */
function missingFile(thrown: unknown): string | undefined {
  const { code, path, message } = thrown as {
    readonly code?: string
    readonly path?: string
    readonly message?: string
  }
  if (code === 'ENOENT') return path
  return code === 'ERR_MODULE_NOT_FOUND' ? /^Cannot find module '([^']+)'/.exec(message ?? '')?.[1] : undefined
}
