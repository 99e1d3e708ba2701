import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { rateWaitMs, tokenTaken } from './rate.ts'

const rates = fc.record({
  intervalMs: fc.double({ min: 0.5, max: 500, noNaN: true }),
  burst: fc.integer({ min: 1, max: 5 }),
})
const gaps = fc.array(fc.integer({ min: 0, max: 2_000 }), { minLength: 1, maxLength: 60 })

describe('a token bucket', () => {
  it('lets no more start within any span than fits the span, and the burst', () => {
    fc.assert(
      fc.property(rates, gaps, (rate, waits) => {
        const starts: number[] = []
        let [now, fullAt] = [0, 0]
        for (const gap of waits) {
          now += gap
          now += rateWaitMs(fullAt, rate, now)
          fullAt = tokenTaken(fullAt, rate, now)
          starts.push(now)
        }
        for (const [first, from] of starts.entries()) {
          for (const [last, to] of starts.entries()) {
            if (last < first) continue
            const most = rate.burst + (to - from) / rate.intervalMs
            expect(last - first + 1).toBeLessThanOrEqual(most + 1e-6)
          }
        }
      }),
    )
  })

  it('makes nobody wait longer than needed: a millisecond earlier there was no token', () => {
    fc.assert(
      fc.property(rates, gaps, (rate, waits) => {
        let [now, fullAt] = [0, 0]
        for (const gap of waits) {
          now += gap
          const wait = rateWaitMs(fullAt, rate, now)
          if (wait > 0) expect(rateWaitMs(fullAt, rate, now + wait - 1)).toBeGreaterThan(0)
          expect(rateWaitMs(fullAt, rate, now + wait)).toBe(0)
          now += wait
          fullAt = tokenTaken(fullAt, rate, now)
        }
      }),
    )
  })

  it('is full after a rest', () => {
    const rate = { intervalMs: 100, burst: 3 }
    let fullAt = 0
    for (let start = 0; start < 3; start += 1) {
      expect(rateWaitMs(fullAt, rate, 1_000)).toBe(0)
      fullAt = tokenTaken(fullAt, rate, 1_000)
    }
    expect(rateWaitMs(fullAt, rate, 1_000)).toBe(100)
    expect(rateWaitMs(fullAt, rate, 1_300)).toBe(0)
  })
})
