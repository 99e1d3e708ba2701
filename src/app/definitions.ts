/** What the definition files of a project define, found in the exports of their modules. */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Manifest } from '../core/manifest.ts'
import { nearest } from '../core/nearest.ts'
import { SluiceError } from '../errors.ts'
import type { ActionDefinition } from '../sdk/action-definition.ts'
import type { Command } from '../sdk/command.ts'
import type { Endpoint } from '../sdk/endpoint.ts'
import type { GraphDefinition } from '../sdk/graph-builder.ts'
import type { Stream } from '../sdk/stream.ts'
import type { Topic } from '../sdk/topic.ts'
import { graphOf, type Workflow } from '../sdk/workflow.ts'

export interface DefinitionModule {
  /** Relative to the project, with `/`. */
  readonly file: string
  readonly exports: Readonly<Record<string, unknown>>
}

interface Kinds {
  workflow: Workflow
  topic: Topic
  stream: Stream
  endpoint: Endpoint
  command: Command
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
  readonly streams: ReadonlyMap<string, Stream>
  readonly endpoints: ReadonlyMap<string, Endpoint>
  readonly commands: ReadonlyMap<string, Command>
  /** Definitions that share their name with one of an earlier file. */
  readonly refused: readonly Refusal[]
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
 */
export function collect(modules: readonly DefinitionModule[]): Definitions {
  const found = { workflow: new Map(), topic: new Map(), stream: new Map(), endpoint: new Map(), command: new Map() }
  const files = new Map<Definition, string>()
  const refused: Refusal[] = []

  const add = (definition: Definition, file: string) => {
    const { kind } = definition
    const name = nameOf(definition)
    const before = found[kind].get(name) as Definition | undefined
    if (before === definition) return
    if (before === undefined) {
      found[kind].set(name, definition)
      files.set(definition, file)
      return
    }
    const message = `the ${kind} ${name} is defined in ${files.get(before)} and again in ${file}; give one another name`
    refused.push({ kind, name, file, message })
  }
  for (const { file, exports } of modules)
    for (const value of Object.values(exports)) if (isDefinition(value)) add(value, file)
  for (const stream of found.stream.values() as Iterable<Stream>) {
    if (isDefinition(stream.options.from)) add(stream.options.from, files.get(stream) as string)
  }

  const graphs = new Map<string, { graph: GraphDefinition; actions: Map<string, ActionDefinition> }>()
  const graphNamed = (name: string) => {
    const known = graphs.get(name)
    if (known) return known
    const workflow: Workflow | undefined = found.workflow.get(name)
    if (!workflow) throw missing('workflow', name, found.workflow.keys())
    const graph = graphOf(workflow)
    const made = { graph, actions: new Map(graph.nodes.map((node) => [node.id, node.action])) }
    graphs.set(name, made)
    return made
  }
  return {
    workflows: found.workflow,
    topics: found.topic,
    streams: found.stream,
    endpoints: found.endpoint,
    commands: found.command,
    refused,
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
    wanted.map(async ({ file, module }) => ({
      file,
      exports: (await import(pathToFileURL(join(folder, module)).href)) as Record<string, unknown>,
    })),
  )
  return collect(modules)
}

export function nameOf(definition: Definition): string {
  return definition.kind === 'endpoint' ? `${definition.method} ${definition.path}` : definition.name
}

const kinds: ReadonlySet<unknown> = new Set<Kind>(['workflow', 'topic', 'stream', 'endpoint', 'command'])

function isDefinition(value: unknown): value is Definition {
  return typeof value === 'object' && value !== null && kinds.has((value as { kind?: unknown }).kind)
}

function missing(what: string, name: string, known: Iterable<string>): SluiceError {
  const meant = nearest(name, known)
  return new SluiceError('NOT_FOUND', `there is no ${what} named ${name}${meant ? `; did you mean ${meant}?` : ''}`)
}

/** Imports a built version by its folder, which holds its manifest too. */
export async function loadVersion(folder: string): Promise<Definitions> {
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest
  return loadDefinitions(folder, manifest)
}
