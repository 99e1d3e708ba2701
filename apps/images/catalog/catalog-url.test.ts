import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalUrl, urlFault, withoutCredentials } from './catalog-url.ts'
import { keyOf } from './record-id.ts'

const label = 'a'.repeat(63)

describe('a line that is no URL to fetch', () => {
  it.each([
    ['file:///etc/passwd', 'the scheme file: is not http: or https:'],
    ['gopher://a/1', 'the scheme gopher: is not http: or https:'],
    ['ftp://a/1', 'the scheme ftp: is not http: or https:'],
    ['javascript:alert(1)', 'the scheme javascript: is not http: or https:'],
    ['data:image/png;base64,AAAA', 'the scheme data: is not http: or https:'],
    [`${'x'.repeat(5_000)}:y`, `the scheme ${'x'.repeat(30)}: is not http: or https:`],
    ['//host/x', 'it does not begin with http:// or https://'],
    ['/x/y', 'it does not begin with http:// or https://'],
    ['picsum.photos/640/480', 'it does not begin with http:// or https://'],
    ['../x', 'it does not begin with http:// or https://'],
    ['?x', 'it does not begin with http:// or https://'],
    ['http://', 'it has no host'],
    ['http:///x', 'it has no host'],
    ['https:?x', 'it has no host'],
    ['http:host/x', 'it has no host'],
    ['https://#x', 'it has no host'],
    ['http://:80/x', 'it is not a URL: its host or port cannot be'],
    ['http://a:65536/', 'it is not a URL: its host or port cannot be'],
    ['http://a:b/', 'it is not a URL: its host or port cannot be'],
    ['http://[::1/', 'it is not a URL: its host or port cannot be'],
    ['http://a%00b/', 'it is not a URL: its host or port cannot be'],
    ['http://256.256.256.256/', 'it is not a URL: its host or port cannot be'],
    ['http://a:0/', 'its port is 0'],
    [`http://${label}a/`, 'its host is longer than any name, or has an empty part'],
    [`http://${Array(5).fill(label).join('.')}/`, 'its host is longer than any name, or has an empty part'],
    ['http://a..b/', 'its host is longer than any name, or has an empty part'],
    ['http://name:secret@a/', 'it carries credentials'],
    ['http://name@a/', 'it carries credentials'],
    ['http://:secret@a/', 'it carries credentials'],
    ...[
      'http://a/ b',
      'http://a\\b',
      'http:\\\\a',
      'http://a/\0',
      'http://a/\u0085',
      'http://a/\u00a0',
      'http://a/\u2028',
    ].map((text) => [text, 'there is white space in it, or a character that no URL has']),
    ...['\ufeffhttp://a/', 'http://a/\u202egnp.exe', 'http://a/\ufffd', 'http://a/\t', 'a\rb', 'http://a/\x7f'].map(
      (text) => [text, 'there is white space in it, or a character that no URL has'],
    ),
  ])('%j: %s', (text, fault) => {
    expect(urlFault(text)).toBe(fault)
  })

  it.each([
    'http://a',
    'HTTPS://A:443/',
    'http://a:65535/x?y#z',
    'http://[2001:db8::1]:8080/',
    'http://1.2.3.4/',
    'http://bücher.example/ü?ü',
    'http://a./',
    `http://${label}.${label}/`,
    'http://a/x@2.png',
    'http://a/(x)[y]{z}|~!$&',
  ])('is not %s', (text) => {
    expect(urlFault(text)).toBeUndefined()
  })
})

describe('two spellings of one URL', () => {
  it.each([
    ['HTTPS://Picsum.PHOTOS:443/640/480', 'https://picsum.photos/640/480'],
    ['http://a', 'http://a/'],
    ['http://a/x#top', 'http://a/x'],
    ['http://a/x/../y/./z', 'http://a/y/z'],
    ['http://a/x/%2e%2E/y', 'http://a/y'],
    ['http://a/%7euser/%c3%bc', 'http://a/~user/ü'],
    ['http://a/%41?%62', 'http://a/A?b'],
    ['http://bücher.example/', 'http://xn--bcher-kva.example/'],
    ['http://BÜCHER.example/', 'http://bu\u0308cher.example/'],
    ['http://a。b/', 'http://a.b/'],
    ['http://0x7f.1/', 'http://127.0.0.1/'],
    ['http://[2001:DB8:0::1]/', 'http://[2001:db8::1]/'],
  ])('%s is %s', (one, other) => {
    expect(keyOf(one)).toBe(keyOf(other))
  })

  it.each([
    ['http://a/', 'https://a/'],
    ['http://a/', 'http://a./'],
    ['http://a/', 'http://a:8080/'],
    ['http://a/x', 'http://a/X'],
    ['http://a/x', 'http://a/x/'],
    ['http://a/x', 'http://a/x?'],
    ['http://a/?b&c', 'http://a/?c&b'],
    ['http://a/%2f', 'http://a//'],
    ['http://a/+', 'http://a/%20'],
    ['http://apple.example/', 'http://\u0430pple.example/'],
  ])('%s is not %s', (one, other) => {
    expect(keyOf(one)).not.toBe(keyOf(other))
  })

  it('has one canonical text, which is its own', () => {
    fc.assert(
      fc.property(fc.webUrl({ withQueryParameters: true, withFragments: true }), (text) => {
        const canonical = canonicalUrl(text)
        expect(canonicalUrl(canonical)).toBe(canonical)
        expect(urlFault(canonical)).toBe(urlFault(text))
        expect(canonicalUrl(text.replace(/^https?/, (scheme) => scheme.toUpperCase()))).toBe(canonical)
      }),
    )
  })

  it('is no longer than a key may be', () => {
    expect(keyOf(`http://a/${'x'.repeat(8_000)}`)).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(keyOf('no url')).toBe('no url')
  })
})

describe('credentials', () => {
  it.each([
    ['http://name:hunter2@a/x', 'http://***@a/x'],
    ['http://hunter2@a/x@2.png', 'http://***@a/x@2.png'],
    ['http:name:hunter2@a/', 'http://***@a/'],
    ['http:\\\\name:hunter2@a/', 'http://***@a/'],
    ['http://name:hun/hunter2@a/', 'http://***@a/'],
    ['http://name:hunter2@a:99999/', 'http://***@a:99999/'],
    ['http://name:hunter2@', 'http://***@'],
    ['ftp://name:hunter2@a/', 'ftp://***@a/'],
    ['//name:hunter2@a/', '//***@a/'],
    ['name:hunter2@a/', '***@a/'],
    ['hunter2:/@a', '***@a'],
    ['hunter2://name@a', '***@a'],
    ['http://na me:hunter2@a/', 'http://***@a/'],
    ['http://name:hunter2\0@a/', 'http://***@a/'],
    ['http://name%3ahunter2@a/', 'http://***@a/'],
    ['HTTP://name:hunter2@a@b/', 'http://***@b/'],
  ])('of %j are not shown, and refused', (text, shown) => {
    expect(withoutCredentials(text)).toBe(shown)
    expect(urlFault(withoutCredentials(text))).toBeTypeOf('string')
  })

  it.each(['http://a/x@2.png', 'http://a/?mail=b@c', 'http://a/#@', 'no url', 'http://a/x y'])(
    'are not in %s',
    (text) => {
      expect(withoutCredentials(text)).toBe(text)
    },
  )

  it('are never shown, whatever they are and wherever they stand', () => {
    const secret = fc.stringMatching(/^[a-z0-9:/?#\\ !%]{0,10}hunter2[a-z0-9:/?# !%]{0,10}$/)
    const scheme = fc.constantFrom(
      'http://',
      'https://',
      'HTTPS:',
      'ftp://',
      '//',
      '',
      'http:/',
      'http:\\\\',
      'http:///',
    )
    const host = fc.constantFrom('a', 'a:99999', 'a b', '', '[::1', 'a/x', 'a/@')
    fc.assert(
      fc.property(scheme, secret, host, (start, inner, end) => {
        const text = `${start}${inner}@${end}`
        const url = urlFault(text) === undefined ? URL.parse(text) : null
        // Behind the first / ? # of what can be fetched there are no credentials.
        if (url !== null) return
        expect(withoutCredentials(text)).not.toContain('hunter2')
      }),
      { numRuns: 500 },
    )
  })
})
