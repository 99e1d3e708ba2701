import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { SluiceError } from '../errors.ts'
import {
  type ChosenVerdict,
  chosenVerdicts,
  clockPlanOf,
  countTicks,
  estimateOf,
  instantOf,
  judgeTicks,
  noCounts,
  paramsOfTick,
  ticksOf,
  verdicts,
} from './backfill.ts'
import type { WorkflowManifest } from './manifest.ts'
import { runStates } from './run-state.ts'

const hour = 3_600_000
const begin = Date.UTC(2026, 2, 1)

interface World {
  readonly runs: readonly {
    readonly tick: number
    readonly state: (typeof runStates)[number]
    readonly version: string
    readonly stale: boolean
  }[]
  readonly prints: readonly (readonly [string, string])[]
  readonly fingerprint: string | undefined
  readonly stands: number | undefined
  readonly wanted: readonly ChosenVerdict[]
}

const tickCount = 8
const world: fc.Arbitrary<World> = fc.record({
  runs: fc.uniqueArray(
    fc.record({
      tick: fc.nat(tickCount - 1),
      state: fc.constantFrom(...runStates),
      version: fc.constantFrom('v1', 'v2', 'v3'),
      stale: fc.boolean(),
    }),
    { selector: (run) => run.tick },
  ),
  prints: fc.subarray([
    ['v1', 'one'],
    ['v2', 'two'],
  ] as const),
  fingerprint: fc.constantFrom('one', 'two', undefined),
  stands: fc.option(fc.nat(tickCount), { nil: undefined }),
  wanted: fc.subarray([...chosenVerdicts]),
})

const ticks = Array.from({ length: tickCount }, (_, index) => begin + index * hour)

function factsOf({ runs, prints, fingerprint, stands }: World) {
  return {
    ticks,
    runs: new Map(runs.map(({ tick, state, version }) => [ticks[tick]!, { id: `run-${tick}`, state, version }])),
    fingerprint,
    fingerprints: new Map(prints),
    staleRuns: new Set(runs.filter(({ stale }) => stale).map(({ tick }) => `run-${tick}`)),
    planStands: stands === undefined ? undefined : begin + stands * hour,
  }
}

/** The rules once more, one question after the other, as a person would ask them of one tick. */
function naive(
  { runs, prints, fingerprint, stands, wanted }: World,
  tick: number,
): { chosen: boolean; verdict: string } {
  const asks = (verdict: ChosenVerdict) => ({ chosen: wanted.includes(verdict), verdict })
  const run = runs.find((one) => one.tick === tick)
  if (!run) return stands !== undefined && tick > stands ? { chosen: false, verdict: 'due' } : asks('missing')
  if (['queued', 'running'].includes(run.state)) return { chosen: false, verdict: 'running' }
  if (['failed', 'cancelled'].includes(run.state)) return asks('failed')
  const then = Object.fromEntries(prints)[run.version]
  const changed = then !== undefined && fingerprint !== undefined && then !== fingerprint
  if (changed && wanted.includes('code-changed')) return asks('code-changed')
  if (run.stale && wanted.includes('stale')) return asks('stale')
  if (changed) return asks('code-changed')
  return run.stale ? asks('stale') : asks('ok')
}

test('the selection is that of a naive reading, and every tick is counted once', () => {
  fc.assert(
    fc.property(world, (given) => {
      const judged = judgeTicks(factsOf(given), new Set(given.wanted))
      expect(judged.map(({ chosen, verdict }) => ({ chosen, verdict }))).toEqual(
        ticks.map((_, index) => naive(given, index)),
      )
      const counts = noCounts()
      countTicks(counts, judged)
      expect(verdicts.reduce((sum, verdict) => sum + counts.verdicts[verdict], 0)).toBe(tickCount)
      const chosen = judged.filter((tick) => tick.chosen).map((tick) => tick.logicalTime)
      expect(counts).toMatchObject({
        ticks: tickCount,
        chosen: chosen.length,
        first: chosen[0] ?? null,
        last: chosen.at(-1) ?? null,
      })
    }),
    { numRuns: 500 },
  )
})

test('what runs or is due is never chosen, whatever is asked for', () => {
  fc.assert(
    fc.property(world, (given) => {
      const all = judgeTicks(factsOf(given), new Set(chosenVerdicts))
      for (const { chosen, verdict } of all) expect(chosen).toBe(verdict !== 'running' && verdict !== 'due')
    }),
  )
})

test('a fingerprint that is not known counts as unchanged, and is told', () => {
  const given: World = {
    runs: [{ tick: 0, state: 'success', version: 'v3', stale: false }],
    ...{ prints: [], fingerprint: 'one', stands: undefined, wanted: ['code-changed'] },
  }
  expect(judgeTicks(factsOf(given), new Set(given.wanted))[0]).toEqual({
    ...{ logicalTime: begin, verdict: 'ok', chosen: false, codeUnknown: true },
  })
})

test('the estimate is that of the places: count / max-active, rounded up, times the duration', () => {
  const durations = Array.from({ length: 100 }, (_, index) => 100 - index)
  expect(estimateOf(durations, 25, 10)).toEqual({
    ...{ history: 100, medianMs: 50, p90Ms: 90, totalMedianMs: 150, totalP90Ms: 270 },
  })
  expect(estimateOf([7], 1, 8)).toMatchObject({ medianMs: 7, p90Ms: 7, totalP90Ms: 7 })
  expect(estimateOf([7], 0, 8)).toMatchObject({ totalMedianMs: 0 })
  expect(estimateOf([], 25, 10)).toBeUndefined()
})

const workflow = (plans: WorkflowManifest['plans']): WorkflowManifest => ({
  ...{ name: 'daily', file: 'w.ts', params: { type: 'object', properties: {} }, stages: [], nodes: [] },
  plans,
})
const nightly = {
  kind: 'cron',
  name: 'nightly',
  pattern: '0 3 * * *',
  timezone: 'Europe/Paris',
  catchUp: 'last',
} as const
const often = { kind: 'interval', name: 'often', every: '15m', everyMs: 900_000, catchUp: 'last' } as const
const file = { kind: 'file-arrival', name: 'file', glob: 'in/*', restMs: 2_000 } as const

const faultOf = (work: () => unknown): string => {
  try {
    work()
  } catch (thrown) {
    expect((thrown as SluiceError).code).toBe('INVALID_INPUT')
    return (thrown as Error).message
  }
  throw new Error('it was taken')
}

test.each([
  [
    'no plan at all',
    [],
    undefined,
    'A backfill needs a plan by the clock, whose ticks it runs; the plans of daily: none at all',
  ],
  [
    'no plan by the clock',
    [file],
    undefined,
    'A backfill needs a plan by the clock, whose ticks it runs; the plans of daily: file (file-arrival)',
  ],
  [
    'a plan not by the clock',
    [file, nightly],
    'file',
    'The plan file is not by the clock: it has no ticks to run again; the plans of daily: file (file-arrival), nightly (cron)',
  ],
  [
    'several and none named',
    [nightly, often],
    undefined,
    'There are several plans by the clock, name one; the plans of daily: nightly (cron), often (interval)',
  ],
  [
    'a mistyped one',
    [nightly],
    'nightli',
    'There is no plan "nightli", did you mean nightly?; the plans of daily: nightly (cron)',
  ],
])('%s is told precisely', (_, plans, name, message) => {
  expect(faultOf(() => clockPlanOf(workflow(plans), name))).toBe(message)
})

test('a day begins in the zone of the plan, a time says its own', () => {
  const at = (text: string, zone = 'Europe/Paris') => new Date(instantOf('/body/from', text, zone)).toISOString()
  expect(at('2026-03-28')).toBe('2026-03-27T23:00:00.000Z')
  expect(at('2026-03-30')).toBe('2026-03-29T22:00:00.000Z')
  // In Beirut the clock went from midnight to one.
  expect(at('2026-03-29', 'Asia/Beirut')).toBe('2026-03-28T22:00:00.000Z')
  expect(at('2026-03-28T06:00:00+01:00')).toBe('2026-03-28T05:00:00.000Z')
  for (const text of [
    '2026-02-30',
    '2026-02-30T00:00:00Z',
    '2026-13-01',
    'yesterday',
    '2026-03-28T06:00:00',
    '0000-01-01',
    '2026-03-28T25:00:00Z',
  ]) {
    expect(faultOf(() => at(text))).toContain(`${JSON.stringify(text)} is no time; write 2026-03-28T06:00:00Z`)
  }
})

test('ticks are half-open, and a million at most', async () => {
  const plan = clockPlanOf(workflow([often]), undefined)
  expect(await ticksOf(plan, begin, begin + hour)).toEqual([0, 1, 2, 3].map((n) => begin + n * 900_000))
  expect(await ticksOf(plan, begin + 1, begin + 900_000)).toEqual([])
  const minutely = clockPlanOf(workflow([{ ...nightly, pattern: '* * * * *' }]), undefined)
  expect(await ticksOf(minutely, begin, begin + 60_000 * 120_000)).toHaveLength(120_000)
  await expect(ticksOf(minutely, begin, begin + 60_000 * 1_000_001)).rejects.toThrow('more than 1000000 ticks')
})

test('a run gets what its plan gives it, its tick filled in, and over that what the backfill gives', () => {
  const params = {
    ...{ type: 'object', required: ['day'], additionalProperties: false },
    properties: { day: { type: 'string' }, size: { type: 'integer', default: 3 } },
  }
  const dated = { ...workflow([{ ...nightly, params: { day: { $tick: 'date' } } }]), params }
  const plan = clockPlanOf(dated, undefined)
  expect(JSON.parse(paramsOfTick(dated, plan, begin, {}))).toEqual({ day: '2026-03-01', size: 3 })
  expect(JSON.parse(paramsOfTick(dated, plan, begin, { day: 'x', size: 4 }))).toEqual({ day: 'x', size: 4 })
  expect(faultOf(() => paramsOfTick(dated, plan, begin, { size: 'many' }))).toContain(
    'The parameters of the tick 2026-03-01T00:00:00.000Z do not fit daily: /params/size',
  )
})
