/**
 * A run is stopped: nothing starts any more but teardowns, what waits ends as cancelled, what runs is told to stop and ends
 * when it has.
 */
import { endNode, endUnstarted, leaveCleared, stateOfTasks } from './node-ends.ts'
import type { Decision, RunProgress } from './run-progress.ts'
import { isTerminal } from './task-state.ts'

export function stopRun(run: RunProgress, why: 'cancel' | 'limit', decision: Decision): void {
  if (run.stopping !== undefined) return
  run.stopping = why
  run.state = 'running'
  for (const [node, progress] of run.nodes.entries()) {
    if (isTerminal(progress.state)) continue
    // Ends with what is before it, which this loop stops.
    if (run.graph.nodes[node]!.teardownOf !== undefined) continue
    stopTasks(run, node, decision)
    if (progress.live.size > 0) continue
    if (progress.ended === 0) endUnstarted(run, node, { state: 'cancelled' }, decision)
    else {
      leaveCleared(run, node, 'cancelled', decision)
      endNode(run, node, stateOfTasks(progress))
    }
  }
}

function stopTasks(run: RunProgress, node: number, decision: Decision): void {
  const progress = run.nodes[node]!
  for (const [mapIndex, live] of [...progress.live]) {
    const { attempt, losses, token, deferred } = live
    if (token !== 0) decision.kill.push({ node, mapIndex, token })
    else if (deferred && run.graph.nodes[node]!.kind === 'workflow') decision.stop.push({ node, mapIndex })
    else {
      progress.live.delete(mapIndex)
      progress.results[Math.max(0, mapIndex)] ??= null
      progress.ended += 1
      progress.counts.cancelled += 1
      const from = deferred ? 'deferred' : 'up_for_retry'
      decision.transitions.push({ node, mapIndex, attempt, from, to: 'cancelled', token: 0, losses })
    }
  }
}
