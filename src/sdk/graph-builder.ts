/**
 * Collects the nodes of a workflow while its `define` runs. Definition is synchronous, so one current scope is enough.
 * The body of `each` is a scope of its own: what it uses of the scopes around it is handed in as parameters.
 */
import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import type { ActionDefinition, RetryOptions } from './action-definition.ts'
import { checkName } from './name.ts'
import { type LimitOptions, limitsOf, type NodeLimits } from './pool.ts'
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

export interface CallOptions extends LimitOptions {
  /** The task's name within the workflow; default the action's name, numbered from the second call on. */
  readonly id?: string
  /** Tasks that must end first although none of their results is used. */
  readonly after?: Ref<unknown> | readonly Ref<unknown>[]
  /** When the task may start, judged by how its upstream tasks ended. Default `all_success`. */
  readonly rule?: TriggerRule
  readonly retry?: RetryOptions
  /** The time limit of one attempt. */
  readonly timeout?: Duration
  /** The time limit of the task over all its attempts, and the waits between them. */
  readonly within?: Duration
  /** Whole number of -1,000 to 1,000: among tasks of a run that are ready, higher ones start first. Default 0. */
  readonly priority?: number
}

export type NodeKind = 'action' | 'branch' | 'wait' | 'approval' | 'workflow'

export interface ApprovalDefinition {
  /** JSON Schema. */
  readonly form: object | undefined
  readonly deadlineMs: number | undefined
  readonly onDeadline: 'fail' | 'skip' | 'approve'
  readonly onRefuse: 'skip' | 'fail'
}

export interface NodeDefinition {
  readonly id: string
  readonly kind: NodeKind
  /** The name of its action, or of the workflow that it runs; else its kind. */
  readonly target: string
  /** Of nodes of the kind `action`. */
  readonly action: ActionDefinition | undefined
  readonly args: Template
  /** Set on mapped nodes: the list to map over; `args` then may point to the item. */
  readonly over: Template | undefined
  /** Indices of earlier nodes, ascending, without repeats. */
  readonly upstream: readonly number[]
  readonly stage: number | undefined
  readonly group: string | undefined
  readonly arms: readonly Arm[]
  readonly choices: readonly string[] | undefined
  readonly teardownOf: number | undefined
  readonly approval: ApprovalDefinition | undefined
  readonly rule: TriggerRule
  readonly retry: RetryOptions
  readonly timeoutMs: number
  readonly withinMs: number | undefined
  readonly priority: number
  readonly limits: NodeLimits | undefined
}

export interface Arm {
  readonly branch: number
  readonly arm: string
}

export interface GraphDefinition {
  readonly nodes: readonly NodeDefinition[]
  /** Names, in order; the nodes of a stage start when all of the stage before have ended well. */
  readonly stages: readonly string[]
  /** What a run results in; undefined when `define` gives nothing. */
  readonly output: Template | undefined
  /** The bodies of `each`, by the names that their runs have as workflows. */
  readonly inner: ReadonlyMap<string, GraphDefinition>
}

/** At most this many nodes a workflow; lists known at run time are mapped instead. */
export const maxNodes = 20_000
const maxDepth = 8

/** What is being defined: a workflow, or the body of an `each` in it. */
export interface Scope {
  readonly number: number
  readonly workflow: string
  readonly outer: Scope | undefined
  readonly nodes: NodeDefinition[]
  readonly ids: Set<string>
  /** Per action: the number its next unnamed call gets. */
  readonly numbers: Map<string, number>
  readonly stages: string[]
  readonly inner: Map<string, GraphDefinition>
  /** What is used of the scopes around this one: by root, its name among the parameters and what it is out there. */
  readonly captured: Map<string, { readonly name: string; readonly pointer: Pointer }>
  stage: number | undefined
  readonly groups: string[]
  readonly arms: Arm[]
  /** Nodes that everything which is placed now waits for. */
  readonly after: number[]
}

let current: Scope | undefined
let scopes = 0

function openScope(workflow: string, outer: Scope | undefined): Scope {
  scopes += 1
  return {
    ...{ number: scopes, workflow, outer, stage: undefined },
    ...{ nodes: [], ids: new Set(), numbers: new Map(), stages: [], inner: new Map(), captured: new Map() },
    ...{ groups: [], arms: [], after: [] },
  }
}

/** The scope that is being defined. @throws SluiceError DEFINITION_INVALID outside of a workflow's `define`. */
export function scopeFor(what: string): Scope {
  if (current) return current
  throw new SluiceError('DEFINITION_INVALID', `${what} stands outside of a workflow's define`)
}

/** @param define gets what refers to the parameters. @throws SluiceError DEFINITION_INVALID */
export function buildGraph(workflow: string, define: (params: unknown) => unknown): GraphDefinition {
  if (current)
    throw new SluiceError('DEFINITION_INVALID', `workflow ${workflow} is defined inside the definition of another`)
  return collect(openScope(workflow, undefined), `workflow ${workflow}`, (scope) =>
    define(reference({ from: 'param', path: [], scope: scope.number })),
  )
}

/** The body of an `each`: a graph of its own, inside of the present one. */
export function buildInner(name: string, define: (item: unknown) => unknown) {
  const outer = scopeFor(name)
  let depth = 1
  for (let scope = outer.outer; scope; scope = scope.outer) depth += 1
  if (depth > maxDepth) throw new SluiceError('DEFINITION_INVALID', `${name} is nested deeper than ${maxDepth} levels`)
  const inner = openScope(name, outer)
  const graph = collect(inner, name, (scope) =>
    define(reference({ from: 'param', path: ['item'], scope: scope.number })),
  )
  for (const [innerName, innerGraph] of graph.inner) outer.inner.set(innerName, innerGraph)
  outer.inner.set(name, { ...graph, inner: new Map() })
  return { captured: [...inner.captured.values()] }
}

function collect(scope: Scope, what: string, define: (scope: Scope) => unknown): GraphDefinition {
  const outer = current
  current = scope
  try {
    const returned = define(scope)
    if (returned instanceof Promise) {
      returned.catch(() => {})
      throw new SluiceError('DEFINITION_INVALID', `define of ${what} must not be async: nothing runs yet`)
    }
    if (scope.nodes.length === 0) throw new SluiceError('DEFINITION_INVALID', `${what} calls no action`)
    const see = (found: Pointer) => seenFrom(scope, found)
    const output = returned === undefined ? undefined : toTemplate(returned, see, `what ${what} returns`)
    return { nodes: scope.nodes, stages: scope.stages, output, inner: scope.inner }
  } finally {
    current = outer
  }
}

/** What a pointer is in a scope: one of a scope around it becomes a parameter of the body. */
function seenFrom(scope: Scope, found: Pointer): Pointer {
  if (found.scope === undefined || found.scope === scope.number) return found
  if (scope.outer === undefined) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      'a reference of one workflow is used in another; pass it as a parameter',
    )
  }
  const outside = seenFrom(scope.outer, found)
  const root = { ...outside, path: [] }
  const key = JSON.stringify([root.from, root.from === 'node' ? root.node : 0])
  let captured = scope.captured.get(key)
  if (!captured) {
    captured = { name: `c${scope.captured.size}`, pointer: root }
    scope.captured.set(key, captured)
  }
  return { from: 'param', path: ['captured', captured.name, ...outside.path] }
}

/** The tasks called inside `place` form a stage: they start when the stage before is done, and run in parallel. */
export function stage(name: string, place: () => void): void {
  checkName('stage', name)
  const scope = scopeFor(`stage ${name}`)
  if (scope.stage !== undefined)
    throw new SluiceError('DEFINITION_INVALID', `stage ${name} stands inside stage ${scope.stages[scope.stage]}`)
  if (scope.stages.includes(name)) throw new SluiceError('DEFINITION_INVALID', `there are two stages named ${name}`)
  scope.stage = scope.stages.push(name) - 1
  const before = scope.nodes.length
  place()
  if (scope.nodes.length === before) throw new SluiceError('DEFINITION_INVALID', `stage ${name} calls no action`)
  scope.stage = undefined
}

/** What a node is, besides where it stands. */
export interface Placed {
  readonly kind: NodeKind
  readonly target: string
  /** One that `nodeId` gave; default: made from the target and the options. */
  readonly id?: string
  /** For messages, as in "arguments of fetch". */
  readonly called: string
  readonly action?: ActionDefinition
  readonly args: unknown
  /** Makes it a mapped node: `args` is then what this gives for the item. */
  readonly over?: unknown
  readonly each?: (item: never) => unknown
  readonly choices?: readonly string[]
  readonly approval?: ApprovalDefinition
  readonly teardownOf?: number
  /** Nodes to wait for besides those that its arguments name. */
  readonly behind?: readonly number[]
  readonly defaults?: {
    readonly retry?: RetryOptions | undefined
    readonly timeout?: Duration
    readonly within?: Duration
  }
}

export function placeNode(placed: Placed, options: CallOptions = {}): Ref<unknown> {
  const { called, defaults = {} } = placed
  const scope = current
  if (!scope) {
    throw new SluiceError('DEFINITION_INVALID', `${called} was called outside of a workflow's define`)
  }
  const index = scope.nodes.length
  if (index >= maxNodes) {
    throw new SluiceError('DEFINITION_INVALID', `a workflow has at most ${maxNodes} tasks; map over a list instead`)
  }
  const upstream = new Set<number>([
    ...scope.after,
    ...scope.arms.map(({ branch }) => branch),
    ...(placed.behind ?? []),
  ])
  const see = (found: Pointer) => {
    const here = seenFrom(scope, found)
    if (here.from === 'node') upstream.add(here.node)
    return here
  }
  for (const ref of [options.after ?? []].flat()) for (const node of nodesOf(ref, called)) see(node)
  const mapped = placed.each !== undefined
  const item = mapped ? reference({ from: 'item', path: [], scope: scope.number }) : undefined
  const args = placed.each ? placed.each(item as never) : placed.args
  scope.nodes.push({
    id: placed.id ?? nodeId(scope, placed.target, options.id),
    kind: placed.kind,
    target: placed.target,
    action: placed.action,
    args: toTemplate(args, see, `arguments of ${called}`),
    over: mapped ? toTemplate(placed.over, see, `list of ${called}`) : undefined,
    upstream: [...upstream].sort((a, b) => a - b),
    stage: scope.stage,
    group: scope.groups.length > 0 ? scope.groups.join('.') : undefined,
    arms: [...scope.arms],
    choices: placed.choices,
    teardownOf: placed.teardownOf,
    approval: placed.approval,
    rule: placed.teardownOf === undefined ? ruleOf(called, options.rule) : 'all_done',
    retry: options.retry ?? defaults.retry ?? {},
    timeoutMs: parseDuration(options.timeout ?? defaults.timeout ?? '1h'),
    withinMs: durationOf(options.within ?? defaults.within),
    priority: priorityOf(called, options.priority),
    limits: limitsOf(called, { inRunner: placed.kind === 'action', item }, options, see),
  })
  return reference({ from: 'node', node: index, path: [], scope: scope.number })
}

const durationOf = (given: Duration | undefined) => (given === undefined ? undefined : parseDuration(given))

/** Groups that `after` may name, by what `group` gave. */
const groups = new WeakMap<object, readonly Pointer[]>()

/** What stands for several nodes in `after`. */
export function standFor(nodes: readonly number[], scope: Scope): Ref<unknown> {
  const group = Object.freeze({}) as unknown as Ref<unknown>
  groups.set(
    group as object,
    nodes.map((node) => ({ from: 'node', node, path: [], scope: scope.number })),
  )
  return group
}

/** The nodes that a reference names. @throws SluiceError DEFINITION_INVALID when it names none. */
export function nodesOf(ref: unknown, called: string): readonly Pointer[] {
  const some = typeof ref === 'object' && ref !== null ? groups.get(ref) : undefined
  if (some) return some
  const found = pointer(ref)
  if (found?.from === 'node') return [found]
  throw new SluiceError('DEFINITION_INVALID', `"after" of ${called} takes what calling an action gave`)
}

/** The id of a task: what it is called, in its groups, numbered where that is taken. */
export function nodeId(scope: Scope, target: string, wanted: string | undefined): string {
  if (wanted !== undefined) checkName('task', wanted)
  const inGroups = (name: string) => [...scope.groups, name].join('.')
  let id = inGroups(wanted ?? target)
  if (scope.ids.has(id)) {
    if (wanted !== undefined) throw new SluiceError('DEFINITION_INVALID', `there are two tasks with the id ${id}`)
    const plain = id
    let number = scope.numbers.get(plain) ?? 2
    while (scope.ids.has(`${plain}-${number}`)) number += 1
    scope.numbers.set(plain, number + 1)
    id = `${plain}-${number}`
  }
  scope.ids.add(id)
  return id
}

function ruleOf(called: string, rule: TriggerRule = 'all_success'): TriggerRule {
  if (!triggerRules.includes(rule)) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `${called}: ${JSON.stringify(rule)} is not a trigger rule; allowed are ${triggerRules.join(', ')}`,
    )
  }
  return rule
}

function priorityOf(called: string, priority = 0): number {
  if (Number.isInteger(priority) && Math.abs(priority) <= 1_000) return priority
  throw new SluiceError(
    'DEFINITION_INVALID',
    `the priority of ${called} is ${JSON.stringify(priority)}; allowed are whole numbers from -1000 to 1000`,
  )
}
