/** Bugs in limits and plans that show only in what engines do to each other, or at one statement out of many. See `more-bugs.ts`. */
import type { SeededBug } from './bugs.ts'

type Simulated = Omit<SeededBug, 'scenario'>

const inLimits: readonly Simulated[] = [
  {
    name: 'an answer of before a node was taken for dead counts when it is back',
    invariant: 6,
    file: 'src/engine/limit-talk.ts',
    find: 'return this.isOld ? [] : words',
    replace: 'return words',
  },
  {
    name: 'attempts that only the rows of a run know of hold nothing once it was read again',
    invariant: 6,
    file: 'src/engine/limit-talk.ts',
    find: 'if (!kept.has(token) && !this.parts.runs(token)) this.lines',
    replace: 'if (!this.parts.runs(token)) this.lines',
  },
  {
    name: 'a start that was never written keeps what it needs',
    invariant: 6,
    file: 'src/engine/limit-talk.ts',
    find: 'if (!kept.has(token) && !this.parts.runs(token)) this.lines',
    replace: 'if (kept.has(token) && !this.parts.runs(token)) this.lines',
  },
  {
    name: 'the priority of a task goes before that of its run',
    invariant: 6,
    file: 'src/engine/limit-talk.ts',
    find: 'priority: run.row.priority * 10_000 + priority',
    replace: 'priority: run.row.priority + priority * 10_000',
  },
  {
    name: 'the least urgent runs take their turns first',
    invariant: 6,
    file: 'src/engine/turns.ts',
    find: 'sort(([one], [other]) => other - one)',
    replace: 'sort(([one], [other]) => one - other)',
  },
]

const inPlans: readonly Simulated[] = [
  {
    name: 'a plan with more ticks than a transaction takes is looked at next by the clock',
    invariant: 10,
    file: 'src/engine/fire-plans.ts',
    find: 'due.length < most.ofPlan ? now : since)',
    replace: 'now)',
  },
  {
    name: 'plans that found no room in a transaction wait for their next tick',
    invariant: 10,
    file: 'src/engine/fire-plans.ts',
    find: 'if (!cursor || ticks.length >= most.ofAll) continue',
    replace: `if (cursor && ticks.length >= most.ofAll) seen.set(entry, nextTick(entry.schedule, now) ?? now)
    if (!cursor || ticks.length >= most.ofAll) continue`,
  },
  {
    name: 'records of which none started a run are taken again',
    invariant: 10,
    file: 'src/engine/record-plans.ts',
    find: 'await moveTopicCursors(session, plan, cursors)',
    replace: 'if (runs.length > 0 || starts.length === 0) await moveTopicCursors(session, plan, cursors)',
  },
  {
    name: 'what comes again under another id has a run of its own when that id comes again',
    invariant: 10,
    file: 'src/store/hook-deliveries.ts',
    find: 'if (earlier !== undefined) await session.execute(repointStatement',
    replace: "if (earlier === '') await session.execute(repointStatement",
  },
]

export const simulatedBugs: readonly SeededBug[] = [...inLimits, ...inPlans].map((bug) => ({
  ...bug,
  scenario: 'simulation',
}))
