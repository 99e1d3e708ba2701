import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pieceRedactor, redactor } from './redact.ts'

/** No secret that is a part of the mask, or that the mask could complete. */
const secret = fc
  .oneof(fc.string({ minLength: 4, maxLength: 30 }), fc.string({ minLength: 4, maxLength: 30, unit: 'grapheme' }))
  .filter((text) => !/[[\]]/.test(text) && !'redacted'.includes(text) && text.isWellFormed())
const around = fc.string({ maxLength: 40, unit: 'grapheme' })

const encodings: Record<string, (text: string) => string> = {
  plain: (text) => text,
  json: (text) => JSON.stringify({ text }),
  'json in json': (text) => JSON.stringify({ body: JSON.stringify({ text }) }),
  'url component': (text) => `https://host/?q=${encodeURIComponent(text)}`,
  'url form': (text) => new URLSearchParams({ q: text }).toString(),
  'lower-case url': (text) => encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase()),
  base64: (text) => Buffer.from(text).toString('base64'),
  base64url: (text) => Buffer.from(text).toString('base64url'),
}

describe('redaction', () => {
  for (const [name, encode] of Object.entries(encodings)) {
    it(`masks a planted secret: ${name}`, () => {
      fc.assert(
        fc.property(secret, around, around, (planted, before, after) => {
          const output = redactor([planted])(`${before} ${encode(planted)} ${after}`)
          expect(output).not.toContain(planted)
          expect(output).toContain('[redacted]')
        }),
      )
    })
  }

  it('masks a secret inside longer base64 at every alignment', () => {
    fc.assert(
      fc.property(secret, fc.string({ maxLength: 7 }), fc.string({ maxLength: 7 }), (planted, before, after) => {
        const output = redactor([planted])(Buffer.from(before + planted + after).toString('base64'))
        const left = Buffer.from(output.replaceAll('[redacted]', ''), 'base64').toString()
        expect(left).not.toContain(planted)
        expect(output).toContain('[redacted]')
      }),
    )
  })

  it('lets no secret of several through, also when they overlap', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '/', ':', '@'), minLength: 4, maxLength: 8 })
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', ':', '@', ' '), maxLength: 60 })
    fc.assert(
      fc.property(fc.array(letters, { minLength: 1, maxLength: 5 }), text, (secrets, input) => {
        const output = redactor(secrets)(input)
        for (const planted of secrets) expect(output).not.toContain(planted)
      }),
      { numRuns: 1_000 },
    )
  })

  it('changes nothing else', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('x', 'y', '\n', '"', '/') }), (text) => {
        expect(redactor(['zzzz'])(text)).toBe(text)
      }),
    )
    expect(redactor([])('https://host/a@b and c@d://')).toBe('https://host/a@b and c@d://')
    expect(redactor(['abc'])('abc is too short')).toBe('abc is too short')
  })

  it('keeps lines of JSON what they are', () => {
    const line = JSON.stringify({
      level: 'info',
      msg: 'token "s3cr\\et" used',
      url: 'postgres://me:pa@ss@host/db?a=b@c',
    })
    expect(JSON.parse(redactor(['"s3cr\\et"'])(line))).toEqual({
      level: 'info',
      msg: 'token [redacted] used',
      url: 'postgres://[redacted]@host/db?a=b@c',
    })
  })

  it('masks each line of a secret of several lines', () => {
    const redact = redactor(['-----BEGIN KEY-----\nMIIEvQIBADAN\nabc\n'])
    expect(redact('a MIIEvQIBADAN b')).toBe('a [redacted] b')
    expect(redact('abc')).toBe('abc')
  })

  it('gives the same for a text in pieces, cut anywhere', () => {
    const secrets = ['hunter2', 'ab\ncd\nef', '\u{1F511}\u{1F511}', 'x://y']
    const part = fc.constantFrom(
      ...secrets,
      'ab\n',
      'cd',
      '\n',
      'postgres://me:',
      'pass@host/',
      ' ',
      '\u{1F511}',
      'hunt',
    )
    const redact = redactor(secrets)
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), fc.array(fc.nat(200), { maxLength: 20 }), (parts, cuts) => {
        const text = parts.join('')
        const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((a, b) => a - b), text.length]
        const pieces = pieceRedactor(secrets)
        const output = places.slice(1).map((end, index) => pieces.push(text.slice(places[index]!, end)))
        expect(output.join('') + pieces.end()).toBe(redact(text))
      }),
      { numRuns: 1_000 },
    )
  })

  it('passes on a very long line in parts, with secrets and URLs at every place of the cut', () => {
    const secrets = ['hunter2hunter2']
    const filler = 'x'.repeat(64_000)
    for (let shift = 0; shift < 3_000; shift += 7) {
      const text = `${filler}${'y'.repeat(shift)} hunter2hunter2 postgres://me:pass@host/${'z'.repeat(3_000)}`
      const pieces = pieceRedactor(secrets)
      const first = pieces.push(text)
      expect(first.length).toBeGreaterThan(60_000)
      const output = first + pieces.end()
      expect(output).toBe(redactor(secrets)(text))
      expect(output).not.toContain('hunter2')
      expect(output).not.toContain('pass@')
    }
  })

  it('gives whole lines at once', () => {
    const pieces = pieceRedactor(['hunter2'])
    expect(pieces.push('one hunt')).toBe('')
    expect(pieces.push('er2\ntwo\nth')).toBe('one [redacted]\ntwo\n')
    expect(pieces.end()).toBe('th')
  })
})
