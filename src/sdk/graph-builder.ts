/**
 * Collects the nodes of a workflow while its `define` runs. Definition is synchronous, so one current builder is enough.
 */
import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import type { ActionDefinition, RetryOptions } from './action-definition.ts'
import { checkName } from './name.ts'
import { type Pointer, pointer, type Ref, reference, type Template, toTemplate } from './reference.ts'

export const triggerRules = [
  'all_success',
  'all_done',
  'all_failed',
  'one_success',
  'one_failed',
  'one_done',
  'none_failed',
  'none_failed_min_one_success',
  'none_skipped',
  'always',
] as const
export type TriggerRule = (typeof triggerRules)[number]

export interface CallOptions {
  /** The task's name within the workflow; default the action's name, numbered from the second call on. */
  readonly id?: string
  /** Tasks that must end first although none of their results is used. */
  readonly after?: Ref<unknown> | readonly Ref<unknown>[]
  /** When the task may start, judged by how its upstream tasks ended. Default `all_success`. */
  readonly rule?: TriggerRule
  readonly retry?: RetryOptions
  readonly timeout?: Duration
}

export interface NodeDefinition {
  readonly id: string
  readonly action: ActionDefinition
  readonly args: Template
  /** Set on mapped nodes: the list to map over; `args` then may point to the item. */
  readonly over: Template | undefined
  /** Indices of earlier nodes, ascending, without repeats. */
  readonly upstream: readonly number[]
  readonly stage: number | undefined
  readonly rule: TriggerRule
  readonly retry: RetryOptions
  readonly timeoutMs: number
}

export interface GraphDefinition {
  readonly nodes: readonly NodeDefinition[]
  /** Names, in order; the nodes of a stage start when all of the stage before have ended well. */
  readonly stages: readonly string[]
}

/** At most this many nodes a workflow; lists known at run time are mapped instead. */
export const maxNodes = 20_000

interface Builder {
  readonly nodes: NodeDefinition[]
  readonly ids: Set<string>
  /** Per action: the number its next unnamed call gets. */
  readonly numbers: Map<string, number>
  readonly stages: string[]
  stage: number | undefined
}

let current: Builder | undefined

/** @throws SluiceError DEFINITION_INVALID */
export function buildGraph(workflow: string, define: () => void): GraphDefinition {
  if (current)
    throw new SluiceError('DEFINITION_INVALID', `workflow ${workflow} is defined inside the definition of another`)
  current = { nodes: [], ids: new Set(), numbers: new Map(), stages: [], stage: undefined }
  try {
    const returned: unknown = define()
    if (returned instanceof Promise) {
      returned.catch(() => {})
      throw new SluiceError('DEFINITION_INVALID', `define of workflow ${workflow} must not be async: nothing runs yet`)
    }
    if (current.nodes.length === 0) throw new SluiceError('DEFINITION_INVALID', `workflow ${workflow} calls no action`)
    return { nodes: current.nodes, stages: current.stages }
  } finally {
    current = undefined
  }
}

/** The tasks called inside `place` form a stage: they start when the stage before is done, and run in parallel. */
export function stage(name: string, place: () => void): void {
  checkName('stage', name)
  if (!current) throw new SluiceError('DEFINITION_INVALID', `stage ${name} stands outside of a workflow's define`)
  if (current.stage !== undefined)
    throw new SluiceError('DEFINITION_INVALID', `stage ${name} stands inside stage ${current.stages[current.stage]}`)
  if (current.stages.includes(name)) throw new SluiceError('DEFINITION_INVALID', `there are two stages named ${name}`)
  current.stage = current.stages.push(name) - 1
  const before = current.nodes.length
  place()
  if (current.nodes.length === before) throw new SluiceError('DEFINITION_INVALID', `stage ${name} calls no action`)
  current.stage = undefined
}

type Placement = { readonly args: unknown } | { readonly over: unknown; readonly each: (item: never) => unknown }

export function placeNode(action: ActionDefinition, placement: Placement, options: CallOptions = {}): Ref<unknown> {
  const builder = current
  if (!builder) {
    throw new SluiceError('DEFINITION_INVALID', `action ${action.name} was called outside of a workflow's define`)
  }
  const index = builder.nodes.length
  if (index >= maxNodes) {
    throw new SluiceError('DEFINITION_INVALID', `a workflow has at most ${maxNodes} tasks; map over a list instead`)
  }
  const upstream = new Set<number>()
  const see = (found: Pointer) => {
    if (found.from === 'node') upstream.add(found.node)
  }
  for (const ref of [options.after ?? []].flat()) {
    const found = pointer(ref)
    if (found?.from !== 'node') {
      throw new SluiceError('DEFINITION_INVALID', `"after" of ${action.name} takes what calling an action gave`)
    }
    see(found)
  }
  const mapped = 'over' in placement
  const args = mapped ? placement.each(reference({ from: 'item', path: [] }) as never) : placement.args
  builder.nodes.push({
    id: nodeId(builder, action.name, options.id),
    action,
    args: toTemplate(args, see, `arguments of ${action.name}`),
    over: mapped ? toTemplate(placement.over, see, `list of ${action.name}`) : undefined,
    upstream: [...upstream].sort((a, b) => a - b),
    stage: builder.stage,
    rule: ruleOf(action.name, options.rule),
    retry: options.retry ?? action.options.retry ?? {},
    timeoutMs: parseDuration(options.timeout ?? action.options.timeout ?? '1h'),
  })
  return reference({ from: 'node', node: index, path: [] })
}

function nodeId(builder: Builder, action: string, wanted: string | undefined): string {
  if (wanted !== undefined) checkName('task', wanted)
  let id = wanted ?? action
  if (builder.ids.has(id)) {
    if (wanted !== undefined) throw new SluiceError('DEFINITION_INVALID', `there are two tasks with the id ${id}`)
    let number = builder.numbers.get(action) ?? 2
    while (builder.ids.has(`${action}-${number}`)) number += 1
    builder.numbers.set(action, number + 1)
    id = `${action}-${number}`
  }
  builder.ids.add(id)
  return id
}

function ruleOf(action: string, rule: TriggerRule = 'all_success'): TriggerRule {
  if (!triggerRules.includes(rule)) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `${action}: ${JSON.stringify(rule)} is not a trigger rule; allowed are ${triggerRules.join(', ')}`,
    )
  }
  return rule
}
