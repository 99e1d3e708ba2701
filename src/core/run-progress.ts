/** Where a run stands in the memory of its owner, what can happen to it, and the values that flow between its tasks. */
import type { ErrorCode } from '../errors.ts'
import type { Template } from '../sdk/reference.ts'
import type { Graph } from './graph.ts'
import type { RunState } from './run-state.ts'
import { isTerminal, type TaskState, type TerminalTaskState } from './task-state.ts'
import { resolveTemplate } from './template.ts'
import type { countedAs } from './trigger-rule.ts'

/** One task that was started and has not ended. */
export interface LiveTask {
  attempt: number
  losses: number
  /** Attempts that ended since they had to wait. */
  waits: number
  /** Attempts before it was last cleared: no policy counts them. */
  readonly base: number
  /** 0 while nothing runs: it is up for retry, or deferred. */
  token: number
  deferred: boolean
  /** Its time limit has passed: whatever comes now but success is its failure. */
  late: boolean
}

export type Counts = { [K in (typeof countedAs)[TerminalTaskState]]: number }
type GateCounts = Counts & { ended: number }
export const noCounts = (): Counts => ({
  success: 0,
  failed: 0,
  skipped: 0,
  upstreamFailed: 0,
  cancelled: 0,
  removed: 0,
})

export interface NodeProgress {
  /** `none` until released, `scheduled` while its tasks run, then how it ended. */
  state: TaskState
  /** How many tasks it has; -1 until the list of a mapped node is known. */
  width: number
  ended: number
  counts: Counts
  readonly live: Map<number, LiveTask>
  /** JSON text per map index (index 0 when not mapped); null where a task ended without one, absent until it ends. */
  readonly results: (string | null | undefined)[]
  /** Attempts that tasks had before they were cleared, by map index. */
  readonly bases: Map<number, number>
}

export interface RunProgress {
  readonly graph: Graph
  /** JSON text. */
  readonly params: string
  readonly nodes: readonly NodeProgress[]
  readonly gates: readonly GateCounts[]
  openNodes: number
  state: RunState
  /** Nothing starts any more but teardowns; the run ends as cancelled, or as failed when its time limit passed. */
  stopping: 'cancel' | 'limit' | undefined
  /** Gates whose nodes' rules are to be looked at again, each at most once; empty between events. */
  readonly agenda: Set<number>
  /** Parsed values that are final, filled as templates ask for them: index of a node, or -1 for the parameters. */
  readonly parsed: Map<number, unknown>
  /** What mapped nodes map over, resolved once: a list written in the workflow may have as many items as tasks ask. */
  readonly lists: Map<number, readonly unknown[] | undefined>
}

export interface AttemptError {
  readonly code: ErrorCode
  /** The name of the author's error class, where it is none of ours. */
  readonly name?: string
  readonly message: string
  /** False: no later attempt can help. */
  readonly retryable: boolean
  readonly retryAfterMs?: number
}

export type Outcome =
  /** JSON text; `stored` is what is written instead when the result became an object. */
  | { readonly kind: 'success'; readonly result: string; readonly stored?: string }
  | { readonly kind: 'failure'; readonly error: AttemptError }
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'skipped'; readonly reason: string }
  /** The attempt has ended; the next one begins at a time (milliseconds since the epoch). `wait` is JSON text for people. */
  | { readonly kind: 'deferred'; readonly until: number; readonly wait: string }

export type RunEvent =
  | { readonly kind: 'begin' }
  | {
      readonly kind: 'ended'
      readonly node: number
      readonly mapIndex: number
      readonly token: number
      readonly outcome: Outcome
    }
  | { readonly kind: 'cancel' }
  /** A deferred task that waits in the engine has got what it waits for; `attempt` says for which wait. */
  | {
      readonly kind: 'resumed'
      readonly node: number
      readonly mapIndex: number
      readonly attempt: number
      readonly outcome: Outcome
    }
  /** What a deferred task waits for at most is due: a timer, the deadline of an approval. */
  | { readonly kind: 'due'; readonly node: number; readonly mapIndex: number; readonly attempt: number }
  /** The time limit of a task (over all its attempts), or of the run, has passed. */
  | { readonly kind: 'task-limit'; readonly node: number; readonly mapIndex: number }
  | { readonly kind: 'run-limit' }

export interface Transition {
  readonly node: number
  readonly mapIndex: number
  readonly attempt: number
  readonly from: TaskState
  readonly to: TaskState
  /** The token of the attempt that this ends; 0 when no attempt was live. */
  readonly token: number
  readonly losses: number
  /** Of an attempt that ends deferred: how often that was by now. */
  readonly waits?: number
  readonly result?: string
  readonly error?: string
  /** When it goes on by itself; milliseconds since the epoch. */
  readonly retryAt?: number
  /** JSON text: what a deferred task waits for. */
  readonly wait?: string
}

/** Tasks `first` to `last` (map indices, inclusive; -1 when not mapped) of a node may start. */
export interface ReadyRange {
  readonly node: number
  readonly first: number
  readonly last: number
}

export interface Decision {
  readonly transitions: Transition[]
  readonly ready: ReadyRange[]
  readonly expanded: { readonly node: number; readonly width: number }[]
  /** Tasks to start again at a time. */
  readonly retries: { readonly node: number; readonly mapIndex: number; readonly at: number }[]
  /** Waits of the engine that are `due` at a time. */
  readonly due: { readonly node: number; readonly mapIndex: number; readonly attempt: number; readonly at: number }[]
  /** Attempts to stop. */
  readonly kill: { readonly node: number; readonly mapIndex: number; readonly token: number }[]
  /** Tasks whose runs of other workflows are to be cancelled. */
  readonly stop: { readonly node: number; readonly mapIndex: number }[]
  end: RunEnd | undefined
}

export interface RunEnd {
  readonly state: 'success' | 'failed' | 'cancelled'
  readonly error: string | undefined
  /** JSON text of what its workflow returns. */
  readonly result: string | undefined
}
export function newProgress(graph: Graph, params: string): RunProgress {
  return {
    graph,
    params,
    nodes: graph.nodes.map((node) => ({
      state: 'none',
      width: node.over === undefined ? 1 : -1,
      ended: 0,
      counts: noCounts(),
      live: new Map(),
      results: [],
      bases: new Map(),
    })),
    gates: graph.gates.map(() => ({ ...noCounts(), ended: 0 })),
    openNodes: graph.nodes.length,
    state: 'queued',
    stopping: undefined,
    agenda: new Set(),
    parsed: new Map(),
    lists: new Map(),
  }
}
/** The JSON text of a task's arguments; of what has not ended yet, its result so far (rules that do not wait for all). */
export function argumentsOf(run: RunProgress, node: number, mapIndex: number): string {
  return JSON.stringify(argumentValue(run, node, mapIndex) ?? null)
}

export function argumentValue(run: RunProgress, node: number, mapIndex: number): unknown {
  return valueFor(run, run.graph.nodes[node]!.args, node, mapIndex)
}

/** What a template comes to for a task. */
export function valueFor(run: RunProgress, template: Template, node: number, mapIndex: number): unknown {
  return resolveTemplate(template, (pointer) => {
    if (pointer.from === 'param') return parsed(run, -1)
    if (pointer.from === 'node') return parsed(run, pointer.node)
    return listOf(run, node)?.[mapIndex]
  })
}

/** What the run results in, as JSON text, once its nodes have ended; undefined when its workflow returns nothing. */
export function outputOf(run: RunProgress): string | undefined {
  const { output } = run.graph
  if (output === undefined) return undefined
  const value = resolveTemplate(output, (pointer) => parsed(run, pointer.from === 'node' ? pointer.node : -1))
  return JSON.stringify(value ?? null)
}

/** The JSON text of a node's result; of a mapped node, the list of its tasks' results in order. */
export function resultOf(run: RunProgress, node: number): string {
  const progress = run.nodes[node]!
  if (run.graph.nodes[node]!.over === undefined) return progress.results[0] ?? 'null'
  return `[${Array.from({ length: Math.max(0, progress.width) }, (_, index) => progress.results[index] ?? 'null').join(',')}]`
}

function parsed(run: RunProgress, index: number): unknown {
  if (run.parsed.has(index)) return run.parsed.get(index)
  const value: unknown = JSON.parse(index < 0 ? run.params : resultOf(run, index))
  if (index < 0 || isTerminal(run.nodes[index]!.state)) run.parsed.set(index, value)
  return value
}

/** The list that a mapped node maps over; undefined when what it refers to is no list. */
export function listOf(run: RunProgress, node: number): readonly unknown[] | undefined {
  if (run.lists.has(node)) return run.lists.get(node)
  const value = resolveTemplate(run.graph.nodes[node]!.over!, (pointer) =>
    pointer.from === 'node' ? parsed(run, pointer.node) : parsed(run, -1),
  )
  const list = Array.isArray(value) ? value : undefined
  run.lists.set(node, list)
  return list
}
