import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { catchUpPolicies, dueTicks, type Tick } from './catch-up.ts'
import { parseCron, ticksBetween } from './schedule.ts'

const minute = 60_000
const hour = 60 * minute
const hourly = parseCron('@hourly', 'UTC')
const outcomes = (ticks: Tick[]) => ticks.map((tick) => `${tick.logicalTime / hour} ${tick.outcome}`)

describe('dueTicks', () => {
  it.each([
    ['all', ['1 caught_up', '2 caught_up', '3 late']],
    ['last', ['1 skipped', '2 skipped', '3 late']],
    ['none', ['1 skipped', '2 skipped', '3 skipped']],
  ] as const)('%s: when all ticks were missed', (policy, expected) => {
    expect(outcomes(dueTicks(hourly, policy, 0, 3.5 * hour))).toEqual(expected)
  })

  it.each([
    ['all', ['1 caught_up', '2 caught_up', '3 fired']],
    ['last', ['1 skipped', '2 skipped', '3 fired']],
    ['none', ['1 skipped', '2 skipped', '3 fired']],
  ] as const)('%s: when the newest tick is on time', (policy, expected) => {
    expect(outcomes(dueTicks(hourly, policy, 0, 3 * hour + minute))).toEqual(expected)
  })

  it('gives nothing when nothing is due', () => {
    expect(dueTicks(hourly, 'all', 3 * hour, 4 * hour - 1)).toEqual([])
    expect(dueTicks(hourly, 'all', 3 * hour, 3 * hour)).toEqual([])
    expect(dueTicks(hourly, 'all', 3 * hour, hour)).toEqual([])
  })

  it('is on time up to the minute, or what is said', () => {
    const outcome = (age: number, onTimeMs?: number) =>
      dueTicks(hourly, 'none', 0, hour + age, onTimeMs === undefined ? {} : { onTimeMs }).map((tick) => tick.outcome)
    expect(outcome(minute)).toEqual(['fired'])
    expect(outcome(minute + 1)).toEqual(['skipped'])
    expect(outcome(5_000, 5_000)).toEqual(['fired'])
    expect(outcome(5_001, 5_000)).toEqual(['skipped'])
  })

  it('fires every tick that is on time, whatever the policy', () => {
    const minutely = parseCron('* * * * *', 'UTC')
    for (const policy of catchUpPolicies) {
      const ticks = dueTicks(minutely, policy, 0, 3 * minute, { onTimeMs: minute })
      expect(ticks.slice(1).map((tick) => tick.outcome)).toEqual(['fired', 'fired'])
    }
  })

  it('says why', () => {
    const reasons = (policy: 'all' | 'last' | 'none') =>
      dueTicks(hourly, policy, 0, 2 * hour + 90_000).map((tick) => tick.reason)
    expect(reasons('all')).toEqual(['missed by 3690 s; catch-up is all', 'missed by 90 s; no later tick is due'])
    expect(reasons('last')[0]).toBe('missed by 3690 s; catch-up is last and a later tick is due')
    expect(reasons('none')[1]).toBe('missed by 90 s; catch-up is none')
    expect(dueTicks(hourly, 'none', 0, hour)[0]!.reason).toBe('on time')
  })

  it('starts the newest 1,000 of the missed ticks at most, or what is said', () => {
    const all = (most?: number, limit = 9_999) =>
      dueTicks(hourly, 'all', 0, 5_000.5 * hour, { limit, ...(most === undefined ? {} : { most }) })
    const started = all().filter((tick) => tick.outcome !== 'skipped')
    expect([started.length, started[0]!.logicalTime]).toEqual([1_000, 4_001 * hour])
    expect(all()[0]!.reason).toBe('missed by 17998200 s; catch-up starts the newest 1000 at most')
    expect(outcomes(all(3).slice(-4))).toEqual(['4997 skipped', '4998 caught_up', '4999 caught_up', '5000 late'])
    expect(all(3, 4_998).at(-1)).toMatchObject({ outcome: 'caught_up' })
    expect(all(3, 4_997).at(-1)).toMatchObject({ outcome: 'skipped' })
  })

  it('gives at most 1,000 ticks, or what is said', () => {
    expect(dueTicks(hourly, 'all', 0, 5_000 * hour)).toHaveLength(1_000)
    expect(dueTicks(hourly, 'all', 0, 5_000 * hour, { limit: 7 })).toHaveLength(7)
  })

  it('gives each tick one row, the same in pages of any size', () => {
    const cases = fc.record({
      pattern: fc.constantFrom('@hourly', '*/20 2 * * *', '0 */5 * * *', '@daily'),
      policy: fc.constantFrom(...catchUpPolicies),
      span: fc.nat(5 * 24 * hour),
      onTimeMs: fc.nat(3 * hour),
      limit: fc.integer({ min: 1, max: 9 }),
    })
    fc.assert(
      fc.property(cases, ({ pattern, policy, span, onTimeMs, limit }) => {
        const schedule = parseCron(pattern, 'Europe/Paris')
        const from = Date.parse('2026-03-27T00:00Z')
        const whole = dueTicks(schedule, policy, from, from + span, { onTimeMs })
        expect(whole.map((tick) => tick.logicalTime)).toEqual(ticksBetween(schedule, from, from + span, 1_000))
        const paged: Tick[] = []
        for (let page: Tick[] | undefined; page === undefined || page.length === limit; paged.push(...page)) {
          page = dueTicks(schedule, policy, paged.at(-1)?.logicalTime ?? from, from + span, { onTimeMs, limit })
        }
        expect(paged).toEqual(whole)
        const starts = whole.filter((tick) => tick.outcome !== 'skipped')
        const onTime = whole.filter((tick) => from + span - tick.logicalTime <= onTimeMs)
        if (policy === 'all') expect(starts).toEqual(whole)
        if (policy === 'none') expect(starts).toEqual(onTime)
        if (policy === 'last') expect(starts).toEqual(onTime.length > 0 ? onTime : whole.slice(-1))
      }),
      { numRuns: 200 },
    )
  })
})
