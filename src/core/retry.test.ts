import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import { defaultRetryPolicy, lossPolicy, nextAfterLoss, nextAttempt, retryPolicy } from './retry.ts'

const policies = fc
  .record({ attempts: fc.integer({ min: 1, max: 100 }), a: fc.nat(100_000), b: fc.nat(1_000_000) })
  .map(({ attempts, a, b }) => ({ attempts, baseMs: Math.min(a, b), maxMs: Math.max(a, b) }))
const draws = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

const asking = (retryAfterMs: number) => ({ code: 'FETCH_FAILED', retryAfterMs })

describe('nextAttempt', () => {
  const policy = { attempts: 12, baseMs: 100, maxMs: 1_500 }
  const waits = (draw: number) =>
    [1, 2, 3, 4, 5, 6, 11].map((made) => {
      const next = nextAttempt(policy, made, 0, () => draw)
      return next === 'exhausted' ? next : next.retryAt
    })

  it('doubles the range of the wait up to the longest, and draws from all of it', () => {
    expect(waits(0.999_999)).toEqual([100, 200, 400, 800, 1_500, 1_500, 1_500])
    expect(waits(0.5)).toEqual([50, 100, 200, 400, 750, 750, 750])
    expect(waits(0)).toEqual([0, 0, 0, 0, 0, 0, 0])
  })

  it('is exhausted when as many attempts were made as the policy has, and not before', () => {
    expect(nextAttempt(defaultRetryPolicy, 1, 0, () => 0)).toBe('exhausted')
    expect(nextAttempt({ ...policy, attempts: 2 }, 1, 7, () => 0)).toEqual({ retryAt: 7 })
    expect(nextAttempt({ ...policy, attempts: 2 }, 2, 7, () => 0)).toBe('exhausted')
    expect(nextAttempt({ ...policy, attempts: 2 }, 3, 7, () => 0)).toBe('exhausted')
  })

  it('waits within the bounds of the policy, on whole milliseconds', () => {
    fc.assert(
      fc.property(policies, fc.integer({ min: 1, max: 100 }), fc.nat(), draws, (policy, made, now, draw) => {
        const next = nextAttempt(policy, made, now, () => draw)
        if (next === 'exhausted') return made >= policy.attempts
        let longest = policy.baseMs
        for (let failure = 1; failure < made && longest < policy.maxMs; failure += 1) longest *= 2
        const wait = next.retryAt - now
        return made < policy.attempts && Number.isInteger(wait) && wait >= 0 && wait <= Math.min(longest, policy.maxMs)
      }),
    )
  })

  it('draws the wait on top of what the other side asked for', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.nat(604_800_000), draws, (made, asked, draw) => {
        const all = { ...policy, attempts: 101 }
        const own = nextAttempt(all, made, 10, () => draw)
        expect(nextAttempt(all, made, 10, () => draw, asking(asked))).toEqual({
          retryAt: (own as { retryAt: number }).retryAt + asked,
        })
      }),
    )
    expect(nextAttempt(policy, 1, 0, () => 0, asking(0.2))).toEqual({ retryAt: 1 })
    expect(nextAttempt(policy, 1, 0, () => 0, asking(1e300))).toEqual({ retryAt: 604_800_000 })
  })

  it.each([-5, Number.NaN, Number.POSITIVE_INFINITY])('ignores %s as what the other side asked for', (asked) => {
    expect(nextAttempt(policy, 1, 0, () => 0.5, asking(asked))).toEqual({ retryAt: 50 })
  })
})

describe('nextAfterLoss', () => {
  it('has its own bound of 10 losses and waits up to a minute', () => {
    const waits = Array.from({ length: 11 }, (_, index) => nextAfterLoss(index + 1, 0, () => 0.999_999))
    expect(waits.map((next) => (next === 'exhausted' ? next : next.retryAt))).toEqual([
      1_000,
      2_000,
      4_000,
      8_000,
      16_000,
      32_000,
      60_000,
      60_000,
      60_000,
      'exhausted',
      'exhausted',
    ])
    expect(lossPolicy.attempts).toBe(10)
  })
})

describe('retryPolicy', () => {
  it('fills in the defaults, which nobody can change', () => {
    expect(retryPolicy()).toEqual({ attempts: 1, baseMs: 1_000, maxMs: 300_000 })
    expect(retryPolicy({ attempts: 1_000, baseMs: 0 })).toEqual({ attempts: 1_000, baseMs: 0, maxMs: 300_000 })
    expect(Object.isFrozen(defaultRetryPolicy) && Object.isFrozen(lossPolicy)).toBe(true)
  })

  it.each([
    [{ attempts: 0 }, ['/retry/attempts']],
    [{ attempts: 1.5 }, ['/retry/attempts']],
    [{ attempts: 1_001 }, ['/retry/attempts']],
    [{ baseMs: -1 }, ['/retry/baseMs']],
    [{ maxMs: Number.NaN }, ['/retry/maxMs']],
    [{ maxMs: 604_800_001 }, ['/retry/maxMs']],
    [{ baseMs: 10, maxMs: 9 }, ['/retry/baseMs']],
    [{ attempts: -1, maxMs: -1 }, ['/retry/attempts', '/retry/maxMs', '/retry/baseMs']],
  ])('refuses %j', (given, where) => {
    const thrown = caught(() => retryPolicy(given))
    expect(thrown.code).toBe('DEFINITION_INVALID')
    expect(thrown.faults.map((fault) => fault.where)).toEqual(where)
    expect(thrown.message).toContain('The retry policy is not valid: /retry/')
  })
})

function caught(work: () => unknown): SluiceError {
  try {
    work()
  } catch (error) {
    if (error instanceof SluiceError) return error
  }
  throw new Error('no SluiceError was thrown')
}
