/** The definitions of a simulated world: checked and compiled as a build would. */

import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { manifestOf } from '../app/build/manifest-of.ts'
import type { Places } from '../app/build/yaml/pointer.ts'
import { readYaml } from '../app/build/yaml/read-yaml.ts'
import { collect, type DefinitionModule, type Definitions } from '../app/definitions.ts'
import { compileGraph, type Graph } from '../core/graph.ts'
import { faultsOf } from '../core/input-faults.ts'
import type { WorkflowManifest } from '../core/manifest.ts'
import { nearest } from '../core/nearest.ts'
import { fitParams } from '../core/planned-params.ts'
import { type Fault, inOneLine, messageOf, SluiceError } from '../errors.ts'
import type { ActionDefinition } from '../sdk/action-definition.ts'
import { z } from '../sdk/schema.ts'

export interface DefinedWorld {
  readonly version: string
  readonly workflows: readonly WorkflowManifest[]
  /** @throws SluiceError NOT_FOUND */
  workflow(name: string): { readonly manifest: WorkflowManifest; readonly graph: Graph }
  actionOf(workflow: string, nodeId: string): ActionDefinition
  /** JSON text of parameters, defaults filled in. @throws SluiceError INVALID_INPUT */
  fit(workflow: string, params: unknown): string
  /** @throws SluiceError INVALID_INPUT */
  fitForm(form: object, value: unknown): unknown
}

/**
 * @param given what `workflow`, `topic` and `action` gave, and paths of YAML files, relative to the folder.
 * @throws SluiceError DEFINITION_INVALID, CONFIGURATION when a file cannot be read
 */
export async function defineWorld(given: readonly unknown[], folder: string): Promise<DefinedWorld> {
  const places = new Map<string, Places>()
  const files: DefinitionModule[] = []
  const values: Record<string, unknown> = {}
  for (const [index, one] of given.entries()) {
    if (typeof one === 'string') files.push(await yamlModule(one, folder, places))
    else values[index] = definitionOf(one, index)
  }
  const definitions = collect([{ file: 'simulate(...)', exports: values }, ...files], (file) => places.get(file))
  const wrong = [...definitions.wrong.values()].flat()
  if (wrong.length > 0)
    throw invalid(
      wrong.map(({ where, message }) => `${where} ${message}`),
      wrong,
    )
  return worldOf(definitions)
}

function definitionOf(one: unknown, index: number): unknown {
  const kind = (one as { kind?: unknown } | null | undefined)?.kind
  if (kind === 'workflow' || kind === 'topic' || kind === 'action') return one
  const what = one === undefined ? 'undefined, perhaps since its module imports this one' : typeof one
  throw new SluiceError(
    'USAGE',
    `definition ${index} of simulate([...]) is ${typeof kind === 'string' ? `a ${kind}` : what}; workflows, topics, actions, and paths of YAML files can be given`,
  )
}

async function yamlModule(file: string, folder: string, places: Map<string, Places>): Promise<DefinitionModule> {
  const bytes = await readFile(resolve(folder, file)).catch((cause: unknown) => {
    throw new SluiceError('CONFIGURATION', `${file} cannot be read: ${messageOf(cause)}`, { cause })
  })
  const read = readYaml(file, bytes)
  if ('faults' in read)
    throw invalid(
      read.faults.map(({ where, message }) => `${where} ${message}`),
      read.faults,
    )
  places.set(file, read.places)
  return { file, exports: { default: { kind: 'yaml', document: read.value } } }
}

/** @throws SluiceError DEFINITION_INVALID with all that is wrong. */
export function worldOf(definitions: Definitions): DefinedWorld {
  const { workflows, faults } = manifestOf(definitions, { ofDefinition: (_, name) => name, ofThrown: () => undefined })
  if (faults.length > 0)
    throw invalid(
      faults.map(({ message }) => message),
      faults,
    )
  const known = new Map(workflows.map((manifest) => [manifest.name, { manifest, graph: compileGraph(manifest) }]))
  const workflow = (name: string) => {
    const found = known.get(name)
    if (found) return found
    const names = workflows.map((one) => one.name).filter((one) => !one.includes('.'))
    const meant = nearest(name, names)
    const advice = meant === undefined ? `there are ${names.join(', ') || 'none'}` : `did you mean ${meant}?`
    throw new SluiceError('NOT_FOUND', `There is no workflow ${name}; ${advice}`)
  }
  return {
    version: 'simulated',
    workflows,
    workflow,
    actionOf: (name, nodeId) => definitions.actionOf(name, nodeId),
    fit(name, params) {
      const fit = fitParams(workflow(name).manifest, params)
      if ('params' in fit) return fit.params
      throw unfit(`the parameters of ${name}`, fit.faults)
    },
    fitForm(form, value) {
      const parsed = z.fromJSONSchema(form as never).safeParse(value)
      if (parsed.success) return parsed.data
      throw unfit('what is filled in', faultsOf(parsed.error, ''), 'does')
    },
  }
}

const invalid = (texts: readonly string[], faults: readonly Fault[]) =>
  new SluiceError('DEFINITION_INVALID', texts.join('\n'), { faults })

function unfit(what: string, faults: readonly Fault[], verb = 'do'): SluiceError {
  return new SluiceError('INVALID_INPUT', `${what} ${verb} not fit: ${inOneLine(faults)}`, { faults })
}
