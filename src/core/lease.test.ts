import fc from 'fast-check'
import { expect, it } from 'vitest'
import { leaseTimes } from './lease.ts'

it('leaves room for two tries before the doubt, and for the end of all work before the lapse', () => {
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 3_600_000 }), (leaseMs) => {
      const { renewAfterMs, tryAgainMs, answerMs, doubtAfterMs, graceMs } = leaseTimes(leaseMs)
      expect(renewAfterMs + answerMs + tryAgainMs + answerMs).toBeLessThanOrEqual(doubtAfterMs + 1)
      expect(doubtAfterMs + graceMs).toBeLessThanOrEqual(leaseMs * 0.85)
    }),
  )
})
