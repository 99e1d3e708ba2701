import { describe, expect, it } from 'vitest'
import { dataset } from './dataset.ts'

describe('dataset', () => {
  it.each(['orders', 'prim.orders', 'mart.daily_sales.eu-west', 'a1'])('takes the name %s', (name) => {
    expect(dataset(name, { doc: 'what it is' })).toEqual({ kind: 'dataset', name, doc: 'what it is' })
  })

  it.each(['', 'Orders', '1st', 'a..b', '.a', 'a.', 'a b', 'topic:a', 'ä', 'a/b', 'a'.repeat(121), undefined, 7])(
    'refuses the name %j, and says what is allowed',
    (name) => {
      expect(() => dataset(name as string)).toThrow(
        /is not a name for a dataset; use a-z, 0-9 .* at most 120 characters/,
      )
    },
  )

  it('refuses a doc that is too long', () => {
    expect(() => dataset('a', { doc: 'x'.repeat(1_001) })).toThrow('at most 1,000 characters')
  })
})
