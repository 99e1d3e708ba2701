import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nearest } from './nearest.ts'

describe('nearest', () => {
  it.each([
    ['serv', 'serve'],
    ['SERVE', 'serve'],
    ['rnu', 'run'],
    ['xun', 'run'],
    ['', undefined],
    ['something else', undefined],
  ])('takes %s for %s', (word, meant) => {
    expect(nearest(word, ['serve', 'run', 'runs'])).toBe(meant)
  })

  it('takes the first of equals, and none where there are none', () => {
    expect(nearest('cat', ['car', 'cap'])).toBe('car')
    expect(nearest('cat', [])).toBeUndefined()
  })

  it('finds a word with one letter changed among unlike words', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z]{6,12}$/),
        fc.nat(),
        fc.constantFrom('insert', 'remove', 'replace'),
        (word, at, how) => {
          const place = at % word.length
          const rest = word.slice(how === 'insert' ? place : place + 1)
          const changed = word.slice(0, place) + (how === 'remove' ? '' : '_') + rest
          expect(nearest(changed, ['0123456789012345', word])).toBe(word)
        },
      ),
    )
  })
})
