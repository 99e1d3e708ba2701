/** What a simulation of plans plays, drawn from a seed: plain data, so that it can be printed, replayed and made smaller. */
import type { CatchUpPolicy } from '../../../src/core/catch-up.ts'
import { Draw } from '../draw.ts'

/** A plan by the clock: every so many milliseconds, or by a pattern of `patterns`. */
export interface SimClock {
  readonly everyMs?: number
  /** Of an interval: when its first tick is, from the beginning on. */
  readonly startMs?: number
  readonly pattern?: keyof typeof patterns
  readonly zone: 'UTC' | 'Asia/Kolkata'
  readonly catchUp: CatchUpPolicy
  /** Its parameters are none of the workflow's. */
  readonly unfit: boolean
}

export interface PlanCase {
  readonly clocks: readonly SimClock[]
  /** A plan for the records of a topic. */
  readonly topic?: {
    readonly partitions: number
    readonly onlyGood: boolean
    readonly batch?: { readonly records: number; readonly withinMs: number }
  }
  /** A plan for versions of datasets. */
  readonly datasets?: { readonly names: readonly string[]; readonly when: 'all' | 'any' }
  readonly hook: boolean
  readonly engines: number
  /** What is handled in one transaction, and how many missed ticks are caught up with. */
  readonly most: {
    readonly ofPlan: number
    readonly ofAll: number
    readonly caughtUp: number
    readonly records: number
  }
  readonly steps: number
  readonly faults: {
    /** Engines that die, wherever they are. */
    readonly crashes: number
    /** Statements that fail, commits that are done and whose answers are lost. */
    readonly cuts: number
    readonly pauses: number
    /** Times in which nobody is at work, in seconds at most. */
    readonly outages: number
    /** Runs that somebody started for the time of a tick. */
    readonly rivals: number
    /** Notifications that never come. */
    readonly deaf: boolean
  }
  readonly course: number
}

/** Patterns, and which minutes of a day they mean. */
export const patterns = {
  '*/7 * * * *': (minute: number) => (minute % 60) % 7 === 0,
  '5,35 * * * *': (minute: number) => minute % 60 === 5 || minute % 60 === 35,
  '0 */2 * * *': (minute: number) => minute % 120 === 0,
  '30 13 * * *': (minute: number) => minute === 13 * 60 + 30,
} as const

/** The clock of a simulation begins here. */
export const began = Date.UTC(2026, 1, 3, 12, 0, 0)

export function drawPlanCase(seed: number): PlanCase {
  const draw = new Draw(seed ^ 0x7a3d)
  const rough = draw.chance(0.75)
  const about = draw.below(5)
  const events = draw.chance(0.3) ? 7 : 1 << (about % 4)
  return {
    clocks: about === 4 || draw.chance(0.6) ? Array.from({ length: 1 + draw.below(3) }, () => clockOf(draw)) : [],
    ...((events & 1) > 0 ? { topic: topicOf(draw) } : {}),
    ...((events & 2) > 0 ? { datasets: datasetsOf(draw) } : {}),
    hook: (events & 4) > 0,
    engines: 1 + draw.below(3),
    most: {
      ...{ ofPlan: 1 + draw.below(4), ofAll: 2 + draw.below(5), caughtUp: 1 + draw.below(5) },
      records: 2 + draw.below(6),
    },
    steps: 30 + draw.below(90),
    faults: {
      ...{ crashes: rough ? draw.below(3) : 0, cuts: rough ? draw.below(3) : 0 },
      ...{ pauses: draw.chance(0.3) ? 1 + draw.below(2) : 0, outages: draw.chance(0.5) ? 1 + draw.below(2) : 0 },
      ...{ rivals: draw.chance(0.15) ? 1 : 0, deaf: draw.chance(0.4) },
    },
    course: draw.below(2 ** 31),
  }
}

function clockOf(draw: Draw): SimClock {
  const shared = { catchUp: draw.pick(['all', 'last', 'none'] as const), unfit: draw.chance(0.1) }
  if (draw.chance(0.4))
    return {
      ...shared,
      pattern: draw.pick(Object.keys(patterns) as (keyof typeof patterns)[]),
      zone: draw.pick(['UTC', 'Asia/Kolkata']),
    }
  return {
    ...{ ...shared, zone: 'UTC', everyMs: draw.pick([20_000, 60_000, 90_000, 600_000]) },
    ...(draw.chance(0.4) ? { startMs: draw.pick([-30_000, 0, 7_000, 100_000]) } : {}),
  }
}

function topicOf(draw: Draw): NonNullable<PlanCase['topic']> {
  return {
    ...{ partitions: 1 + draw.below(2), onlyGood: draw.chance(0.4) },
    ...(draw.chance(0.6) ? { batch: { records: 1 + draw.below(4), withinMs: draw.pick([1_000, 45_000]) } } : {}),
  }
}

function datasetsOf(draw: Draw): NonNullable<PlanCase['datasets']> {
  return { names: draw.pick([['a'], ['a', 'b'], ['b', 'a']]), when: draw.pick(['all', 'any']) }
}
