import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CatalogLine, CatalogLines, startsWith } from './catalog-lines.ts'
import { maxLineBytes, urlFault } from './catalog-url.ts'

const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex')

function read(
  pieces: readonly Uint8Array[],
  lines = new CatalogLines(),
): { found: CatalogLine[]; lines: CatalogLines } {
  const found = pieces.flatMap((piece) => lines.push(piece))
  const last = lines.end()
  return { found: last === undefined ? found : [...found, last], lines }
}

const textsOf = (text: string) => read([Buffer.from(text)]).found.map((line) => line.text)

/** The same bytes in pieces that end anywhere. */
const cut = (bytes: Buffer, at: readonly number[]) => {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return places.slice(1).map((to, index) => bytes.subarray(places[index], to))
}

describe('lines of a catalog', () => {
  it('end in LF or CRLF, and the last one where the file ends', () => {
    expect(read([Buffer.from('a\nb\r\n\n  \nc')]).found).toEqual([
      { number: 1, text: 'a', ended: true },
      { number: 2, text: 'b', ended: true },
      { number: 3, text: '', ended: true },
      { number: 4, text: '', ended: true },
      { number: 5, text: 'c', ended: false },
    ])
    expect(textsOf('a\n')).toEqual(['a'])
    expect(textsOf('')).toEqual([])
  })

  it('end as they end: LF, CRLF and both in one file, and CR alone ends none', () => {
    expect(textsOf('http://a/1\r\nhttp://a/2\n\r\nhttp://a/3\r\r\n')).toEqual([
      ...['http://a/1', 'http://a/2', '', 'http://a/3'],
    ])
    const [whole, ...more] = textsOf('http://a/1\rhttp://a/2\r')
    expect([whole, more, urlFault(whole!) === undefined]).toEqual(['http://a/1\rhttp://a/2', [], false])
  })

  it('of UTF-16 are refused by name, whole, whatever the pieces', () => {
    for (const bytes of [
      Buffer.from('\ufeffhttp://a/1\n', 'utf16le'),
      Buffer.from('\ufeffhttp://a/1\n', 'utf16le').swap16(),
    ]) {
      for (const pieces of [[bytes], [...bytes].map((byte) => Buffer.from([byte]))]) {
        expect(() => read(pieces)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }))
        expect(() => read(pieces)).toThrow(/is UTF-16 .* write it as UTF-8/)
      }
    }
    // Without its mark each line has zero bytes in it.
    const unmarked = read([Buffer.from('http://a/1\n', 'utf16le')]).found
    expect(unmarked.map(({ text }) => urlFault(text) !== undefined)).toEqual([true, true])
  })

  it('show no credentials, in a long line either', () => {
    const long = `http://name:hunter2@a/${'x'.repeat(1_000_000)}`
    const texts = textsOf(`http://name:hunter2@a/1\n${long}\nhttp://n:hunter2@a/`)
    expect(texts.map((text) => text.includes('hunter2'))).toEqual([false, false, false])
    expect(texts[1]).toContain(`(a line of ${long.length} bytes; 8192 are allowed)`)
  })

  it('without an end are held in bounded memory', () => {
    const piece = Buffer.alloc(65_536, 'x')
    const lines = new CatalogLines()
    const before = process.memoryUsage().arrayBuffers
    for (let count = 0; count < 4_096; count += 1) expect(lines.push(piece)).toHaveLength(0)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8_388_608)
    expect(lines.end()?.text).toContain('a line of 268435456 bytes')
    expect(lines.prefix).toEqual({ bytes: 0, sha256: sha256(''), lines: 0 })
  })

  it('have no byte order mark, which only the start of the file may have', () => {
    expect(textsOf('\ufeffa\n\ufeffb')).toEqual(['a', '\ufeffb'])
  })

  it('are the same however the bytes come', () => {
    const line = fc.string({ unit: 'binary', maxLength: 30 }).filter((text) => !/[\n\0\ufeff]/.test(text))
    fc.assert(
      fc.property(
        fc.array(line, { maxLength: 20 }),
        fc.boolean(),
        fc.array(fc.nat(), { maxLength: 8 }),
        (texts, ended, at) => {
          const bytes = Buffer.from(texts.map((text) => `${text}\n`).join('') + (ended ? '' : 'tail'))
          const whole = read([bytes])
          const parts = read(cut(bytes, at))
          expect(parts.found).toEqual(whole.found)
          expect(whole.found.map(({ text }) => text)).toEqual([
            ...texts.map((text) =>
              Buffer.from(text)
                .toString()
                .replace(/^[ \t\r]+|[ \t\r]+$/g, ''),
            ),
            ...(ended ? [] : ['tail']),
          ])
          const upToLineFeed = bytes.subarray(0, bytes.lastIndexOf(10) + 1)
          expect(parts.lines.prefix).toEqual({
            bytes: upToLineFeed.length,
            sha256: sha256(upToLineFeed),
            lines: texts.length,
          })
        },
      ),
    )
  })

  it('go on behind a prefix that was read before, with its hash and its numbers', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 6 }), (at) => {
        const { prefix } = read([Buffer.from('one\ntwo\n')]).lines
        const bytes = Buffer.from('one\ntwo\nthree\nfour')
        const { found, lines } = read(cut(bytes, at), new CatalogLines(prefix))
        expect(found.map(({ number, text }) => [number, text])).toEqual([
          [3, 'three'],
          [4, 'four'],
        ])
        expect(lines.prefix).toEqual({ bytes: 14, sha256: sha256('one\ntwo\nthree\n'), lines: 3 })
      }),
    )
  })

  it('of any length and any bytes are one line each, and malformed', () => {
    const long = Buffer.alloc(1_048_576, 'https://picsum.photos/')
    const rest = Buffer.concat([
      Buffer.from('\nhttp://a/\0b\nhttp://a/'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('\nok\n'),
    ])
    for (const pieces of [[long, rest], cut(Buffer.concat([long, rest]), [5, 9_000, 70_000, 1_048_576])]) {
      const texts = read(pieces).found.map(({ text }) => text)
      expect(texts).toHaveLength(4)
      expect(texts[0]).toHaveLength(200 + ` ... (a line of 1048576 bytes; ${maxLineBytes} are allowed)`.length)
      expect(texts.slice(0, 3).map((text) => urlFault(text) !== undefined)).toEqual([true, true, true])
    }
    const exact = `http://a/${'x'.repeat(maxLineBytes - 9)}`
    expect(textsOf(`${exact}\n${exact}y\n`).map((text) => urlFault(text) === undefined)).toEqual([true, false])
  })
})

describe('startsWith', () => {
  async function* inPieces(text: string, size: number) {
    for (let at = 0; at < text.length; at += size) yield Buffer.from(text.slice(at, at + size))
  }
  const prefix = { bytes: 6, sha256: sha256('abcdef'), lines: 1 }

  it.each([
    ['abcdef', true],
    ['abcdefg', true],
    ['abcde', false],
    ['abcdxfgh', false],
    ['', false],
  ])('%j: %s', async (text, expected) => {
    for (const size of [1, 4, 100]) expect(await startsWith(inPieces(text, size), prefix)).toBe(expected)
  })
})
