/**
 * Which tasks of a run are cleared, so that they run again.
 *
 * 1. The set is closed downstream: whatever stands behind a cleared task is cleared too, since it was decided, or made, from it.
 * 2. Nothing upstream of what was chosen is cleared, but for one case: a set-up whose teardown has begun is cleared with
 *    any of the work between them, and with it all of that work, since what it had made is gone.
 * 3. A mapped node that is cleared whole gets its list again; of one of which only some tasks are cleared the list stays.
 */
import { type Fault, SluiceError } from '../errors.ts'
import type { Graph } from './graph.ts'
import { isUuid, taskKeyOf } from './ids.ts'
import type { NodeManifest } from './manifest.ts'
import { nearest } from './nearest.ts'
import { isTerminal, type TaskState } from './task-state.ts'

/** What the rows say of the tasks of a node. */
export interface NodeFacts {
  readonly counts: Readonly<Partial<Record<TaskState, number>>>
  /** One row stands for the node. */
  readonly whole: boolean
  /** Of a mapped node whose list is known. */
  readonly width: number | undefined
  /** An attempt of it was made. */
  readonly begun: boolean
}

export interface ClearWish {
  /** Tasks, and all that is behind them; without an index all tasks of the node. */
  readonly tasks: readonly ChosenTask[]
  /** Also all tasks that did not succeed, and what is behind those. */
  readonly failed: boolean
}

export interface ChosenTask {
  readonly node: number
  readonly mapIndex: number | undefined
}

export interface ClearPlan {
  /** Nodes all of whose tasks are cleared, in the order of the graph. */
  readonly whole: readonly number[]
  /** Mapped nodes of which those tasks are cleared that ended badly. */
  readonly failed: readonly number[]
  readonly some: readonly { readonly node: number; readonly mapIndex: number }[]
}

/** The ends of tasks that `failed` clears. */
export const badStates = ['failed', 'upstream_failed', 'cancelled'] as const satisfies readonly TaskState[]

/** Of these states there is more to come: such a task cannot be cleared. */
export const liveStates = ['scheduled', 'queued', 'running', 'deferred', 'up_for_retry'] as const satisfies TaskState[]

/** @param ended whether the run has ended: then what has not ended by now never did. */
export function planClear(
  graph: Graph,
  facts: ReadonlyMap<number, NodeFacts>,
  wish: ClearWish,
  ended: boolean,
): ClearPlan {
  const set = new ClearedSet(graph)
  const failed = wish.failed ? graph.nodes.flatMap((_, node) => (isBad(facts.get(node), ended) ? [node] : [])) : []
  for (const { node, mapIndex } of wish.tasks) {
    if (mapIndex === undefined) set.clear(node)
    else set.clearBehind(node)
  }
  const partly = failed.filter((node) => facts.get(node)?.width !== undefined && !facts.get(node)?.whole)
  for (const node of failed) {
    if (partly.includes(node)) set.clearBehind(node)
    else set.clear(node)
  }
  const touched = () => new Set([...set.whole, ...failed, ...wish.tasks.map(({ node }) => node)])
  for (let before = -1; before !== set.whole.size; ) {
    before = set.whole.size
    for (const setup of undoneSetups(graph, facts, touched())) set.clear(setup)
  }
  return {
    whole: [...set.whole].sort((one, other) => one - other),
    failed: partly.filter((node) => !set.whole.has(node)),
    some: wish.tasks.flatMap(({ node, mapIndex }) =>
      mapIndex === undefined || set.whole.has(node) ? [] : [{ node, mapIndex }],
    ),
  }
}

class ClearedSet {
  readonly whole = new Set<number>()
  private readonly behind: (node: number) => Iterable<number>
  private readonly passed = new Set<number>()

  constructor(graph: Graph) {
    this.behind = nextNodes(graph, this.passed)
  }

  /** All tasks of a node, and whatever is behind it. */
  clear(node: number): void {
    const agenda = [node]
    for (const at of agenda) {
      if (this.whole.has(at)) continue
      this.whole.add(at)
      for (const next of this.behind(at)) agenda.push(next)
    }
  }

  clearBehind(node: number): void {
    for (const next of [...this.behind(node)]) this.clear(next)
  }
}

/** Whatever stands behind some nodes; of these only those that stand behind another of them. */
export function allBehind(graph: Graph, nodes: Iterable<number>): Set<number> {
  const behind = nextNodes(graph, new Set())
  const found = new Set<number>()
  const agenda = [...nodes].flatMap((node) => [...behind(node)])
  for (const node of agenda) {
    if (found.has(node)) continue
    found.add(node)
    for (const next of behind(node)) agenda.push(next)
  }
  return found
}

/** The nodes that wait for a node, or stand in an arm of it. A gate is opened once: all behind it are in the set then. */
function nextNodes(graph: Graph, passed: Set<number>): (node: number) => Iterable<number> {
  const inArms = Map.groupBy(
    graph.nodes.flatMap(({ arms = [] }, node) => arms.map(({ branch }) => ({ branch, node }))),
    ({ branch }) => branch,
  )
  return function* (node) {
    for (const gate of graph.countsIn[node]!) {
      if (passed.has(gate)) continue
      passed.add(gate)
      yield* graph.opens[gate]!
    }
    for (const { node: inside } of inArms.get(node) ?? []) yield inside
  }
}

function isBad(facts: NodeFacts | undefined, ended: boolean): boolean {
  if (facts === undefined) return false
  if (badStates.some((state) => (facts.counts[state] ?? 0) > 0)) return true
  return ended && !facts.whole && facts.width !== undefined && endedTasks(facts) < facts.width
}

function endedTasks({ counts }: NodeFacts): number {
  return Object.entries(counts).reduce(
    (sum, [state, count]) => sum + (isTerminal(state as TaskState) && state !== 'removed' ? count : 0),
    0,
  )
}

/** Set-ups whose teardown has begun, and some work of which is cleared. */
function undoneSetups(graph: Graph, facts: ReadonlyMap<number, NodeFacts>, cleared: ReadonlySet<number>): number[] {
  return graph.nodes.flatMap(({ teardownOf }, teardown) => {
    if (teardownOf === undefined || !facts.get(teardown)?.begun) return []
    return workOf(graph, teardownOf, teardown).some((node) => cleared.has(node)) ? [teardownOf] : []
  })
}

/** What stands between a set-up and its teardown. */
export function workOf(graph: Graph, setup: number, teardown: number): number[] {
  const before = allBefore(graph, teardown)
  return [...allBehind(graph, [setup])].filter((node) => node !== teardown && before.has(node))
}

/** All that a node waits for, directly or not. */
function allBefore(graph: Graph, node: number): Set<number> {
  const members: number[][] = graph.gates.map(() => [])
  for (const [member, gates] of graph.countsIn.entries()) for (const gate of gates) members[gate]!.push(member)
  const found = new Set<number>()
  const agenda = [node]
  for (const at of agenda) {
    const { arms = [] } = graph.nodes[at]!
    for (const up of [...graph.waitsFor[at]!.flatMap((gate) => members[gate]!), ...arms.map(({ branch }) => branch)]) {
      if (!found.has(up)) agenda.push(up)
      found.add(up)
    }
  }
  return found
}

/** Tasks that one request can name. */
export const mostChosen = 1_000

/**
 * The tasks that texts name: an id, `load`, `load[3]` of a mapped node, or a group, which is all of its tasks.
 * @throws SluiceError INVALID_INPUT naming each text that is none, at `/body/tasks/<position>`
 */
export function chosenTasks(
  nodes: readonly NodeManifest[],
  facts: ReadonlyMap<number, NodeFacts>,
  runId: string,
  texts: readonly string[],
): ChosenTask[] {
  const faults: Fault[] = []
  const chosen = texts.flatMap((text, position) => {
    const found = chosenBy(nodes, runId, text)
    const message =
      typeof found === 'string' ? found : found.map((task) => wrongIndex(nodes, facts, task)).find(Boolean)
    if (message === undefined) return found as ChosenTask[]
    faults.push({ where: `/body/tasks/${position}`, message })
    return []
  })
  if (faults.length === 0) return chosen
  throw new SluiceError('INVALID_INPUT', `${faults[0]!.where}: ${faults[0]!.message}`, { faults })
}

function chosenBy(nodes: readonly NodeManifest[], runId: string, text: string): ChosenTask[] | string {
  if (isUuid(text.toLowerCase())) return chosenById(nodes, runId, text.toLowerCase())
  const [, name = text, index] = /^(.+)\[(\d{1,7})\]$/.exec(text) ?? []
  const node = nodes.findIndex(({ id }) => id === name)
  if (node >= 0) return [{ node, mapIndex: index === undefined ? undefined : Number(index) }]
  const inGroup = nodes.flatMap(({ group }, at) =>
    group !== undefined && `${group}.`.startsWith(`${text}.`) ? [at] : [],
  )
  if (inGroup.length > 0) return inGroup.map((at) => ({ node: at, mapIndex: undefined }))
  const names = nodes.map(({ id }) => id)
  const meant = nearest(name, names)
  const shown = names.slice(0, 20).join(', ') || 'none'
  return `is ${JSON.stringify(text.slice(0, 80))}, which is no task of the run; ${meant === undefined ? `there are ${shown}` : `did you mean ${meant}?`}`
}

function chosenById(nodes: readonly NodeManifest[], runId: string, id: string): ChosenTask[] | string {
  if (id === runId) return 'is the id of the run; name a task of it'
  try {
    const { runId: own, node, mapIndex } = taskKeyOf(id)
    if (own !== runId || nodes[node] === undefined) return `is ${id}, which is a task of another run`
    return [{ node, mapIndex: mapIndex < 0 ? undefined : mapIndex }]
  } catch {
    return `is ${id}, which is no task of the run`
  }
}

function wrongIndex(
  nodes: readonly NodeManifest[],
  facts: ReadonlyMap<number, NodeFacts>,
  { node, mapIndex }: ChosenTask,
): string | undefined {
  if (mapIndex === undefined) return undefined
  const { id, over } = nodes[node]!
  if (over === undefined) return `is ${id}[${mapIndex}]; ${id} is not mapped and has no index`
  const { width, whole } = facts.get(node) ?? {}
  if (width === undefined || whole) return `is ${id}[${mapIndex}]; ${id} has no tasks yet, name it without an index`
  return mapIndex < width ? undefined : `is ${id}[${mapIndex}]; ${id} has ${width} tasks, counted from 0`
}
