/**
 * What follows from the end of an attempt, and from what a deferred task waited for.
 *
 * 1. An end counts only with the token of the live attempt; an answer only for the wait that it answers.
 * 2. Losses and waits are no failures: the policy of retries counts neither.
 * 3. Once the time limit of a task has passed, only a success is not its failure.
 */
import { timeText } from './consider.ts'
import { endTask, isStopped } from './node-ends.ts'
import { nextAfterLoss, nextAttempt } from './retry.ts'
import type { AttemptError, Decision, LiveTask, Outcome, RunEvent, RunProgress, Transition } from './run-progress.ts'

type Of<Kind extends RunEvent['kind']> = Extract<RunEvent, { kind: Kind }>
interface Chance {
  readonly now: number
  readonly random: () => number
}

export function endAttempt(run: RunProgress, event: Of<'ended'>, chance: Chance, decision: Decision): void {
  const live = run.nodes[event.node]?.live.get(event.mapIndex)
  if (!live || live.token === 0 || live.token !== event.token) return
  settle(run, event, live, event.outcome, chance, decision)
}

/** What a deferred task of the engine waited for has come. */
export function resume(run: RunProgress, event: Of<'resumed'>, chance: Chance, decision: Decision): void {
  const live = run.nodes[event.node]?.live.get(event.mapIndex)
  if (!live?.deferred || live.attempt !== event.attempt || waitsForRunner(run, event.node)) return
  settle(run, event, live, event.outcome, chance, decision)
}

/** A timer has come to its end, or the deadline of an approval has passed. */
export function due(run: RunProgress, event: Of<'due'>, chance: Chance, decision: Decision): void {
  const live = run.nodes[event.node]?.live.get(event.mapIndex)
  if (!live?.deferred || live.attempt !== event.attempt) return
  const { kind, approval } = run.graph.nodes[event.node]!
  if (kind === 'wait') {
    settle(run, event, live, { kind: 'success', result: timeText(chance.now) }, chance, decision)
  } else if (approval !== undefined) {
    settle(run, event, live, atDeadline(approval.onDeadline), chance, decision)
  }
}

function atDeadline(then: 'fail' | 'skip' | 'approve'): Outcome {
  if (then === 'approve') return { kind: 'success', result: JSON.stringify({ approved: true, by: null, form: null }) }
  if (then === 'skip') return { kind: 'skipped', reason: 'nobody answered before the deadline' }
  const message = 'nobody answered before the deadline of the approval'
  return { kind: 'failure', error: { code: 'TIMEOUT', message, retryable: false } }
}

const passed: AttemptError = { code: 'TIMEOUT', message: 'the time limit of the task has passed', retryable: false }

/** The time limit of a task over all its attempts has passed: what runs is stopped and ends as failed. */
export function passLimit(run: RunProgress, event: Of<'task-limit'>, chance: Chance, decision: Decision): void {
  const { node, mapIndex } = event
  const live = run.nodes[node]?.live.get(mapIndex)
  if (!live || live.late) return
  live.late = true
  if (live.token !== 0) decision.kill.push({ node, mapIndex, token: live.token })
  else if (live.deferred && run.graph.nodes[node]!.kind === 'workflow') decision.stop.push({ node, mapIndex })
  else settle(run, event, live, { kind: 'failure', error: passed }, chance, decision)
}

/** Whether a deferred task goes on in a runner, when it is time. */
function waitsForRunner(run: RunProgress, node: number): boolean {
  return (run.graph.nodes[node]!.kind ?? 'action') === 'action'
}

function settle(
  run: RunProgress,
  { node, mapIndex }: { readonly node: number; readonly mapIndex: number },
  live: LiveTask,
  outcome: Outcome,
  chance: Chance,
  decision: Decision,
): void {
  const { attempt, losses, token } = live
  const from = token === 0 ? (live.deferred ? 'deferred' : 'up_for_retry') : 'running'
  const plain = { node, mapIndex, attempt, from, token, losses } as const
  if (outcome.kind === 'success') {
    run.nodes[node]!.results[Math.max(0, mapIndex)] = outcome.result
    endTask(run, { ...plain, to: 'success', result: outcome.stored ?? outcome.result }, decision)
    return
  }
  if (live.late) endTask(run, { ...plain, to: 'failed', error: textOf({ kind: 'failure', error: passed }) }, decision)
  else if (isStopped(run, node) || outcome.kind === 'cancelled')
    endTask(run, { ...plain, to: 'cancelled', error: textOf(outcome) }, decision)
  else if (outcome.kind === 'skipped') endTask(run, { ...plain, to: 'skipped', error: outcome.reason }, decision)
  else if (outcome.kind === 'deferred') defer(plain, live, outcome, decision)
  else tryAgain(run, plain, live, outcome, chance, decision)
}

type Plain = Omit<Transition, 'to'>

function defer(
  plain: Plain,
  live: LiveTask,
  outcome: Extract<Outcome, { kind: 'deferred' }>,
  decision: Decision,
): void {
  live.waits += 1
  live.token = 0
  live.deferred = true
  const { until, wait } = outcome
  decision.transitions.push({ ...plain, to: 'deferred', waits: live.waits, retryAt: until, wait })
  decision.retries.push({ node: plain.node, mapIndex: plain.mapIndex, at: until })
}

function tryAgain(
  run: RunProgress,
  plain: Plain,
  live: LiveTask,
  outcome: Extract<Outcome, { kind: 'failure' | 'lost' }>,
  chance: Chance,
  decision: Decision,
): void {
  const error = textOf(outcome)
  const next = nextTry(run, plain.node, live, outcome, chance)
  if (next === 'exhausted') {
    endTask(run, { ...plain, to: 'failed', losses: live.losses, error }, decision)
    return
  }
  live.token = 0
  live.deferred = false
  decision.transitions.push({ ...plain, to: 'up_for_retry', losses: live.losses, error, retryAt: next.retryAt })
  decision.retries.push({ node: plain.node, mapIndex: plain.mapIndex, at: next.retryAt })
}

function nextTry(
  run: RunProgress,
  node: number,
  live: LiveTask,
  outcome: Extract<Outcome, { kind: 'failure' | 'lost' }>,
  { now, random }: Chance,
) {
  if (outcome.kind === 'lost') {
    live.losses += 1
    return nextAfterLoss(live.losses, now, random)
  }
  const { error } = outcome
  if (!error.retryable) return 'exhausted'
  const made = live.attempt - live.base - live.losses - live.waits
  return nextAttempt(run.graph.nodes[node]!.retry, made, now, random, error)
}

function textOf(outcome: Exclude<Outcome, { kind: 'success' | 'deferred' }> | Outcome): string {
  if (outcome.kind === 'failure') return `${outcome.error.code}: ${outcome.error.message}`
  if (outcome.kind === 'lost') return `RUNNER_LOST: ${outcome.reason}`
  return 'CANCELLED: it was cancelled'
}
