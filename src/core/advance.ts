/**
 * What follows from an event in a run. `advance` is deterministic: the same progress, event, time and
 * randomness give the same decision. It moves the progress on in place, since copying a graph of 10,000 nodes for each
 * event would cost more than the rest of the engine; what it returns leaves the engine only after it is committed, and a
 * run whose commit is refused is thrown away and read again.
 *
 * 1. A node is released at most once; its tasks start only after that.
 * 2. At most one attempt of a task is live; an end counts only with the token of that attempt.
 * 3. Ends are final: no event changes a task that has ended.
 * 4. The run ends when every node has ended, and then nothing is live.
 */
import { nextAfterLoss, nextAttempt } from './retry.ts'
import {
  type Counts,
  type Decision,
  type LiveTask,
  listOf,
  type NodeProgress,
  noCounts,
  type Outcome,
  type RunEvent,
  type RunProgress,
  type Transition,
} from './run-progress.ts'
import { isTerminal, type TerminalTaskState } from './task-state.ts'
import { countedAs, decideTrigger } from './trigger-rule.ts'

/** Most tasks a mapped node can have. */
export const maxWidth = 1_000_000
export function advance(run: RunProgress, event: RunEvent, now: number, random: () => number): Decision {
  const decision: Decision = { transitions: [], ready: [], expanded: [], retries: [], kill: [], end: undefined }
  if (run.state !== 'queued' && run.state !== 'running') return decision
  if (event.kind === 'begin') begin(run, decision)
  else if (event.kind === 'cancel') cancel(run, decision)
  else endAttempt(run, event, now, random, decision)
  // No recursion: a chain of 20,000 nodes may fall in one event. A gate is looked at again when it has changed since:
  // 10,000 nodes that fall together before a stage of 10,000 are one look, not 100 million.
  for (const gate of run.agenda) {
    run.agenda.delete(gate)
    for (const node of run.graph.opens[gate]!) consider(run, node, decision)
  }
  if (run.openNodes === 0) {
    const end = judge(run)
    run.state = end.state
    decision.end = end
  }
  return decision
}

/** A task starts: gives its transition, or nothing when it must not (it has ended, or an attempt is live). */
export function startTask(run: RunProgress, node: number, mapIndex: number, token: number): Transition | undefined {
  const progress = run.nodes[node]!
  if (progress.state !== 'scheduled' || run.cancelRequested) return undefined
  const live = progress.live.get(mapIndex)
  if (live === undefined) {
    if (progress.results[Math.max(0, mapIndex)] !== undefined) return undefined
    progress.live.set(mapIndex, { attempt: 1, losses: 0, token })
    return { node, mapIndex, attempt: 1, from: 'none', to: 'running', token, losses: 0 }
  }
  if (live.token !== 0) return undefined
  live.attempt += 1
  live.token = token
  return { node, mapIndex, attempt: live.attempt, from: 'up_for_retry', to: 'running', token, losses: live.losses }
}
function begin(run: RunProgress, decision: Decision): void {
  run.state = 'running'
  for (let node = 0; node < run.nodes.length; node += 1) consider(run, node, decision)
}

/** Releases a node, or ends it, if its rule says so by now. */
function consider(run: RunProgress, node: number, decision: Decision): void {
  const progress = run.nodes[node]!
  if (progress.state !== 'none') return
  const verdict = decideTrigger(run.graph.nodes[node]!.rule, upstreamCounts(run, node))
  if (verdict === 'wait') return
  if (verdict === 'run') release(run, node, decision)
  else endUnstarted(run, node, verdict === 'skip' ? 'skipped' : 'upstream_failed', undefined, decision)
}

function upstreamCounts(run: RunProgress, node: number): Counts & { total: number } {
  const sum = { ...noCounts(), total: 0 }
  for (const gate of run.graph.waitsFor[node]!) {
    const counts = run.gates[gate]!
    sum.total += run.graph.gates[gate]!
    for (const kind of Object.values(countedAs)) sum[kind] += counts[kind]
  }
  return sum
}

function release(run: RunProgress, node: number, decision: Decision): void {
  const progress = run.nodes[node]!
  if (run.graph.nodes[node]!.over === undefined) {
    progress.state = 'scheduled'
    decision.ready.push({ node, first: -1, last: -1 })
    return
  }
  const list = listOf(run, node)
  if (list === undefined || list.length > maxWidth) {
    const found = list === undefined ? 'what it maps over is no list' : `its list has ${list.length} items`
    endUnstarted(run, node, 'upstream_failed', `${found}; a list of at most ${maxWidth} items is needed`, decision)
    return
  }
  progress.state = 'scheduled'
  progress.width = list.length
  decision.expanded.push({ node, width: list.length })
  if (list.length === 0) endNode(run, node, 'success')
  else decision.ready.push({ node, first: 0, last: list.length - 1 })
}

/** A node ends without any of its tasks having started: one row stands for all of them. */
function endUnstarted(
  run: RunProgress,
  node: number,
  state: TerminalTaskState,
  error: string | undefined,
  decision: Decision,
): void {
  const plain = { node, mapIndex: -1, attempt: 0, from: 'none', to: state, token: 0, losses: 0 } as const
  decision.transitions.push(error === undefined ? plain : { ...plain, error })
  endNode(run, node, state)
}

/** Counts the end of a node and puts the gates on the agenda behind which a rule may say something else now. */
export function endNode(run: RunProgress, node: number, state: TerminalTaskState): void {
  run.nodes[node]!.state = state
  run.openNodes -= 1
  for (const gate of run.graph.countsIn[node]!) {
    const counts = run.gates[gate]!
    counts[countedAs[state]] += 1
    counts.ended += 1
    // Of 100 nodes before a stage only the last good end can matter, unless a rule decides early.
    if (state !== 'success' || counts.ended === run.graph.gates[gate] || run.graph.decidesEarly[gate]) {
      run.agenda.add(gate)
    }
  }
}

function endAttempt(
  run: RunProgress,
  event: RunEvent & { kind: 'ended' },
  now: number,
  random: () => number,
  decision: Decision,
): void {
  const progress = run.nodes[event.node]
  const live = progress?.live.get(event.mapIndex)
  if (!progress || !live || live.token === 0 || live.token !== event.token) return
  const { outcome } = event
  const base = {
    node: event.node,
    mapIndex: event.mapIndex,
    attempt: live.attempt,
    from: 'running',
    token: live.token,
  } as const
  if (outcome.kind === 'success') {
    progress.results[Math.max(0, event.mapIndex)] = outcome.result
    endTask(run, { ...base, to: 'success', losses: live.losses, result: outcome.stored ?? outcome.result }, decision)
    return
  }
  const error =
    outcome.kind === 'cancelled'
      ? 'CANCELLED: it was cancelled'
      : outcome.kind === 'lost'
        ? `RUNNER_LOST: ${outcome.reason}`
        : `${outcome.error.code}: ${outcome.error.message}`
  if (run.cancelRequested || outcome.kind === 'cancelled') {
    endTask(run, { ...base, to: 'cancelled', losses: live.losses, error }, decision)
    return
  }
  const next = nextTry(run, event.node, live, outcome, now, random)
  if (next === 'exhausted') {
    endTask(run, { ...base, to: 'failed', losses: live.losses, error }, decision)
    return
  }
  live.token = 0
  decision.transitions.push({ ...base, to: 'up_for_retry', losses: live.losses, error, retryAt: next.retryAt })
  decision.retries.push({ node: event.node, mapIndex: event.mapIndex, at: next.retryAt })
}

function nextTry(
  run: RunProgress,
  node: number,
  live: LiveTask,
  outcome: Extract<Outcome, { kind: 'failure' | 'lost' }>,
  now: number,
  random: () => number,
) {
  if (outcome.kind === 'lost') {
    live.losses += 1
    return nextAfterLoss(live.losses, now, random)
  }
  if (!outcome.error.retryable) return 'exhausted'
  const { retry } = run.graph.nodes[node]!
  return nextAttempt(retry, live.attempt - live.losses, now, random, outcome.error.retryAfterMs)
}

function endTask(run: RunProgress, transition: Transition & { to: TerminalTaskState }, decision: Decision): void {
  const progress = run.nodes[transition.node]!
  decision.transitions.push(transition)
  progress.live.delete(transition.mapIndex)
  progress.results[Math.max(0, transition.mapIndex)] ??= null
  progress.ended += 1
  progress.counts[countedAs[transition.to]] += 1
  if (run.cancelRequested ? progress.live.size === 0 : progress.ended === progress.width) {
    endNode(run, transition.node, stateOfTasks(progress))
  }
}

/** How a node ends whose tasks have ended, or will not start any more. */
export function stateOfTasks({ counts, ended, width }: NodeProgress): TerminalTaskState {
  if (counts.failed > 0) return 'failed'
  return counts.cancelled > 0 || ended < width ? 'cancelled' : 'success'
}

/** Nothing starts any more; what waits ends as cancelled, what runs is told to stop and ends when it has. */
function cancel(run: RunProgress, decision: Decision): void {
  if (run.cancelRequested) return
  run.cancelRequested = true
  run.state = 'running'
  for (const [node, progress] of run.nodes.entries()) {
    if (isTerminal(progress.state)) continue
    for (const [mapIndex, live] of [...progress.live]) {
      if (live.token !== 0) {
        decision.kill.push({ node, mapIndex, token: live.token })
        continue
      }
      progress.live.delete(mapIndex)
      progress.ended += 1
      progress.counts.cancelled += 1
      decision.transitions.push({
        node,
        mapIndex,
        attempt: live.attempt,
        from: 'up_for_retry',
        to: 'cancelled',
        token: 0,
        losses: live.losses,
      })
    }
    if (progress.live.size > 0) continue
    if (progress.ended === 0) endUnstarted(run, node, 'cancelled', undefined, decision)
    else endNode(run, node, stateOfTasks(progress))
  }
}

function judge(run: RunProgress): { state: 'success' | 'failed' | 'cancelled'; error: string | undefined } {
  if (run.cancelRequested) return { state: 'cancelled', error: undefined }
  const bad = run.graph.leaves.filter((leaf) => !['success', 'skipped'].includes(run.nodes[leaf]!.state))
  if (bad.length === 0) return { state: 'success', error: undefined }
  const failed = namesIn(run, 'failed')
  return {
    state: 'failed',
    error: failed === '' ? `could not start: ${namesIn(run, 'upstream_failed')}` : `failed: ${failed}`,
  }
}

/** The first five names of nodes in a state. */
function namesIn(run: RunProgress, state: TerminalTaskState): string {
  const names = run.nodes.flatMap((node, index) => (node.state === state ? [run.graph.nodes[index]!.id] : []))
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
}
