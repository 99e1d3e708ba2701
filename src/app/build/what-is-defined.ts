/** What definitions say besides their manifest: the functions of their actions, and which files have a wrong one. */
import type { WorkflowFunctions } from '../../core/fingerprint.ts'
import type { Fault } from '../../errors.ts'
import { type Definition, type Definitions, nameOf } from '../definitions.ts'
import type { Described } from './manifest-of.ts'

/** The texts of all functions that an action of a workflow is made of, by workflow and node. */
export function functionsIn(definitions: Definitions, described: Described): Record<string, WorkflowFunctions> {
  return Object.fromEntries(
    described.workflows
      .filter(({ name }) => definitions.workflows.has(name))
      .map(({ name }) => {
        const { nodes } = definitions.graphOf(name)
        return [name, nodes.map((node) => textsOf((node as { readonly action?: unknown }).action))]
      }),
  )
}

function textsOf(action: unknown): string[] {
  const options = (action as { readonly options?: object } | undefined)?.options ?? {}
  return Object.values(options).flatMap((part) => (typeof part === 'function' ? [String(part)] : []))
}

/** Files with a definition that did not get into the manifest, each with what is wrong with it. */
export function wrongFiles(definitions: Definitions, described: Described): Map<string, Fault[]> {
  const said = {
    workflow: new Set(described.workflows.map(({ name }) => name)),
    topic: new Set(described.topics.map(({ name }) => name)),
    stream: new Set(described.streams.map(({ name }) => name)),
    endpoint: new Set(described.endpoints.map(({ method, path }) => `${method} ${path}`)),
    command: new Set(described.commands.map(({ name }) => name)),
    // checked when they are made: none is wrong
    metrics: new Set(definitions.metrics.keys()),
  }
  const { workflows, topics, streams, endpoints, commands, refused, fileOf } = definitions
  const all: Definition[] = [workflows, topics, streams, endpoints, commands].flatMap((some) => [...some.values()])
  const left = all.filter((one) => !said[one.kind].has(nameOf(one)))
  const wrong = [
    ...refused.map(({ file, message }) => [file, message] as const),
    ...left.map((one) => [fileOf(one), `${one.kind} ${nameOf(one)}: `] as const),
  ]
  const found = new Map<string, Fault[]>()
  for (const [file, start] of wrong) {
    const faults = described.faults.filter(({ message }) => message.startsWith(start))
    found.set(file, [...(found.get(file) ?? []), ...faults])
  }
  return found
}
