/**
 * Whether a task may start, by the ends of the tasks before it. Names and meaning are those of Apache Airflow's trigger
 * rules (TriggerRuleDep), decided as early as Airflow decides them.
 *
 * 1. Only counts matter, never which task ended how.
 * 2. `run` is decided only when no later end could forbid it, so `run` never changes; neither does `wait` come back.
 * 3. `skip` and `upstream_failed` never become `run`. One pair depends on the order of ends: under `all_success`, a skip
 *    that is followed by a failure would be told as `upstream_failed`; whoever decides keeps the first answer.
 * 4. A cancelled task counts as failed. A removed one counts as if it had never been there.
 * 5. A task with nothing before it runs under every rule.
 */
import type { TerminalTaskState } from './task-state.ts'

/** How many tasks are before this one, and how many of them ended in which state. Absent states count 0. */
export interface UpstreamCounts {
  readonly total: number
  readonly success: number
  readonly failed: number
  readonly skipped: number
  readonly upstreamFailed: number
  readonly cancelled: number
  readonly removed?: number
}

export type TriggerDecision = 'wait' | 'run' | 'skip' | 'upstream_failed'

/** The counts in the terms of the rules; `bad` is failed or cancelled itself, `blocked` had something bad before it. */
interface Ends {
  readonly total: number
  readonly open: number
  readonly success: number
  readonly bad: number
  readonly blocked: number
  readonly skipped: number
}

interface TriggerRuleRow {
  readonly rule: string
  readonly says: string
  readonly decide: (ends: Ends) => TriggerDecision
}

/** Every rule, the default first. */
export const triggerRuleTable = [
  {
    rule: 'all_success',
    says: 'all before it succeeded',
    decide: (e) => (e.bad + e.blocked > 0 ? 'upstream_failed' : e.skipped > 0 ? 'skip' : e.open > 0 ? 'wait' : 'run'),
  },
  {
    rule: 'all_done',
    says: 'all before it ended, however',
    decide: (e) => (e.open > 0 ? 'wait' : 'run'),
  },
  {
    rule: 'all_failed',
    says: 'all before it failed or had a failure before them',
    decide: (e) => (e.success + e.skipped > 0 ? 'skip' : e.open > 0 ? 'wait' : 'run'),
  },
  {
    rule: 'one_success',
    says: 'one before it succeeded; it does not wait for the others',
    decide: (e) => (e.success > 0 ? 'run' : e.open > 0 ? 'wait' : e.skipped === e.total ? 'skip' : 'upstream_failed'),
  },
  {
    rule: 'one_failed',
    says: 'one before it failed or had a failure before it; it does not wait for the others',
    decide: (e) => (e.bad + e.blocked > 0 ? 'run' : e.open > 0 ? 'wait' : 'skip'),
  },
  {
    rule: 'one_done',
    says: 'one before it succeeded or failed; it does not wait for the others',
    decide: (e) => (e.success + e.bad > 0 ? 'run' : e.open > 0 ? 'wait' : 'skip'),
  },
  {
    rule: 'none_failed',
    says: 'all before it succeeded or were skipped',
    decide: (e) => (e.bad + e.blocked > 0 ? 'upstream_failed' : e.open > 0 ? 'wait' : 'run'),
  },
  {
    rule: 'none_failed_min_one_success',
    says: 'all before it succeeded or were skipped, and one succeeded',
    decide: (e) => (e.bad + e.blocked > 0 ? 'upstream_failed' : e.open > 0 ? 'wait' : e.success === 0 ? 'skip' : 'run'),
  },
  {
    rule: 'none_skipped',
    says: 'all before it ended and none was skipped',
    decide: (e) => (e.skipped > 0 ? 'skip' : e.open > 0 ? 'wait' : 'run'),
  },
  {
    rule: 'always',
    says: 'at once',
    decide: () => 'run',
  },
] as const satisfies readonly TriggerRuleRow[]

export type TriggerRule = (typeof triggerRuleTable)[number]['rule']

export const triggerRules: readonly TriggerRule[] = triggerRuleTable.map((row) => row.rule)

export const defaultTriggerRule: TriggerRule = 'all_success'

const decisions: ReadonlyMap<TriggerRule, (ends: Ends) => TriggerDecision> = new Map(
  triggerRuleTable.map((row) => [row.rule, row.decide]),
)

/** The field of the counts in which an end is counted. */
export const countedAs = {
  success: 'success',
  failed: 'failed',
  skipped: 'skipped',
  upstream_failed: 'upstreamFailed',
  cancelled: 'cancelled',
  removed: 'removed',
} as const satisfies Record<TerminalTaskState, keyof UpstreamCounts>

/** What the rule says now. Counts are whole numbers whose sum over the ends is at most `total`. */
export function decideTrigger(rule: TriggerRule, counts: UpstreamCounts): TriggerDecision {
  if (counts.total === 0) return 'run'
  const total = counts.total - (counts.removed ?? 0)
  const bad = counts.failed + counts.cancelled
  const open = total - counts.success - bad - counts.skipped - counts.upstreamFailed
  return decisions.get(rule)!({
    total,
    open,
    success: counts.success,
    bad,
    blocked: counts.upstreamFailed,
    skipped: counts.skipped,
  })
}
