/** How tasks and nodes end, and what is to be looked at again because of it. */
import type { Decision, NodeProgress, RunProgress, Transition } from './run-progress.ts'
import type { TerminalTaskState } from './task-state.ts'
import { countedAs } from './trigger-rule.ts'

/** Whether nothing of the node may start any more. What was set up is torn down also when the run is stopped. */
export function isStopped(run: RunProgress, node: number): boolean {
  return run.stopping !== undefined && run.graph.nodes[node]!.teardownOf === undefined
}

/** Counts the end of a node and puts the gates on the agenda behind which a rule may say something else now. */
export function endNode(run: RunProgress, node: number, state: TerminalTaskState): void {
  run.nodes[node]!.state = state
  run.openNodes -= 1
  const chooses = run.graph.nodes[node]!.kind === 'branch'
  for (const gate of run.graph.countsIn[node]!) {
    const counts = run.gates[gate]!
    counts[countedAs[state]] += 1
    counts.ended += 1
    // Of 100 nodes before a stage only the last good end can matter, unless a rule decides early or an arm is not chosen.
    const last = counts.ended === run.graph.gates[gate]
    if (state !== 'success' || last || chooses || run.graph.decidesEarly[gate]) run.agenda.add(gate)
  }
}

/** A task that was started ends. */
export function endTask(
  run: RunProgress,
  transition: Transition & { to: TerminalTaskState },
  decision: Decision,
): void {
  const progress = run.nodes[transition.node]!
  decision.transitions.push(transition)
  progress.live.delete(transition.mapIndex)
  progress.results[Math.max(0, transition.mapIndex)] ??= null
  progress.ended += 1
  progress.counts[countedAs[transition.to]] += 1
  if (isStopped(run, transition.node) ? progress.live.size === 0 : progress.ended === progress.width) {
    leaveCleared(run, transition.node, 'cancelled', decision)
    endNode(run, transition.node, stateOfTasks(progress))
  }
}

/** Tasks of a mapped node that were cleared and will not start again end where the node ends. */
export function leaveCleared(run: RunProgress, node: number, to: 'cancelled' | 'removed', decision: Decision): void {
  const { bases, results, live } = run.nodes[node]!
  for (const [mapIndex, attempt] of bases) {
    if (mapIndex < 0 || results[mapIndex] !== undefined || live.has(mapIndex)) continue
    decision.transitions.push({ node, mapIndex, attempt, from: 'none', to, token: 0, losses: 0 })
  }
  bases.clear()
}

/** A node ends without any of its tasks having started: one row stands for all of them. */
export function endUnstarted(
  run: RunProgress,
  node: number,
  end: { readonly state: TerminalTaskState; readonly error?: string | undefined; readonly result?: string },
  decision: Decision,
): void {
  const base = run.nodes[node]!.bases.get(-1) ?? 0
  leaveCleared(run, node, 'removed', decision)
  decision.transitions.push({
    ...{ node, mapIndex: -1, attempt: base, from: 'none', to: end.state, token: 0, losses: 0 },
    ...(end.error === undefined ? {} : { error: end.error }),
    ...(end.result === undefined ? {} : { result: end.result }),
  })
  if (end.result !== undefined) run.nodes[node]!.results[0] = end.result
  endNode(run, node, end.state)
}

/** How a node ends whose tasks have ended, or will not start any more. */
export function stateOfTasks({ counts, ended, width }: NodeProgress): TerminalTaskState {
  if (counts.failed > 0) return 'failed'
  if (counts.cancelled > 0 || ended < width) return 'cancelled'
  return counts.skipped > 0 && counts.success === 0 ? 'skipped' : 'success'
}
