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
import { consider } from './consider.ts'
import { isStopped } from './node-ends.ts'
import {
  type Decision,
  outputOf,
  type RunEnd,
  type RunEvent,
  type RunProgress,
  type Transition,
} from './run-progress.ts'
import { stopRun } from './stop-run.ts'
import { due, endAttempt, passLimit, resume } from './task-ends.ts'
import type { TerminalTaskState } from './task-state.ts'

/** What a run can result in, as JSON. */
export const maxOutputBytes = 1024 * 1024

export function advance(run: RunProgress, event: RunEvent, now: number, random: () => number): Decision {
  const decision = noDecision()
  if (run.state !== 'queued' && run.state !== 'running') return decision
  takeEvent(run, event, { now, random }, decision)
  // No recursion: a chain of 20,000 nodes may fall in one event. A gate is looked at again when it has changed since:
  // 10,000 nodes that fall together before a stage of 10,000 are one look, not 100 million.
  for (const gate of run.agenda) {
    run.agenda.delete(gate)
    for (const node of run.graph.opens[gate]!) consider(run, node, now, decision)
  }
  if (run.openNodes === 0) {
    const end = judge(run)
    run.state = end.state
    decision.end = end
  }
  return decision
}

const noDecision = (): Decision => ({
  transitions: [],
  ready: [],
  expanded: [],
  retries: [],
  due: [],
  kill: [],
  stop: [],
  end: undefined,
})

interface Chance {
  readonly now: number
  readonly random: () => number
}

function takeEvent(run: RunProgress, event: RunEvent, chance: Chance, decision: Decision): void {
  if (event.kind === 'begin') begin(run, chance.now, decision)
  else if (event.kind === 'cancel') stopRun(run, 'cancel', decision)
  else if (event.kind === 'run-limit') stopRun(run, 'limit', decision)
  else if (event.kind === 'ended') endAttempt(run, event, chance, decision)
  else if (event.kind === 'resumed') resume(run, event, chance, decision)
  else if (event.kind === 'due') due(run, event, chance, decision)
  else passLimit(run, event, chance, decision)
}

function begin(run: RunProgress, now: number, decision: Decision): void {
  run.state = 'running'
  for (let node = 0; node < run.nodes.length; node += 1) consider(run, node, now, decision)
}

/**
 * A task starts: gives its transition, or nothing when it must not (it has ended, or an attempt is live). A task that runs
 * another workflow is deferred from its start on, without a token.
 */
export function startTask(run: RunProgress, node: number, mapIndex: number, token: number): Transition | undefined {
  const progress = run.nodes[node]!
  if (progress.state !== 'scheduled' || isStopped(run, node)) return undefined
  let live = progress.live.get(mapIndex)
  const from = live === undefined ? 'none' : live.deferred ? 'deferred' : 'up_for_retry'
  if (live === undefined) {
    if (progress.results[Math.max(0, mapIndex)] !== undefined) return undefined
    const base = progress.bases.get(mapIndex) ?? 0
    live = { attempt: base, losses: 0, waits: 0, base, token: 0, deferred: false, late: false }
    progress.live.set(mapIndex, live)
  }
  const { kind = 'action' } = run.graph.nodes[node]!
  const inEngine = kind === 'workflow'
  if (live.token !== 0 || live.late || (kind !== 'action' && live.deferred)) return undefined
  live.attempt += 1
  live.token = inEngine ? 0 : token
  live.deferred = inEngine
  const { attempt, losses } = live
  const plain = { node, mapIndex, attempt, from, token: live.token, losses } as const
  return inEngine ? { ...plain, to: 'deferred', wait: '{"kind":"workflow"}' } : { ...plain, to: 'running' }
}

function judge(run: RunProgress): RunEnd {
  if (run.stopping === 'cancel') return { state: 'cancelled', error: undefined, result: undefined }
  if (run.stopping === 'limit') {
    const error = `TIMEOUT: the run took longer than its limit of ${run.graph.timeoutMs} ms`
    return { state: 'failed', error, result: undefined }
  }
  const bad = run.graph.leaves.filter((leaf) => !['success', 'skipped'].includes(run.nodes[leaf]!.state))
  if (bad.length === 0) return succeed(run)
  const [failed, cancelled] = [namesIn(run, 'failed'), namesIn(run, 'cancelled')]
  const ended = cancelled === '' ? `could not start: ${namesIn(run, 'upstream_failed')}` : `cancelled: ${cancelled}`
  const error = failed === '' ? ended : `failed: ${failed}`
  return { state: 'failed', error, result: undefined }
}

function succeed(run: RunProgress): RunEnd {
  const result = outputOf(run)
  const bytes = result === undefined ? 0 : Buffer.byteLength(result)
  if (bytes <= maxOutputBytes) return { state: 'success', error: undefined, result }
  const error = `OUTPUT_MISMATCH: the result of the run has ${bytes} bytes; at most ${maxOutputBytes} are kept`
  return { state: 'failed', error, result: undefined }
}

/** The first five names of nodes in a state. */
function namesIn(run: RunProgress, state: TerminalTaskState): string {
  const names = run.nodes.flatMap((node, index) => (node.state === state ? [run.graph.nodes[index]!.id] : []))
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
}
