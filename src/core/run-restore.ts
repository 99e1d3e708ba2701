/** Rebuilds where a run stands from its rows, when a node adopts it or reads it again. */

import type { Graph } from './graph.ts'
import { endNode, stateOfTasks } from './node-ends.ts'
import { type Decision, newProgress, type ReadyRange, type RunProgress } from './run-progress.ts'
import { isTerminal, type TaskState, type TerminalTaskState } from './task-state.ts'
import { countedAs } from './trigger-rule.ts'

export interface TaskRow {
  readonly node: number
  readonly mapIndex: number
  readonly state: TaskState
  readonly attempt: number
  readonly losses: number
  readonly waits: number
  readonly base: number
  readonly token: number | null
  readonly result: string | null
  /** Milliseconds since the epoch. */
  readonly retryAt: number | null
  readonly firstStartedAt: number | null
}

export interface Restored {
  readonly progress: RunProgress
  /** Tasks of mapped nodes that were released and have no row yet. The rest is decided by a `begin` event. */
  readonly ready: readonly ReadyRange[]
  readonly retries: readonly { readonly node: number; readonly mapIndex: number; readonly at: number }[]
  /** Waits of the engine, and when they are due. */
  readonly due: Decision['due']
  /** Tasks of other workflows' runs that may have ended meanwhile. */
  readonly children: number
  /** When the time limits of tasks pass. */
  readonly limits: readonly { readonly node: number; readonly mapIndex: number; readonly at: number }[]
  /** Attempts that the rows say are live. */
  readonly running: readonly { readonly node: number; readonly mapIndex: number; readonly token: number }[]
}

export function restoreProgress(
  graph: Graph,
  params: string,
  tasks: readonly TaskRow[],
  widths: readonly { readonly node: number; readonly width: number }[],
): Restored {
  const progress = newProgress(graph, params)
  const open: Open = { retries: [], running: [], due: [], children: 0, limits: [] }
  for (const { node, width } of widths) {
    progress.nodes[node]!.width = width
    progress.nodes[node]!.state = 'scheduled'
  }
  const whole: TaskRow[] = []
  for (const row of tasks) {
    const node = progress.nodes[row.node]!
    if (row.state === 'none') node.bases.set(row.mapIndex, row.attempt)
    // Of a mapped node that ended before its list was known, too.
    else if (isTerminal(row.state) && row.mapIndex === -1) whole.push(row)
    else if (row.state === 'removed') continue
    else restoreTask(progress, row, open)
  }
  const seen = new Map<number, Set<number>>()
  for (const row of tasks) {
    if (row.state === 'none' || row.mapIndex < 0) continue
    seen.set(row.node, (seen.get(row.node) ?? new Set()).add(row.mapIndex))
  }
  for (const { node, state, result } of whole) {
    progress.nodes[node]!.results[0] = result
    endNode(progress, node, state as TerminalTaskState)
  }
  for (const [index, node] of progress.nodes.entries()) {
    if (node.state === 'scheduled' && node.ended === node.width) endNode(progress, index, stateOfTasks(node))
  }
  progress.agenda.clear()
  return { progress, ready: [...missing(progress, seen)], ...open }
}

interface Open {
  readonly retries: Restored['retries'][number][]
  readonly running: Restored['running'][number][]
  readonly due: Decision['due']
  children: number
  readonly limits: Restored['limits'][number][]
}

function restoreTask(progress: RunProgress, row: TaskRow, open: Open): void {
  const { node: index, mapIndex, attempt, losses, waits, base } = row
  const node = progress.nodes[index]!
  const { kind = 'action', withinMs } = progress.graph.nodes[index]!
  node.state = 'scheduled'
  if (isTerminal(row.state)) {
    node.ended += 1
    node.counts[countedAs[row.state]] += 1
    node.results[Math.max(0, mapIndex)] = row.result
    return
  }
  const token = row.state === 'running' ? (row.token ?? 0) : 0
  const deferred = row.state === 'deferred'
  node.live.set(mapIndex, { attempt, losses, waits, base, token, deferred, late: false })
  if (withinMs !== undefined && row.firstStartedAt !== null) {
    open.limits.push({ node: index, mapIndex, at: row.firstStartedAt + withinMs })
  }
  if (token !== 0) open.running.push({ node: index, mapIndex, token })
  else if (!deferred || kind === 'action') open.retries.push({ node: index, mapIndex, at: row.retryAt ?? 0 })
  else if (kind === 'workflow') open.children += 1
  else if (row.retryAt !== null) open.due.push({ node: index, mapIndex, attempt, at: row.retryAt })
}

function* missing(progress: RunProgress, seen: ReadonlyMap<number, ReadonlySet<number>>): Generator<ReadyRange> {
  for (const [index, node] of progress.nodes.entries()) {
    if (node.state !== 'scheduled' || progress.graph.nodes[index]!.over === undefined) continue
    const started = seen.get(index)
    let first = -1
    for (let at = 0; at <= node.width; at += 1) {
      const open = at < node.width && !started?.has(at)
      if (open && first < 0) first = at
      if (!open && first >= 0) {
        yield { node: index, first, last: at - 1 }
        first = -1
      }
    }
  }
}
