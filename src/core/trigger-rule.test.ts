import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type TerminalTaskState, terminalTaskStates } from './task-state.ts'
import {
  countedAs,
  decideTrigger,
  defaultTriggerRule,
  type TriggerDecision,
  type TriggerRule,
  triggerRules,
  triggerRuleTable,
  type UpstreamCounts,
} from './trigger-rule.ts'

type Upstream = TerminalTaskState | 'unfinished'

const upstreams = fc.array(fc.constantFrom<Upstream>('unfinished', ...terminalTaskStates), { maxLength: 7 })
const rules = fc.constantFrom(...triggerRules)

function countsOf(states: readonly Upstream[]): UpstreamCounts {
  const counts = {
    total: states.length,
    success: 0,
    failed: 0,
    skipped: 0,
    upstreamFailed: 0,
    cancelled: 0,
    removed: 0,
  }
  for (const state of states) if (state !== 'unfinished') counts[countedAs[state]] += 1
  return counts
}

const decide = (rule: TriggerRule, states: readonly Upstream[]) => decideTrigger(rule, countsOf(states))

/** The rules over the list of states itself, as the documentation of Airflow words them. */
function byList(rule: TriggerRule, all: readonly Upstream[]): TriggerDecision {
  const states = all.filter((state) => state !== 'removed').map((state) => (state === 'cancelled' ? 'failed' : state))
  const some = (...wanted: Upstream[]) => states.some((state) => wanted.includes(state))
  const every = (...wanted: Upstream[]) => states.every((state) => wanted.includes(state))
  const done = !states.includes('unfinished')
  const orWait = (decision: TriggerDecision): TriggerDecision => (done ? decision : 'wait')
  if (all.length === 0) return 'run'
  switch (rule) {
    case 'all_success':
      if (every('success')) return 'run'
      if (some('failed', 'upstream_failed')) return 'upstream_failed'
      return some('skipped') ? 'skip' : 'wait'
    case 'all_done':
      return orWait('run')
    case 'all_failed':
      if (every('failed', 'upstream_failed')) return 'run'
      return some('success', 'skipped') ? 'skip' : 'wait'
    case 'one_success':
      if (some('success')) return 'run'
      return orWait(every('skipped') ? 'skip' : 'upstream_failed')
    case 'one_failed':
      return some('failed', 'upstream_failed') ? 'run' : orWait('skip')
    case 'one_done':
      return some('success', 'failed') ? 'run' : orWait('skip')
    case 'none_failed':
      return some('failed', 'upstream_failed') ? 'upstream_failed' : orWait('run')
    case 'none_failed_min_one_success':
      if (some('failed', 'upstream_failed')) return 'upstream_failed'
      return orWait(some('success') ? 'run' : 'skip')
    case 'none_skipped':
      return some('skipped') ? 'skip' : orWait('run')
    case 'always':
      return 'run'
  }
}

describe('decideTrigger', () => {
  it('says what the same rules say over the list of states, for every list of up to three', () => {
    const one: readonly Upstream[] = ['unfinished', ...terminalTaskStates]
    const lists: Upstream[][] = [[], ...one.map((a) => [a])]
    for (const a of one) for (const b of one) lists.push([a, b], ...one.map((c) => [a, b, c]))
    for (const rule of triggerRules) {
      for (const list of lists) expect(decide(rule, list), `${rule} of ${list}`).toBe(byList(rule, list))
    }
  })

  it('says the same for longer lists', () => {
    fc.assert(fc.property(rules, upstreams, (rule, list) => decide(rule, list) === byList(rule, list)))
  })

  it('never takes a decision back when more end', () => {
    fc.assert(
      fc.property(
        rules,
        upstreams,
        fc.array(fc.constantFrom(...terminalTaskStates), { maxLength: 7 }),
        (rule, list, ends) => {
          const before = decide(rule, list)
          const after = decide(
            rule,
            list.map((state, index) => (state === 'unfinished' ? (ends[index] ?? state) : state)),
          )
          const skipThenFailure = rule === 'all_success' && before === 'skip' && after === 'upstream_failed'
          expect(before === 'wait' || after === before || skipThenFailure, `${before} became ${after}`).toBe(true)
        },
      ),
      { numRuns: 1_000 },
    )
  })

  it('decides when all have ended', () => {
    fc.assert(
      fc.property(
        rules,
        upstreams,
        (rule, list) =>
          decide(
            rule,
            list.filter((state) => state !== 'unfinished'),
          ) !== 'wait',
      ),
    )
  })

  it('lets a task with nothing before it run, whatever its rule', () => {
    for (const rule of triggerRules) expect(decide(rule, [])).toBe('run')
  })

  it('takes absent removed tasks as none', () => {
    const counts = { total: 1, success: 1, failed: 0, skipped: 0, upstreamFailed: 0, cancelled: 0 }
    expect(decideTrigger('all_success', counts)).toBe('run')
  })
})

describe('the table of rules', () => {
  it('has each rule once, the default first, with what it says', () => {
    expect(new Set(triggerRules).size).toBe(10)
    expect(triggerRules[0]).toBe(defaultTriggerRule)
    for (const row of triggerRuleTable) expect(row.says).not.toBe('')
  })
})
