import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../../errors.ts'
import { parseRewriteRules, restored, rewritten } from './rewrite.ts'

const rules = parseRewriteRules([
  { from: 'https://picsum.photos', to: 'http://127.0.0.1:4010' },
  { from: 'https://deep.test/a/', to: 'http://127.0.0.1:4011/b' },
])
const go = (url: string) => rewritten(new URL(url), rules)?.href
const back = (url: string) => restored(new URL(url), rules)?.href

describe('rewriting', () => {
  it.each([
    ['https://picsum.photos/640/480', 'http://127.0.0.1:4010/640/480'],
    ['https://picsum.photos', 'http://127.0.0.1:4010/'],
    ['https://PICSUM.photos:443/1/2?seed=3', 'http://127.0.0.1:4010/1/2?seed=3'],
    ['https://deep.test/a/x', 'http://127.0.0.1:4011/b/x'],
    ['https://deep.test/a', 'http://127.0.0.1:4011/b'],
  ])('%s goes to %s', (from, to) => {
    expect(go(from)).toBe(to)
  })

  it.each([
    'http://picsum.photos/1/2',
    'https://picsum.photos:8443/1/2',
    'https://picsum.photos.evil.test/1/2',
    'https://picsum.photos@evil.test/1/2',
    'https://deep.test/ab',
    'https://deep.test/',
    'http://127.0.0.1:4010/1/2',
  ])('%s stays', (url) => {
    expect(go(url)).toBeUndefined()
  })

  it('keeps path and query whatever they are, lands on the target only, and can be undone', () => {
    fc.assert(
      fc.property(fc.webPath(), fc.webQueryParameters(), (path, query) => {
        const url = new URL(`https://picsum.photos${path}?q=1&${query}`)
        const moved = rewritten(url, rules)!
        expect(moved.origin).toBe('http://127.0.0.1:4010')
        expect(moved.pathname + moved.search).toBe(url.pathname + url.search)
        expect(restored(moved, rules)?.href).toBe(url.href)
      }),
    )
    expect(back('http://127.0.0.1:4011/c')).toBeUndefined()
  })

  it.each(['picsum.photos', 'ftp://h', 'http://u:p@h', 'http://h/?q=1', 'http://h/#f'])(
    'refuses the side %s',
    (side) => {
      expect(() => parseRewriteRules([{ from: 'https://h', to: side }])).toThrow(SluiceError)
      expect(() => parseRewriteRules([{ from: side, to: 'https://h' }])).toThrow(/rewrite\[0\]\.from/)
    },
  )
})
