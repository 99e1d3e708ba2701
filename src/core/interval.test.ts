import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nextTick, previousTick, scheduleOf, ticksBetween } from './schedule.ts'

const hour = 3_600_000
const at = (text: string) => Date.parse(text)
const interval = (everyMs: number, start?: number) =>
  scheduleOf({ kind: 'interval', every: '', everyMs, catchUp: 'last', ...(start === undefined ? {} : { start }) })

describe('intervals', () => {
  it('count from the epoch', () => {
    const quarter = interval(hour / 4)
    expect(nextTick(quarter, at('2026-03-01T00:07Z'))).toBe(at('2026-03-01T00:15Z'))
    expect(nextTick(quarter, at('2026-03-01T00:15Z'))).toBe(at('2026-03-01T00:30Z'))
  })

  it('count from their start, which is the first tick', () => {
    const week = interval(7 * 24 * hour, at('2026-03-02T06:30Z'))
    expect(nextTick(week, 0)).toBe(at('2026-03-02T06:30Z'))
    expect(nextTick(week, at('2026-03-02T06:30Z'))).toBe(at('2026-03-09T06:30Z'))
    expect(previousTick(week, at('2026-03-02T06:30Z'))).toBeUndefined()
  })

  it('follow elapsed time where clocks are set', () => {
    const day = interval(24 * hour, at('2026-03-28T00:00+01:00'))
    const ticks = ticksBetween(day, at('2026-03-28T12:00Z'), at('2026-03-31T00:00Z'), 9)
    expect(ticks.map((tick) => new Date(tick).toISOString().slice(5, 13))).toEqual(['03-28T23', '03-29T23', '03-30T23'])
  })

  it('end with the year 9999', () => {
    expect(nextTick(interval(hour), Date.UTC(10_000) - 1)).toBeUndefined()
  })

  it('have a tick before each tick, and none between', () => {
    const cases = fc.record({
      everyMs: fc.integer({ min: 1_000, max: 400 * 24 * hour }),
      start: fc.option(fc.integer({ min: 0, max: at('2030-01-01') }), { nil: undefined }),
      after: fc.integer({ min: at('2030-01-02'), max: at('2100-01-01') }),
    })
    fc.assert(
      fc.property(cases, ({ everyMs, start, after }) => {
        const next = nextTick(interval(everyMs, start), after)!
        expect(next).toBeGreaterThan(after)
        expect(next - after).toBeLessThanOrEqual(everyMs)
        expect((next - (start ?? 0)) % everyMs).toBe(0)
        expect(previousTick(interval(everyMs, start), next)).toBe(
          next - everyMs >= (start ?? 0) ? next - everyMs : undefined,
        )
      }),
    )
  })
})

describe('previousTick', () => {
  const patterns = ['@hourly', '*/20 2 * * *', '0 0 29 2 *', '* * 1 1 *', '30 2 L * 0', '0 2 * * *']
  it.each(patterns)('%s: is the tick that comes before', (pattern) => {
    const schedule = scheduleOf({ kind: 'cron', pattern, timezone: 'Europe/Paris', catchUp: 'last' })
    fc.assert(
      fc.property(fc.integer({ min: at('1990-01-01'), max: at('2060-01-01') }), (from) => {
        const first = nextTick(schedule, from)!
        const second = nextTick(schedule, first)!
        expect(previousTick(schedule, second)).toBe(first)
        expect(previousTick(schedule, first + 1)).toBe(first)
      }),
      { numRuns: 30 },
    )
  })
})
