/** Brings the YAML documents of a project together with its other definitions, whose actions and workflows they name. */
import type { Fault } from '../../../errors.ts'
import { type Action, action } from '../../../sdk/action.ts'
import type { ActionDefinition } from '../../../sdk/action-definition.ts'
import type { GraphDefinition } from '../../../sdk/graph-builder.ts'
import type { Workflow } from '../../../sdk/workflow.ts'
import { compile } from './compile.ts'
import { isYamlDocument, readWorkflow } from './document.ts'
import type { Places } from './pointer.ts'
import { allTasks } from './tasks.ts'

export interface Linking {
  /** In the order in which names are taken. */
  readonly modules: readonly {
    readonly file: string
    readonly exports: Readonly<Record<string, unknown>>
    /** It is an earlier version of the file: its actions may be copies of those of others, which go before. */
    readonly kept?: boolean
  }[]
  /** Those of TypeScript. */
  readonly workflows: ReadonlyMap<string, Workflow>
  graphOf(workflow: string): GraphDefinition
  /** Whether a workflow is of an earlier version of its file. */
  isKept(workflow: string): boolean
  /** Given in a build: arguments are judged, and faults name where they stand. */
  placesOf?(file: string): Places | undefined
}

export interface Linked {
  readonly workflows: readonly { readonly workflow: Workflow; readonly file: string }[]
  readonly faults: ReadonlyMap<string, readonly Fault[]>
}

export function linkDocuments(linking: Linking): Linked {
  const { modules, workflows, placesOf } = linking
  const forms = modules.flatMap(({ file, exports }) =>
    Object.values(exports)
      .filter(isYamlDocument)
      .map(({ document }) => ({ file, form: readWorkflow(document, placesOf?.(file) ?? nowhere(file)) })),
  )
  if (forms.length === 0) return { workflows: [], faults: new Map() }
  const nameable = {
    actions: actionsOf(linking, new Set(forms.flatMap(({ form }) => [...allTasks(form)].map(({ target }) => target)))),
    workflows: new Set([...workflows.keys(), ...forms.flatMap(({ form }) => form.name ?? [])]),
  }
  const linked: { workflow: Workflow; file: string }[] = []
  const faults = new Map<string, readonly Fault[]>()
  for (const { file, form } of forms) {
    const compiled = compile(form, nameable, placesOf !== undefined)
    if ('workflow' in compiled) linked.push({ workflow: compiled.workflow, file })
    else faults.set(file, [...(faults.get(file) ?? []), ...compiled.faults])
  }
  return { workflows: linked, faults }
}

const nowhere = (file: string): Places => ({ of: () => `${file}:1:1` })

/** Actions that files export, and where that does not give all that is wanted, those that workflows call. */
function actionsOf(
  { modules, workflows, graphOf, isKept }: Linking,
  wanted: ReadonlySet<string>,
): Map<string, Action | string> {
  const found = new Map<string, { action: Action; definition: ActionDefinition; where: string } | string>()
  const add = (one: Action, definition: ActionDefinition, where: string, kept: boolean) => {
    const { name } = definition
    const before = found.get(name)
    if (before === undefined) found.set(name, { action: one, definition, where })
    else if (!kept && typeof before !== 'string' && before.definition !== definition)
      found.set(name, `there are two actions named ${name}, in ${before.where} and in ${where}; rename one`)
  }
  for (const { file, exports, kept = false } of modules)
    for (const value of Object.values(exports)) if (isAction(value)) add(value, value.definition, file, kept)
  if ([...wanted].some((name) => !found.has(name))) {
    for (const name of workflows.keys()) {
      for (const definition of definitionsIn(() => graphOf(name)))
        if (!isKnown(found.get(definition.name), definition))
          add(callable(definition), definition, `workflow ${name}`, isKept(name))
    }
  }
  return new Map([...found].map(([name, one]) => [name, typeof one === 'string' ? one : one.action]))
}

const isKnown = (one: { definition: ActionDefinition } | string | undefined, definition: ActionDefinition): boolean =>
  typeof one === 'object' && one.definition === definition

const callable = ({ name, options }: ActionDefinition): Action => action(name, options) as unknown as Action

function isAction(value: unknown): value is Action {
  return typeof value === 'function' && (value as { kind?: unknown }).kind === 'action'
}

/** None of a workflow that cannot be defined: that is told elsewhere. */
function definitionsIn(graphOf: () => GraphDefinition): ActionDefinition[] {
  try {
    const { nodes, inner } = graphOf()
    const all = [...nodes, ...[...inner.values()].flatMap((graph) => graph.nodes)]
    return all.flatMap(({ action: definition }) => (definition ? [definition] : []))
  } catch {
    return []
  }
}
