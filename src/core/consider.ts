/**
 * Whether a node may begin, and how: its branches, then its rule. What needs no runner is begun or decided here.
 *
 * 1. A node in an arm of a branch waits for the branch, whatever its rule; it is skipped when another arm was chosen.
 * 2. A teardown waits for all before it and runs when what it undoes had succeeded.
 * 3. A node is released at most once.
 */
import type { WaitArgs } from './manifest.ts'
import { endNode, endUnstarted } from './node-ends.ts'
import { argumentValue, type Counts, type Decision, listOf, noCounts, type RunProgress } from './run-progress.ts'
import { isTerminal } from './task-state.ts'
import { countedAs, decideTrigger, type TriggerDecision } from './trigger-rule.ts'

/** Most tasks a mapped node can have. */
export const maxWidth = 1_000_000

/** What an approval shows at most, as JSON. */
const maxShownBytes = 64 * 1024

/** Releases a node, or ends it, if its branches and its rule say so by now. */
export function consider(run: RunProgress, node: number, now: number, decision: Decision): void {
  const progress = run.nodes[node]!
  if (progress.state !== 'none') return
  const verdict = verdictOn(run, node)
  if (verdict === 'wait') return
  if (verdict === 'run') release(run, node, now, decision)
  else endUnstarted(run, node, { state: verdict === 'skip' ? 'skipped' : 'upstream_failed' }, decision)
}

function verdictOn(run: RunProgress, node: number): TriggerDecision {
  const { arms, rule, teardownOf } = run.graph.nodes[node]!
  for (const { branch, arm } of arms ?? []) {
    const { state, results } = run.nodes[branch]!
    if (!isTerminal(state)) return 'wait'
    if (state === 'skipped' || (state === 'success' && !chosen(results[0]).includes(arm))) return 'skip'
  }
  if (teardownOf === undefined) return decideTrigger(rule, upstreamCounts(run, node))
  if (decideTrigger('all_done', upstreamCounts(run, node)) === 'wait') return 'wait'
  const { state } = run.nodes[teardownOf]!
  return state === 'success' ? 'run' : state === 'skipped' ? 'skip' : 'upstream_failed'
}

const chosen = (result: string | null | undefined): readonly string[] => JSON.parse(result ?? '[]') as string[]

function upstreamCounts(run: RunProgress, node: number): Counts & { total: number } {
  const sum = { ...noCounts(), total: 0 }
  for (const gate of run.graph.waitsFor[node]!) {
    const counts = run.gates[gate]!
    sum.total += run.graph.gates[gate]!
    for (const kind of Object.values(countedAs)) sum[kind] += counts[kind]
  }
  return sum
}

function release(run: RunProgress, node: number, now: number, decision: Decision): void {
  const progress = run.nodes[node]!
  const { kind = 'action', over } = run.graph.nodes[node]!
  if (over !== undefined) expand(run, node, decision)
  else if (kind === 'branch') branch(run, node, decision)
  else if (kind === 'wait') waitUntil(run, node, now, decision)
  else if (kind === 'approval') ask(run, node, now, decision)
  else {
    progress.state = 'scheduled'
    decision.ready.push({ node, first: -1, last: -1 })
  }
}

function expand(run: RunProgress, node: number, decision: Decision): void {
  const progress = run.nodes[node]!
  const list = listOf(run, node)
  if (list === undefined || list.length > maxWidth) {
    const found = list === undefined ? 'what it maps over is no list' : `its list has ${list.length} items`
    const error = `${found}; a list of at most ${maxWidth} items is needed`
    endUnstarted(run, node, { state: 'upstream_failed', error }, decision)
    return
  }
  progress.state = 'scheduled'
  progress.width = list.length
  decision.expanded.push({ node, width: list.length })
  for (const [mapIndex, base] of progress.bases) {
    if (mapIndex < list.length) continue
    progress.bases.delete(mapIndex)
    const plain = { node, mapIndex, attempt: base, token: 0, losses: 0 }
    decision.transitions.push({ ...plain, from: 'none', to: 'removed' })
  }
  if (list.length === 0) endNode(run, node, 'success')
  else decision.ready.push({ node, first: 0, last: list.length - 1 })
}

/** The value is the name of an arm, or a list of them; a boolean is `yes` or `no` where the arms have these names. */
function branch(run: RunProgress, node: number, decision: Decision): void {
  const { choices = [] } = run.graph.nodes[node]!
  const value = argumentValue(run, node, -1)
  const names = (Array.isArray(value) ? value : value === null || value === undefined ? [] : [value]).map((one) => {
    const name = String(one)
    if (typeof one !== 'boolean' || choices.includes(name)) return name
    return one ? 'yes' : 'no'
  })
  // `shortCircuit` has one arm: what is not true chooses nothing.
  const alone = choices.length === 1 && choices[0] === 'yes' && names.every((name) => name === 'no')
  const unknown = alone ? undefined : names.find((name) => !choices.includes(name))
  if (unknown === undefined) {
    endUnstarted(run, node, { state: 'success', result: JSON.stringify(alone ? [] : [...new Set(names)]) }, decision)
    return
  }
  const error = `DEFINITION_INVALID: it chose ${JSON.stringify(unknown).slice(0, 200)}, and has only ${choices.join(', ')}`
  endUnstarted(run, node, { state: 'failed', error }, decision)
}

function waitUntil(run: RunProgress, node: number, now: number, decision: Decision): void {
  const args = argumentValue(run, node, -1) as WaitArgs
  const at = 'forMs' in args ? now + args.forMs : timeOf(args.until)
  if (at === undefined) {
    const given = JSON.stringify(('until' in args ? args.until : args) ?? null).slice(0, 200)
    const error = `INPUT_MISMATCH: ${given} is no time; RFC 3339 or milliseconds since the epoch are`
    endUnstarted(run, node, { state: 'failed', error }, decision)
  } else if (at <= now) endUnstarted(run, node, { state: 'success', result: timeText(at) }, decision)
  else defer(run, node, { wait: JSON.stringify({ kind: 'timer', until: new Date(at).toISOString() }), at }, decision)
}

const latestTime = 8_640_000_000_000_000

function timeOf(value: unknown): number | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  const at =
    typeof value === 'number'
      ? value
      : /^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/.test(value)
        ? Date.parse(value)
        : Number.NaN
  return Number.isFinite(at) && Math.abs(at) <= latestTime ? Math.ceil(at) : undefined
}

/** The result of a wait: the time that it waited for, as JSON. */
export const timeText = (at: number): string => JSON.stringify({ at: new Date(at).toISOString() })

function ask(run: RunProgress, node: number, now: number, decision: Decision): void {
  const { deadlineMs } = run.graph.nodes[node]!.approval!
  const shown = argumentValue(run, node, -1) ?? null
  const at = deadlineMs === undefined ? undefined : now + deadlineMs
  const deadline = at === undefined ? null : new Date(at).toISOString()
  const wait = JSON.stringify({ kind: 'approval', shown, deadline })
  if (Buffer.byteLength(wait) <= maxShownBytes) defer(run, node, { wait, at }, decision)
  else {
    const error = `INPUT_MISMATCH: what the approval shows is over ${maxShownBytes} bytes as JSON; show a part of it`
    endUnstarted(run, node, { state: 'failed', error }, decision)
  }
}

/** A wait of the engine begins: it is the task's first attempt, though nothing runs. */
function defer(
  run: RunProgress,
  node: number,
  { wait, at }: { readonly wait: string; readonly at: number | undefined },
  decision: Decision,
): void {
  const progress = run.nodes[node]!
  const base = progress.bases.get(-1) ?? 0
  const attempt = base + 1
  progress.state = 'scheduled'
  progress.live.set(-1, { attempt, losses: 0, waits: 0, base, token: 0, deferred: true, late: false })
  const plain = { node, mapIndex: -1, attempt, token: 0, losses: 0, wait }
  decision.transitions.push({ ...plain, from: 'none', to: 'deferred', ...(at === undefined ? {} : { retryAt: at }) })
  if (at !== undefined) decision.due.push({ node, mapIndex: -1, attempt, at })
}
