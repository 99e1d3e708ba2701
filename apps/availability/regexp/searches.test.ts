import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { compilePattern, longestPattern, patternFault } from './pattern.ts'
import { SearchThread } from './search-thread.ts'
import { Searches } from './searches.ts'

const searches = new Searches({ quickMs: 250, slowMs: 1_000 })
afterAll(() => searches.close())

const page = (text: string) => ({ body: Buffer.from(text), charset: 'utf-8' })

/** Costs about a second for 64 KiB of a and b without order: 15 s for this page. */
const hostile = '[ab]*a[ab]{990}[yz]'
const forIt = page(withoutOrder(1_000_000))

function withoutOrder(length: number): string {
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state >>> 20
  }
  return Array.from({ length }, () => 'ab'[next() & 1]).join('')
}

describe('a pattern', () => {
  it.each([
    ['(a)\\1', /invalid escape sequence: `\\1` \(RE2 syntax: no backreferences/],
    ['(?=a)b', /no look-around/],
    ['(?<!a)b', /no look-around/],
    ['(', /missing closing \)/],
    ['a**', /invalid nested repetition/],
    ['a{1001}', /counts up to 1000/],
    ['((a{100}){100}){100}', /invalid repeat count/],

    ['(?:(?:a|b|c|d|e){1,30}x){1,30}', /too large: \d+ instructions, 1100 are allowed/],
  ])('%s is refused with its reason', (pattern, reason) => {
    expect(patternFault(pattern)).toMatch(reason)
  })

  it('is refused when it is long', () => {
    expect(patternFault('a'.repeat(longestPattern))).toBeUndefined()
    expect(patternFault('a'.repeat(longestPattern + 1))).toMatch(/longer than 1000 characters/)
  })

  it('is refused or compiled, whatever it is, and nothing else is thrown', () => {
    const pieces = fc.constantFrom(...'ab.*+?()[]{}|^$\\', '(?', '{2,9}', '\\p', '[^', '\\b', 'é', '\u{1f600}')
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
        const pattern = parts.join('')
        const fault = patternFault(pattern)
        if (fault === undefined) expect(typeof compilePattern(pattern).test('ab')).toBe('boolean')
        else expect(fault).not.toBe('')
      }),
      { numRuns: 500 },
    )
  })
})

describe('a search', () => {
  it('finds what is there, in the charset of the page', async () => {
    expect(await searches.search('Welcome.*home', page('<h1>Welcome, at home</h1>'))).toBe('found')
    expect(await searches.search('^gone$', page('here'))).toBe('missing')
    expect(await searches.search('(?i)MÜLLER', { body: Buffer.from('Müller', 'latin1'), charset: 'iso-8859-1' })).toBe(
      'found',
    )
    expect(await searches.search('é', { body: Buffer.from('é'), charset: 'no-such-charset' })).toBe('found')
  })

  it('of (a+)+$ takes no longer than another', async () => {
    expect(await searches.search('(a+)+$', page(`${'a'.repeat(1_000_000)}!`))).toBe('missing')
  })

  it('that is hostile ends at its limit, and holds up nobody', async () => {
    // From the second time on it is known.
    expect(await searches.search(hostile, forIt)).toBe('over')
    const ended: string[] = []
    const slow = searches.search(hostile, forIt).then((searched) => ended.push(`hostile ${searched}`))
    for (let time = 0; time < 20; time += 1) expect(await searches.search(`b${time}`, page(`b${time}`))).toBe('found')
    ended.push('others found')
    await slow
    expect(ended).toEqual(['others found', 'hostile over'])
    expect(await searches.search('a{3}', page('aaa'))).toBe('found')
  })

  it('that finds too many waiting is over its limit at once', async () => {
    const thread = new SearchThread(10_000, 2)
    const searched = await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map((pattern) => thread.search(pattern, page('abcde'))),
    )
    await thread.close()
    // one is being searched for, two wait
    expect(searched).toEqual(['found', 'found', 'found', 'over', 'over'])
  })
})
