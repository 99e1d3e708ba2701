/** Workflows drawn at random, how their tasks will end, and how all of it must end by naive rules. */
import fc from 'fast-check'
import type { NodeManifest } from '../src/core/manifest.ts'
import { type TaskState, type TerminalTaskState, terminalTaskStates } from '../src/core/task-state.ts'
import { countedAs, decideTrigger, type TriggerRule, triggerRules } from '../src/core/trigger-rule.ts'

/** How the tasks of a node end, whatever the order of things: so many losses, so many failures, then this. */
export interface Fate {
  readonly losses: number
  readonly failures: number
  readonly last: 'success' | 'fatal' | 'cancelled'
}

export interface NodePlan {
  readonly upstream: readonly number[]
  readonly stage: number | undefined
  readonly rule: TriggerRule
  readonly attempts: number
  /** A list of so many items in the parameters, the result of an upstream node, or something that is no list. */
  readonly over: undefined | number | { readonly node: number } | 'no list'
  /** Task i ends as `fates[i % length]`. */
  readonly fates: readonly Fate[]
}

export const params = JSON.stringify({
  lists: Array.from({ length: 5 }, (_, n) => Array.from({ length: n }, (_, i) => i)),
})
const ref = (pointer: object) => ({ $ref: pointer })

export function node(id: number | string, more: Partial<NodeManifest> = {}): NodeManifest {
  return {
    id: String(id),
    action: 'act',
    args: {},
    upstream: [],
    rule: 'all_success',
    retry: { attempts: 1, baseMs: 10, maxMs: 1_000 },
    timeoutMs: 1_000,
    isolation: 'shared',
    ...more,
  }
}

/** Task results are `{ node, items }`; `items` has as many items as the number of the node's last digit allows. */
export const resultText = (index: number) => JSON.stringify({ node: index, items: [10, 20, 30].slice(0, index % 4) })

export function manifestOf(plan: NodePlan, index: number): NodeManifest {
  const { over } = plan
  const list =
    over === undefined
      ? {}
      : over === 'no list'
        ? { over: { not: 'a list' } }
        : typeof over === 'number'
          ? { over: ref({ from: 'param', path: ['lists', String(over)] }) }
          : { over: ref({ from: 'node', node: over.node, path: ['items'] }) }
  const args = { given: plan.upstream.map((up) => ref({ from: 'node', node: up, path: [] })) }
  return node(`n${index}`, {
    ...list,
    args: over === undefined ? args : { ...args, item: ref({ from: 'item', path: [] }) },
    upstream: plan.upstream,
    ...(plan.stage === undefined ? {} : { stage: plan.stage }),
    rule: plan.rule,
    retry: { attempts: plan.attempts, baseMs: 10, maxMs: 1_000 },
  })
}

/** Rules under which all before a node have ended when it starts, so that what it is given does not depend on order. */
export const waitsForAll: readonly TriggerRule[] = [
  'all_success',
  'all_done',
  'none_failed',
  'none_failed_min_one_success',
]

const fates: fc.Arbitrary<Fate> = fc.record({
  losses: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.constantFrom(1, 2, 10)),
  failures: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(3)),
  last: fc.oneof({ weight: 8, arbitrary: fc.constant('success' as const) }, fc.constantFrom('fatal', 'cancelled')),
})

function planArbitrary(index: number): fc.Arbitrary<NodePlan> {
  return fc
    .record({
      upstream: fc.subarray([...Array(index).keys()], { maxLength: Math.min(4, index) }),
      stage: fc.option(fc.nat(2), { nil: undefined, freq: 4 }),
      rule: fc.oneof(fc.constant<TriggerRule>('all_success'), fc.constantFrom(...triggerRules)),
      attempts: fc.integer({ min: 1, max: 3 }),
      over: fc.oneof(
        { weight: 6, arbitrary: fc.constant(undefined) },
        { weight: 3, arbitrary: fc.nat(4) },
        { weight: 1, arbitrary: fc.constant('no list' as const) },
        { weight: 2, arbitrary: fc.constant('upstream' as const) },
      ),
      fates: fc.array(fates, { minLength: 1, maxLength: 3 }),
    })
    .map(({ over, ...plan }) => {
      if (over !== 'upstream') return { ...plan, over }
      const from = plan.upstream[0]
      if (from === undefined || !waitsForAll.includes(plan.rule)) return { ...plan, over: undefined }
      return { ...plan, over: { node: from } }
    })
}

/** Stages in the order of the nodes and without a hole, as a definition can have them. */
function inStages(staged: boolean, plans: NodePlan[]): NodePlan[] {
  let last = -1
  return plans.map((plan) => {
    if (!staged || plan.stage === undefined) return { ...plan, stage: undefined }
    last = Math.max(0, last + (plan.stage === 0 ? 1 : 0))
    return { ...plan, stage: last }
  })
}

export const workflows: fc.Arbitrary<NodePlan[]> = fc
  .tuple(fc.boolean(), fc.integer({ min: 1, max: 9 }))
  .chain(([staged, size]) =>
    fc
      .tuple(...Array.from({ length: size }, (_, index) => planArbitrary(index)))
      .map((plans) => inStages(staged, plans)),
  )

/** Everything a node waits for, by definition: its edges and the whole stage before. */
export function upstreamOf(plans: readonly NodePlan[], index: number): number[] {
  const { upstream, stage } = plans[index]!
  const staged = plans.flatMap((other, at) => (stage !== undefined && other.stage === stage - 1 ? [at] : []))
  return [...new Set([...upstream, ...staged])]
}

export function decideByList(rule: TriggerRule, states: readonly (TaskState | undefined)[]) {
  const counts = {
    total: states.length,
    success: 0,
    failed: 0,
    skipped: 0,
    upstreamFailed: 0,
    cancelled: 0,
    removed: 0,
  }
  for (const state of states) if (ended(state)) counts[countedAs[state]] += 1
  return decideTrigger(rule, counts)
}

export const ended = (state: TaskState | undefined): state is TerminalTaskState =>
  (terminalTaskStates as readonly unknown[]).includes(state)

/**
 * How every node must end when nobody cancels: straight down the graph, for the ends of tasks do not depend on order.
 * Where a skip and a failure come before `all_success`, either may have come first: `found` then says which.
 */
export function expectedEnds(plans: readonly NodePlan[], found: (node: number) => TaskState): TerminalTaskState[] {
  const states: TerminalTaskState[] = []
  for (const [index, plan] of plans.entries()) {
    const ups = upstreamOf(plans, index).map((up) => states[up]!)
    const says = decideByList(plan.rule, ups)
    const either = plan.rule === 'all_success' && says === 'upstream_failed' && ups.includes('skipped')
    if (says === 'run') states.push(endOfTasks(plans, states, index))
    else states.push(says === 'skip' || (either && found(index) === 'skipped') ? 'skipped' : 'upstream_failed')
  }
  return states
}

function endOfTasks(plans: readonly NodePlan[], states: readonly TaskState[], index: number): TerminalTaskState {
  const { over, fates, attempts } = plans[index]!
  const width = widthOf(plans, states, over)
  if (width === undefined) return 'upstream_failed'
  const ends = Array.from({ length: width }, (_, at) => {
    const fate = fates[at % fates.length]!
    if (fate.losses >= 10 || fate.failures >= attempts || fate.last === 'fatal') return 'failed'
    return fate.last
  })
  if (ends.includes('failed')) return 'failed'
  return ends.includes('cancelled') ? 'cancelled' : 'success'
}

function widthOf(plans: readonly NodePlan[], states: readonly TaskState[], over: NodePlan['over']): number | undefined {
  if (over === undefined) return 1
  if (over === 'no list') return undefined
  if (typeof over === 'number') return over
  // The result of a mapped node is a list, which has no field `items`.
  if (states[over.node] !== 'success' || plans[over.node]!.over !== undefined) return undefined
  return over.node % 4
}
