/** How tasks of a workflow stand to each other: branches, groups, what is set up and torn down, a body for each item. */
import { SluiceError } from '../errors.ts'
import {
  buildInner,
  type CallOptions,
  nodeId,
  nodesOf,
  placeNode,
  type Scope,
  scopeFor,
  standFor,
} from './graph-builder.ts'
import { checkName } from './name.ts'
import { pointer, type Ref, type Resolved, reference } from './reference.ts'

type Choice = string | boolean | readonly string[]

type BranchOptions = Omit<CallOptions, 'retry' | 'timeout' | 'within'>

/**
 * Runs the tasks of the arms that `value` names, once it is known: the name of an arm, a list of names, or a boolean for
 * the arms `yes` and `no`. Tasks in the other arms, whatever their rule, are skipped. A value that names no arm fails the
 * branch. Join the arms with a task `after` them under the rule `none_failed_min_one_success`.
 * Gives what stands for the branch: the list of the arms it chose.
 */
export function branch<Arms extends Readonly<Record<string, () => unknown>>>(
  value: Ref<Choice> | Ref<string> | Ref<boolean>,
  arms: Arms,
  options: BranchOptions = {},
): Ref<(keyof Arms & string)[]> {
  return placeArms('branch', value, arms, options) as never
}

/** Runs the tasks that `place` calls only when the value is true; they are skipped when it is false. */
export function shortCircuit(value: Ref<boolean>, place: () => unknown, options: BranchOptions = {}): Ref<'yes'[]> {
  return placeArms('short-circuit', value, { yes: place }, options) as never
}

function placeArms(
  called: string,
  value: unknown,
  arms: Readonly<Record<string, () => unknown>>,
  options: BranchOptions,
): Ref<unknown> {
  const scope = scopeFor(called)
  const choices = Object.keys(arms)
  if (choices.length === 0) throw new SluiceError('DEFINITION_INVALID', 'a branch needs arms')
  for (const name of choices) checkName('arm', name)
  const ref = placeNode({ kind: 'branch', target: called, called, args: value, choices }, options)
  const index = indexOf(ref)
  for (const [arm, place] of Object.entries(arms)) {
    scope.arms.push({ branch: index, arm })
    try {
      place()
    } finally {
      scope.arms.pop()
    }
  }
  return ref
}

/**
 * Names tasks together: their ids begin with the group's name and a dot. Gives what `after` takes: whoever is after the
 * group is after the last tasks of it.
 */
export function group(name: string, place: () => unknown, options: Pick<CallOptions, 'after'> = {}): Ref<unknown> {
  checkName('group', name)
  const scope = scopeFor(`group ${name}`)
  const before = [options.after ?? []].flat().flatMap((ref) => nodesOf(ref, `group ${name}`))
  const first = scope.nodes.length
  const behind = before.map((found) => {
    if (found.from === 'node' && found.scope === scope.number) return found.node
    throw new SluiceError(
      'DEFINITION_INVALID',
      `"after" of group ${name} names tasks around the each that it stands in`,
    )
  })
  scope.groups.push(name)
  scope.after.push(...behind)
  try {
    place()
  } finally {
    scope.groups.pop()
    scope.after.length -= behind.length
  }
  if (scope.nodes.length === first) throw new SluiceError('DEFINITION_INVALID', `group ${name} calls no action`)
  return standFor(lastOf(scope, first, scope.nodes.length), scope)
}

/** The nodes of a range that no other of the range waits for; teardowns do not count, neither as last nor as waiting. */
function lastOf(scope: Scope, first: number, end: number): number[] {
  const counting = Array.from({ length: end - first }, (_, at) => first + at).filter(
    (at) => scope.nodes[at]!.teardownOf === undefined,
  )
  const awaited = new Set(counting.flatMap((at) => scope.nodes[at]!.upstream))
  return counting.filter((at) => !awaited.has(at))
}

/**
 * What `setup` makes is there while the tasks of `work` run, and `teardown` undoes it afterwards: it runs whenever the set-up
 * had succeeded and all of the work has ended, however, also when the run was cancelled or its time was over. How the
 * teardown ends does not change how the run ends; neither a stage that follows nor what is after its group waits for it.
 */
export function using<Made>(
  setup: () => Ref<Made>,
  work: (made: Ref<Made>) => unknown,
  teardown: (made: Ref<Made>) => Ref<unknown>,
): Ref<Made> {
  const scope = scopeFor('using')
  const made = setup()
  const index = indexOf(made, 'the setup of using')
  const first = scope.nodes.length
  scope.after.push(index)
  try {
    work(made)
  } finally {
    scope.after.pop()
  }
  const end = scope.nodes.length
  if (end === first) throw new SluiceError('DEFINITION_INVALID', 'the work of using calls no action')
  const undo = indexOf(teardown(made), 'the teardown of using')
  if (undo !== end || scope.nodes.length !== end + 1) {
    throw new SluiceError('DEFINITION_INVALID', 'the teardown of using must be one call of an action')
  }
  tearDown(
    undo,
    index,
    Array.from({ length: end - first }, (_, at) => first + at),
  )
  return made
}

/**
 * Makes a node that is placed the teardown of another.
 * @param work all of it, not only its last: the last can end, or be cancelled, while what is before it still runs
 */
export function tearDown(undo: number, setup: number, work: readonly number[]): void {
  const { nodes } = scopeFor('a teardown')
  const node = nodes[undo]!
  const upstream = [...new Set([...node.upstream, setup, ...work])].sort((a, b) => a - b)
  nodes[undo] = { ...node, upstream, teardownOf: setup, rule: 'all_done' }
}

/**
 * Runs the tasks of `body` for each item of a list that is known when the run gets there: a run of its own for each, in which
 * every task waits only for its own item. Bodies may hold an `each` again. Up to 64 items are under way at once.
 * Gives the list of what the bodies return, in the order of the items.
 */
export function each<Item, Returned>(
  list: Ref<readonly Item[]> | Ref<Item[]> | readonly Item[],
  body: (item: Ref<Item>) => Returned,
  options: CallOptions = {},
): Ref<Resolved<Returned>[]> {
  const scope = scopeFor('each')
  const id = nodeId(scope, 'each', options.id)
  const name = `${scope.workflow}.${id}`
  const { captured } = buildInner(name, body as (item: unknown) => unknown)
  const handed = Object.fromEntries(captured.map(({ name: key, pointer: found }) => [key, reference(found)]))
  const args = (item: unknown) => ({ item, captured: handed })
  const placed = { kind: 'workflow', target: name, id, called: `each ${id}`, args: {}, over: list, each: args } as const
  return placeNode(placed, options) as never
}

function indexOf(ref: unknown, what = 'this'): number {
  const found = pointer(ref)
  if (found?.from === 'node') return found.node
  throw new SluiceError('DEFINITION_INVALID', `${what} must give what calling an action gave`)
}
