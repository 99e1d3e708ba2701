/** Rebuilds where a run stands from its rows, when a node adopts it or reads it again. */

import { endNode, stateOfTasks } from './advance.ts'
import type { Graph } from './graph.ts'
import { newProgress, type ReadyRange, type RunProgress } from './run-progress.ts'
import { isTerminal, type TaskState, type TerminalTaskState } from './task-state.ts'
import { countedAs } from './trigger-rule.ts'

export interface TaskRow {
  readonly node: number
  readonly mapIndex: number
  readonly state: TaskState
  readonly attempt: number
  readonly losses: number
  readonly token: number | null
  readonly result: string | null
  /** Milliseconds since the epoch. */
  readonly retryAt: number | null
}

export interface Restored {
  readonly progress: RunProgress
  /** Tasks of mapped nodes that were released and have no row yet. The rest is decided by a `begin` event. */
  readonly ready: readonly ReadyRange[]
  readonly retries: readonly { readonly node: number; readonly mapIndex: number; readonly at: number }[]
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
  const retries: Restored['retries'][number][] = []
  const running: Restored['running'][number][] = []
  for (const { node, width } of widths) {
    progress.nodes[node]!.width = width
    progress.nodes[node]!.state = 'scheduled'
  }
  const endedWhole: { node: number; state: TerminalTaskState }[] = []
  for (const row of tasks) {
    const node = progress.nodes[row.node]!
    if (row.attempt === 0 && isTerminal(row.state)) {
      endedWhole.push({ node: row.node, state: row.state })
      continue
    }
    node.state = 'scheduled'
    if (isTerminal(row.state)) {
      node.ended += 1
      node.counts[countedAs[row.state]] += 1
      node.results[Math.max(0, row.mapIndex)] = row.result
      continue
    }
    const token = row.state === 'running' ? (row.token ?? 0) : 0
    node.live.set(row.mapIndex, { attempt: row.attempt, losses: row.losses, token })
    if (token === 0) retries.push({ node: row.node, mapIndex: row.mapIndex, at: row.retryAt ?? 0 })
    else running.push({ node: row.node, mapIndex: row.mapIndex, token })
  }
  const seen = new Map<number, Set<number>>()
  for (const row of tasks) {
    if (row.attempt > 0 && row.mapIndex >= 0) seen.set(row.node, (seen.get(row.node) ?? new Set()).add(row.mapIndex))
  }
  for (const { node, state } of endedWhole) endNode(progress, node, state)
  for (const [index, node] of progress.nodes.entries()) {
    if (node.state === 'scheduled' && node.ended === node.width) endNode(progress, index, stateOfTasks(node))
  }
  progress.agenda.clear()
  return { progress, ready: [...missing(progress, seen)], retries, running }
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
