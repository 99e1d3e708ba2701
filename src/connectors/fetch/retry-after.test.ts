import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseRetryAfter } from './retry-after.ts'

const day = 86_400_000
const now = Date.UTC(2024, 0, 1, 12)

describe('Retry-After', () => {
  it.each([
    ['3', 3_000],
    [' 0 ', 0],
    ['999999999', 86_400_000],
    ['Mon, 01 Jan 2024 12:00:30 GMT', 30_000],
    ['Monday, 01-Jan-24 12:00:30 GMT', 30_000],
    ['Mon Jan  1 12:00:30 2024', 30_000],
    ['Mon, 01 Jan 2024 11:00:00 GMT', 0],
    ['Fri, 01 Jan 2100 00:00:00 GMT', 86_400_000],
    ['-3', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['Monday maybe', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('%j is %j ms', (header, wait) => {
    expect(parseRetryAfter(header, now, day)).toBe(wait)
  })

  it('a date says the same as its seconds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 86_400 }), (seconds) => {
        const date = new Date(now + seconds * 1_000).toUTCString()
        expect(parseRetryAfter(date, now, day)).toBe(parseRetryAfter(String(seconds), now, day))
      }),
    )
  })
})
