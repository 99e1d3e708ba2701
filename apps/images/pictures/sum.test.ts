import { describe, expect, it } from 'vitest'
import { balances, since, sumText, type Totals } from './sum.ts'

const sample: Totals = {
  received: 650,
  pending: 0,
  written: 500,
  duplicate: 99,
  filtered: 0,
  rejected: 51,
  dead: 0,
  rejectedByReason: { 'http error': 51, malformed: 0 },
}

describe('the sum', () => {
  it('is one line', () => {
    expect(sumText(sample)).toBe(
      '650 received = 500 written + 99 duplicate + 51 rejected (http error) + 0 dead + 0 pending',
    )
    expect(sumText({ ...sample, filtered: 2, rejectedByReason: { malformed: 1, 'http error': 50 } })).toBe(
      '650 received = 500 written + 99 duplicate + 2 filtered + 51 rejected (50 http error, 1 malformed) + 0 dead + 0 pending',
    )
    expect(sumText({ ...sample, rejected: 0, rejectedByReason: {} })).toContain(' + 0 rejected + ')
  })

  it('balances or does not', () => {
    expect(balances(sample)).toBe(true)
    for (const field of ['received', 'pending', 'written', 'duplicate', 'filtered', 'rejected', 'dead'] as const) {
      expect(balances({ ...sample, [field]: sample[field] + 1 })).toBe(false)
    }
  })

  it('since another one is what was added', () => {
    const after = {
      ...sample,
      received: 655,
      written: 502,
      rejected: 54,
      rejectedByReason: { 'http error': 51, malformed: 3 },
    }
    const added = since(sample, after)
    expect(sumText(added)).toBe('5 received = 2 written + 0 duplicate + 3 rejected (malformed) + 0 dead + 0 pending')
  })
})
