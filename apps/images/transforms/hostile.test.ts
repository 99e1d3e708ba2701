/**
 * What strangers may send, each with its outcome: refused by its header, or one of the three states, within the memory and the
 * time of one decoder that goes on afterwards. `FUZZ=1000 FUZZ_SEED=7` mutates more pictures than the suite does.
 */
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { afterAll, describe, expect, it } from 'vitest'
import { seededRandom } from '../origin/picture.ts'
import { Decoders } from './decoders.ts'
import { grayscale } from './grayscale.ts'
import {
  avif,
  exif,
  gif,
  jpegs,
  manyScans,
  others,
  png,
  pngChunk,
  pngs,
  resizedJpeg,
  tiff,
  withSegments,
  zeros,
} from './hostile.fixture.ts'
import { hostile } from './hostile-decoder.fixture.ts'
import { ImageError } from './image-error.ts'
import { pictures, samples, size } from './pictures.fixture.ts'

const program = join(import.meta.dirname, 'hostile-decoder.fixture.ts')
const pool = new Decoders({ program, processes: 1, limitMs: 120_000 })
afterAll(() => pool.close())

const bytes = (text: string) => Buffer.from(text, 'latin1')

/** `ok`, `warning: ...` or why it was refused; with the size and frames where there are any. */
async function endOf(raw: Uint8Array): Promise<string> {
  try {
    const { facts, made } = await pool.turn(raw, [grayscale()])
    const [grey] = made
    expect([grey!.width, grey!.height]).toEqual([facts.width, facts.height])
    const frames = facts.frames === 1 ? '' : ` of ${facts.frames} frames`
    const state = grey!.warning === undefined ? 'ok' : `warning: ${grey!.warning}`
    return `${facts.width}x${facts.height}${frames} ${state}`
  } catch (thrown) {
    if (thrown instanceof ImageError) return thrown.message
    throw thrown
  }
}

describe('a bomb is refused by its header, or costs what it is', () => {
  it.each<[keyof typeof pngs, RegExp]>([
    ['says 50,000x50,000', /^too large: 50000x50000 is over 50000000 pixels$/],
    ['says 0x0', /^corrupt: the png header cannot be read/],
    ['says 2,147,483,647 squared', /^corrupt: the png header cannot be read/],
    ['says 7,000x7,000 with no pixel', /^corrupt: /],
    ['is one pixel high and 65,536 wide', /^too large: 65536x1 has a side of over 65535 pixels$/],
    ['holds 300 MB of zeros for 10x10 pixels', /^10x10 ok$/],
    ['has an iCCP that inflates to 100 MB', /^10x10 ok$/],
    ['has 20 zTXt that inflate to 40 MB each', /^10x10 ok$/],
    ['has 20 iTXt that inflate to 40 MB each', /^10x10 ok$/],
    ['has 100,000 tEXt', /^10x10 ok$/],
    ['has a tEXt of 15 MB', /^10x10 ok$/],
    ['has 100,000 empty IDAT', /^10x10 ok$/],
    ['has no data at all', /^corrupt: /],
    ['has a wrong checksum', /^corrupt: /],
  ])('PNG that %s', async (name, end) => {
    expect(await endOf(pngs[name]())).toMatch(end)
  })

  it.each<[keyof typeof jpegs, RegExp]>([
    ['says 65,535x65,535', /^corrupt: the jpeg header cannot be read.*65500/],
    ['says 0x0', /^corrupt: the jpeg header cannot be read/],
    ['says 7,000x7,000 and has 37x23', /^7000x7000 warning: .*premature end of data/],
    ['has 101 scans', /^too large: it has over 100 scans$/],
    ['has 880 scans of 49 million pixels', /^too large: it has over 100 scans$/],
    ['has EXIF that is garbage', /^37x23 ok$/],
    ['has 300 EXIF segments', /^37x23 ok$/],
    ['has an ICC profile that is garbage', /^37x23 (ok|warning: .*)$/],
    ['has 255 ICC segments of 64 kB', /^37x23 (ok|warning: .*)$/],
  ])('JPEG that %s', async (name, end) => {
    expect(await endOf(await jpegs[name]())).toMatch(end)
  })

  it.each<[keyof typeof others, RegExp]>([
    ['GIF that says 65,535x65,535', /^1x1 ok$/],
    ['GIF whose frame says 65,535x65,535', /^too large: 65535x65535/],
    ['GIF of 200,000 frames', /^10x10 of 200000 frames ok$/],
    ['GIF of no frame', /^corrupt: /],
    ['WebP that says 16,000,000x16,000,000', /^corrupt: /],
    ['WebP with a canvas and nothing on it', /^corrupt: /],
    ['AVIF that says 60,000x60,000', /^too large: 60000x60000/],
    ['AVIF that says 6,000x6,000 and has 37x23', /^corrupt: /],
    ['TIFF that says 100,000x100,000', /^too large: 100000x100000/],
    ['TIFF that says 7,000x7,000 and has no pixel', /^corrupt: /],
    ['TIFF with one tile of 2 billion rows', /^corrupt: /],
    ['TIFF of 100 samples a pixel', /^corrupt: the tiff header cannot be read .*channel limit/],
    ['TIFF of 4 samples of 32 bits', /^too large: a pixel has 16 bytes; 10 are allowed$/],
    ['TIFF of 65,535 samples a pixel', /^corrupt: /],
    ['TIFF whose directory follows itself', /^4x4 warning: .*IFD looping/],
  ])('%s', async (name, end) => {
    expect(await endOf(await others[name]())).toMatch(end)
  })

  it('the scans of a JPEG count up to its end, not in a film behind it', async () => {
    const whole = await pictures.jpeg()
    const film = Buffer.concat(Array.from({ length: 200 }, () => Buffer.from([0xff, 0xda, 0, 2])))
    expect(await endOf(Buffer.concat([whole, film]))).toBe('37x23 ok')
    expect(await endOf(manyScans(64, 100))).toBe('64x64 ok')
    expect(await endOf(Buffer.concat([whole.subarray(0, whole.length - 2), film]))).toMatch(/^too large: /)
  })

  it('and all of them together had bounded memory', async () => {
    const { made } = await pool.turn(await pictures.png(), [hostile.tellsMemory])
    expect(Number(made[0]!.bytes.toString())).toBeLessThan(700)
  })
})

describe('what is no picture that we take', () => {
  const taken = 'jpeg, png, gif, webp, tiff, avif'
  it.each([
    ['', 'there are no bytes'],
    ['\x89', `it begins with 89, which is none of ${taken}`],
    ['\xff', `it begins with ff, which is none of ${taken}`],
    ['<!DOCTYPE html><html>', 'it is an HTML page'],
    ['\xef\xbb\xbf  \n<html lang="en">', 'it is an HTML page'],
    ['{"error":"no"}', 'it looks like JSON'],
    ['<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 'it is SVG, which is not taken'],
    [
      '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
      'it is SVG, which is not taken',
    ],
    [
      '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;&b;&b;</svg>',
      'it is SVG, which is not taken',
    ],
    ['<!-- drawn by hand --><svg/>', 'it is SVG, which is not taken'],
    ['<?xml version="1.0"?><rss/>', 'it is XML'],
    ['%PDF-1.7\n', `it is a PDF, which is not taken; ${taken} are`],
    ['%!PS-Adobe', `it is PostScript, which is not taken; ${taken} are`],
    ['8BPS\0\x01', `it is a PSD, which is not taken; ${taken} are`],
    ['BM\x36\0\0\0', `it is a BMP, which is not taken; ${taken} are`],
    ['\0\0\x01\0\x01\0', `it is an icon, which is not taken; ${taken} are`],
    ['\0\0\0\x18ftypheic\0\0\0\0', `it is HEIF, which is not taken; ${taken} are`],
    ['\0\0\0\x18ftypmif1\0\0\0\0', `it is HEIF, which is not taken; ${taken} are`],
    ['\xff\x0a\xff\x07', `it is JPEG XL, which is not taken; ${taken} are`],
    ['\0\0\0\x0cjP  \r\n\x87\n', `it is JPEG 2000, which is not taken; ${taken} are`],
    ['II+\0\x08\0', `it is BigTIFF, which is not taken; ${taken} are`],
    ['PK\x03\x04', `it begins with 504b0304, which is none of ${taken}`],
  ])('%j is refused without a decoder', async (text, why) => {
    expect(await endOf(bytes(text))).toBe(`not an image: ${why}`)
  })

  it('is told by its bytes, not by its start alone: what only begins like a picture is corrupt', async () => {
    for (const head of [
      '\xff\xd8\xff',
      '\x89PNG\r\n\x1a\n',
      'GIF89a',
      'RIFF\0\0\0\0WEBP',
      'II*\0',
      '\0\0\0\x18ftypavif',
    ]) {
      expect(await endOf(bytes(head))).toMatch(/^corrupt: the \w+ header cannot be read/)
      expect(await endOf(bytes(`${head}<script>alert(1)</script>`))).toMatch(/^corrupt: the \w+ header cannot be read/)
    }
  })
})

describe('polyglots are what they are by their first bytes', () => {
  it('a GIF that is a script, a JPEG that is an archive, a PNG that is a page, a picture in front of a PDF', async () => {
    const script = Buffer.concat([gif(7, 5, 1), bytes('/*"]; alert(1) //*/')])
    expect(await endOf(script)).toMatch(/^7x5 (ok|warning: .*)$/)
    expect(await endOf(Buffer.concat([await pictures.jpeg(), bytes('PK\x03\x04archive')]))).toBe('37x23 ok')
    const page = pngChunk('tEXt', bytes('Comment\0<html><script>alert(1)</script>'))
    expect(await endOf(png({ width: 3, height: 2 }, page, zeros(2, 10)))).toBe('3x2 ok')
    expect(await endOf(Buffer.concat([await pictures.jpeg(), bytes('%PDF-1.7')]))).toBe('37x23 ok')
    expect(await endOf(Buffer.concat([bytes('%PDF-1.7\n'), await pictures.jpeg()]))).toMatch(
      /^not an image: it is a PDF/,
    )
    expect(await endOf(Buffer.concat([bytes('\n'), await pictures.jpeg()]))).toMatch(/^not an image: it begins with 0a/)
  })
})

describe('extremes', () => {
  it('of size and aspect', async () => {
    expect(await endOf(png({ width: 1, height: 1 }, zeros(1, 4)))).toBe('1x1 ok')
    expect(await endOf(png({ width: 1, height: 65_535 }, zeros(65_535, 4)))).toBe('1x65535 ok')
    expect(await endOf(png({ width: 65_535, height: 1 }, zeros(1, 65_535 * 3 + 1)))).toBe('65535x1 ok')
    expect(await endOf(resizedJpeg(await pictures.jpeg(), 37, 0))).toMatch(/^corrupt: /)
  })

  it('of animations and pages: the first one, and how many there are', async () => {
    expect(await endOf(await pictures.animation())).toBe('37x23 of 2 frames ok')
    const { width, height } = size
    const frames = { raw: { width, height: height * 2, channels: 3 as const, pageHeight: height } }
    const webp = await sharp(Buffer.alloc(width * height * 6, 9), frames)
      .webp()
      .toBuffer()
    expect(await endOf(webp)).toMatch(/^37x23 (of \d frames )?ok$/)
    const pages = await sharp(Buffer.alloc(width * height * 6, 9), frames)
      .tiff()
      .toBuffer()
    expect(await endOf(pages)).toBe('37x23 of 2 frames ok')
    const animated = png({ width: 3, height: 2 }, pngChunk('acTL', Buffer.from([0, 0, 0, 9, 0, 0, 0, 0])), zeros(2, 10))
    expect(await endOf(animated)).toBe('3x2 ok')
  })

  it('of orientation: 1 to 8 turn, anything else does not', async () => {
    for (const orientation of [0, 1, 2, 3, 4, 9, 255, 65_535]) {
      const raw = withSegments(await pictures.jpeg(), { marker: 0xe1, data: exif(orientation) })
      expect(await endOf(raw)).toMatch(/^37x23 (ok|warning: .*)$/)
    }
    for (const orientation of [5, 6, 7, 8]) {
      expect(await endOf(withSegments(await pictures.jpeg(), { marker: 0xe1, data: exif(orientation) }))).toBe(
        '23x37 ok',
      )
    }
  })

  it('of colour: YCCK, 16 bits, a palette with transparency, a broken profile', async () => {
    const cmyk = await pictures.cmyk()
    expect((await sharp(cmyk).metadata()).space).toBe('cmyk')
    const adobe = cmyk.indexOf('Adobe')
    expect(adobe).toBeGreaterThan(0)
    // The byte that says how the four channels are coded: 0 CMYK, 2 YCCK.
    for (const coding of [0, 2]) {
      const raw = Buffer.from(cmyk)
      raw[adobe + 11] = coding
      expect(await endOf(raw)).toBe('37x23 ok')
    }
    for (const kind of ['deep', 'deepAlpha', 'deepGrey', 'greyAlpha', 'alpha', 'palette'] as const) {
      expect(await endOf(await pictures[kind]())).toBe('37x23 ok')
    }
    const palette = [pngChunk('PLTE', Buffer.from([255, 0, 0, 0, 0, 255])), pngChunk('tRNS', Buffer.from([0, 255]))]
    const rows = pngChunk('IDAT', deflateSync(Buffer.from([0, 0, 1])))
    const raw = png({ width: 2, height: 1, colour: 3 }, ...palette, rows)
    expect(await endOf(raw)).toBe('2x1 ok')
    const [grey] = (await pool.turn(raw, [grayscale()])).made
    // Transparent red is white, and blue is blue.
    expect([...(await sharp(grey!.bytes).toColourspace('b-w').raw().toBuffer())]).toEqual([255, 29])
  })

  it('of a PNG without interlacing and with, of a tiny grey picture and of TIFF without data', async () => {
    expect(await endOf(png({ width: 8, height: 8, interlaced: true }, zeros(15, 25)))).toMatch(/^8x8 (ok|warning: .*)$/)
    expect(await endOf(tiff({ width: 0, height: 1 }))).toMatch(/^corrupt: /)
  })
})

describe('damage', () => {
  const kinds = {
    jpeg: pictures.jpeg,
    progressive: async () =>
      sharp(await pictures.jpeg())
        .jpeg({ progressive: true })
        .toBuffer(),
    png: pictures.png,
    gif: pictures.animation,
    webp: pictures.webp,
    tiff: pictures.tiff,
    avif,
  } as const

  it.each(Object.keys(kinds) as (keyof typeof kinds)[])('%s cut off at each tenth is corrupt', async (kind) => {
    const whole = await kinds[kind]()
    for (let tenth = 0; tenth < 10; tenth += 1) {
      const end = await endOf(whole.subarray(0, Math.floor((whole.length * tenth) / 10)))
      if (tenth === 0) expect(end).toBe('not an image: there are no bytes')
      // Of the GIF the second frame is missing from half on: the first is whole.
      else if (kind === 'gif' && end.startsWith('37x23')) expect(tenth).toBeGreaterThanOrEqual(5)
      else expect(end).toMatch(/^(corrupt|not an image): /)
    }
    expect(await endOf(whole)).toMatch(/ ok$/)
  })

  it('garbage behind the end harms nothing', async () => {
    const garbage = Buffer.from(samples(3))
    for (const make of Object.values(kinds)) {
      const whole = await make()
      expect(await endOf(Buffer.concat([whole, garbage]))).toMatch(/^37x23 (of 2 frames )?(ok|warning: .*)$/)
    }
  })

  const count = Number(process.env.FUZZ ?? 12)
  const seed = Number(process.env.FUZZ_SEED ?? 20_261_121)
  it(`${count} mutations of each kind end in a state, and the decoder lives (FUZZ_SEED=${seed})`, {
    timeout: 60_000 + count * 5_000,
  }, async () => {
    const random = seededRandom(seed)
    const below = (most: number) => Math.floor(random() * most)
    const ends: Record<string, number> = {}
    for (const [kind, make] of Object.entries(kinds)) {
      const whole = await make()
      for (let n = 0; n < count; n += 1) {
        const raw = mutated(whole, below)
        const end = await endOf(raw).catch((error: Error) => {
          throw new Error(`${kind} mutation ${n}: ${error.message}`)
        })
        const state = /^(corrupt|not an image|too large)/.exec(end)?.[1] ?? / (ok|warning)/.exec(end)?.[1] ?? end
        ends[state] = (ends[state] ?? 0) + 1
      }
    }
    expect(
      Object.keys(ends).filter((state) => !['ok', 'warning', 'corrupt', 'not an image', 'too large'].includes(state)),
    ).toEqual([])
    expect(Object.values(ends).reduce((sum, one) => sum + one)).toBe(count * Object.keys(kinds).length)
    expect(await endOf(await pictures.png())).toBe('37x23 ok')
  })
})

/** One to eight changes: a byte, a word of an extreme, a piece left out, doubled, or moved. */
function mutated(whole: Buffer, below: (most: number) => number): Buffer {
  let raw = Buffer.from(whole)
  for (let changes = 1 + below(8); changes > 0 && raw.length > 4; changes -= 1) {
    const at = below(raw.length - 4)
    const to = Math.min(raw.length, at + 1 + below(64))
    const kind = below(5)
    if (kind === 0) raw[at] = below(256)
    else if (kind === 1) raw.writeUInt32BE([0, 1, 0x7fffffff, 0xffffffff, 0xff][below(5)]!, at)
    else if (kind === 2) raw = Buffer.concat([raw.subarray(0, at), raw.subarray(to)])
    else if (kind === 3) raw = Buffer.concat([raw.subarray(0, to), raw.subarray(at)])
    else raw = Buffer.concat([raw.subarray(0, at), raw.subarray(to), raw.subarray(at, to)])
  }
  return raw
}
