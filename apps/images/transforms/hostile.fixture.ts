/** Bytes that somebody made to do harm, or that a bad day made, as code. */
import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { pictures } from './pictures.fixture.ts'

const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
const none = Buffer.alloc(0)

export function pngChunk(type: string, data: Buffer = none): Buffer {
  const framed = Buffer.alloc(data.length + 12)
  framed.writeUInt32BE(data.length, 0)
  framed.write(type, 4, 'latin1')
  data.copy(framed, 8)
  framed.writeUInt32BE(crc32(framed.subarray(4, -4)), data.length + 8)
  return framed
}

interface PngHeader {
  readonly width: number
  readonly height: number
  readonly depth?: number
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. */
  readonly colour?: number
  readonly interlaced?: boolean
}

/** A PNG of these chunks between its header and its end. */
export function png({ width, height, depth = 8, colour = 2, interlaced = false }: PngHeader, ...chunks: Buffer[]) {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, depth, colour, 0, 0, interlaced ? 1 : 0])
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  return Buffer.concat([signature, pngChunk('IHDR', header), ...chunks, pngChunk('IEND')])
}

/** Pixel data of zeros, `rows` of so many bytes, the filter byte included. */
export const zeros = (rows: number, rowBytes: number) => pngChunk('IDAT', deflateSync(Buffer.alloc(rows * rowBytes)))

const small = { width: 10, height: 10 }
const smallData = () => zeros(10, 31)
const text = (value: string) => Buffer.from(value, 'latin1')

export const pngs = {
  'says 50,000x50,000': () => png({ width: 50_000, height: 50_000 }, pngChunk('IDAT')),
  'says 0x0': () => png({ width: 0, height: 0 }, pngChunk('IDAT')),
  'says 2,147,483,647 squared': () => png({ width: 2_147_483_647, height: 2_147_483_647 }, pngChunk('IDAT')),
  'says 7,000x7,000 with no pixel': () => png({ width: 7_000, height: 7_000 }, pngChunk('IDAT', deflateSync(none))),
  'is one pixel high and 65,536 wide': () => png({ width: 65_536, height: 1 }, zeros(1, 65_536 * 3 + 1)),
  'holds 300 MB of zeros for 10x10 pixels': () => png(small, zeros(1, 300_000_000)),
  'has an iCCP that inflates to 100 MB': () =>
    png(small, pngChunk('iCCP', Buffer.concat([text('x\0\0'), deflateSync(Buffer.alloc(100_000_000))])), smallData()),
  'has 20 zTXt that inflate to 40 MB each': () => {
    const bomb = pngChunk('zTXt', Buffer.concat([text('Comment\0\0'), deflateSync(Buffer.alloc(40_000_000, 65))]))
    return png(small, ...Array.from({ length: 20 }, () => bomb), smallData())
  },
  'has 20 iTXt that inflate to 40 MB each': () => {
    const head = text('XML:com.adobe.xmp\0\x01\0\0\0')
    const bomb = pngChunk('iTXt', Buffer.concat([head, deflateSync(Buffer.alloc(40_000_000, 65))]))
    return png(small, ...Array.from({ length: 20 }, () => bomb), smallData())
  },
  'has 100,000 tEXt': () => {
    const chunk = pngChunk('tEXt', text('Comment\0x'))
    return png(small, ...Array.from({ length: 100_000 }, () => chunk), smallData())
  },
  'has a tEXt of 15 MB': () => png(small, pngChunk('tEXt', Buffer.alloc(15_000_000, 65)), smallData()),
  'has 100,000 empty IDAT': () =>
    png(small, Buffer.concat(Array.from({ length: 100_000 }, () => pngChunk('IDAT'))), smallData()),
  'has no data at all': () => png(small),
  'has a wrong checksum': () => {
    const bytes = png(small, smallData())
    bytes[40] = bytes[40]! ^ 1
    return bytes
  },
}

/** A segment of a JPEG, its length in front. */
function segment(marker: number, data: Buffer): Buffer {
  const head = Buffer.from([0xff, marker, 0, 0])
  head.writeUInt16BE(data.length + 2, 2)
  return Buffer.concat([head, data])
}

/** Bits as the entropy-coded data of a scan: filled up with ones, and 0xff stuffed. */
function entropy(bits: string): Buffer {
  const filled = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1')
  const bytes = (filled.match(/.{8}/g) ?? []).flatMap((byte) => {
    const value = Number.parseInt(byte, 2)
    return value === 0xff ? [0xff, 0] : [value]
  })
  return Buffer.from(bytes)
}

/**
 * A grey progressive JPEG that is sound and says almost nothing in very many scans: one for each coefficient and bit, where each
 * costs the decoder a walk over all blocks, and the sender some 60 bytes.
 */
export function manyScans(side: number, scans: number): Buffer {
  const blocks = Math.ceil(side / 8) ** 2
  const size = Buffer.alloc(9)
  size[0] = 8
  size.writeUInt16BE(side, 1)
  size.writeUInt16BE(side, 3)
  size.set([1, 1, 0x11, 0], 5)
  const oneCode = (id: number, symbol: number) => Buffer.from([id, 1, ...Array(15).fill(0), symbol])
  // The only code of the AC table is "the next 2^14 + n blocks end here", n in 14 bits.
  const runs = Array.from({ length: Math.ceil(blocks / 32_767) }, (_, at) => Math.min(32_767, blocks - at * 32_767))
  const ends = (count: number) => {
    if (count >= 16_384) return `0${(count - 16_384).toString(2).padStart(14, '0')}`
    const category = Math.floor(Math.log2(count))
    return `10${category === 0 ? '' : (count - 2 ** category).toString(2).padStart(category, '0')}`
  }
  const last = runs.at(-1)!
  const category = Math.floor(Math.log2(last))
  const tables = Buffer.concat([oneCode(0x00, 0), Buffer.from([0x10, 1, 1, ...Array(14).fill(0), 0xe0, category << 4])])
  const data = entropy(runs.map((run) => ends(run)).join(''))
  const scan = (from: number, to: number, high: number, low: number) =>
    segment(0xda, Buffer.from([1, 1, 0, from, to, (high << 4) | low]))
  const parts = [scan(0, 0, 0, 0), Buffer.alloc(Math.ceil(blocks / 8))]
  let made = 1
  for (let coefficient = 1; coefficient < 64 && made < scans; coefficient += 1) {
    for (let low = 13; low >= 0 && made < scans; low -= 1, made += 1) {
      parts.push(scan(coefficient, coefficient, low === 13 ? 0 : low + 1, low), data)
    }
  }
  return Buffer.concat([
    Buffer.from([0xff, 0xd8]),
    segment(0xdb, Buffer.concat([Buffer.from([0]), Buffer.alloc(64, 1)])),
    segment(0xc2, size),
    segment(0xc4, tables),
    ...parts,
    Buffer.from([0xff, 0xd9]),
  ])
}

/** Changes the size that the frame header of a JPEG says. */
export function resizedJpeg(whole: Buffer, width: number, height: number): Buffer {
  const bytes = Buffer.from(whole)
  let at = 2
  while (bytes[at + 1]! < 0xc0 || bytes[at + 1]! > 0xc3) at += 2 + bytes.readUInt16BE(at + 2)
  bytes.writeUInt16BE(height, at + 5)
  bytes.writeUInt16BE(width, at + 7)
  return bytes
}

/** Puts marker segments behind the start of a JPEG. */
export function withSegments(whole: Buffer, ...segments: { marker: number; data: Buffer }[]): Buffer {
  const framed = segments.map(({ marker, data }) => segment(marker, data))
  return Buffer.concat([whole.subarray(0, 2), ...framed, whole.subarray(2)])
}

/** An EXIF segment with nothing but this orientation. */
export function exif(orientation: number): Buffer {
  const bytes = Buffer.from('Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0', 'latin1')
  bytes.writeUInt16BE(orientation, 24)
  return bytes
}

const app1 = (data: Buffer) => ({ marker: 0xe1, data })
const app2 = (data: Buffer) => ({ marker: 0xe2, data })

export const jpegs = {
  'says 65,535x65,535': async () => resizedJpeg(await pictures.jpeg(), 65_535, 65_535),
  'says 7,000x7,000 and has 37x23': async () => resizedJpeg(await pictures.jpeg(), 7_000, 7_000),
  'says 0x0': async () => resizedJpeg(await pictures.jpeg(), 0, 0),
  'has 101 scans': () => manyScans(64, 101),
  'has 880 scans of 49 million pixels': () => manyScans(7_000, 880),
  'has EXIF that is garbage': async () =>
    withSegments(await pictures.jpeg(), app1(Buffer.concat([text('Exif\0\0'), Buffer.alloc(60_000, 0xa5)]))),
  'has 300 EXIF segments': async () =>
    withSegments(await pictures.jpeg(), ...Array.from({ length: 300 }, () => app1(Buffer.alloc(65_000, 65)))),
  'has an ICC profile that is garbage': async () =>
    withSegments(
      await pictures.jpeg(),
      app2(Buffer.concat([text('ICC_PROFILE\0\x01\x01'), Buffer.alloc(3_000, 0x5a)])),
    ),
  'has 255 ICC segments of 64 kB': async () =>
    withSegments(
      await pictures.jpeg(),
      ...Array.from({ length: 255 }, (_, at) =>
        app2(Buffer.concat([text('ICC_PROFILE\0'), Buffer.from([at + 1, 255]), Buffer.alloc(65_000, 0x5a)])),
      ),
    ),
}

/** A GIF of one black pixel per frame on a canvas that it says it has. */
export function gif(width: number, height: number, frames: number, ofFrame = 1): Buffer {
  const head = Buffer.from('GIF89a\0\0\0\0\x80\0\0\0\0\0\xff\xff\xff', 'latin1')
  head.writeUInt16LE(width, 6)
  head.writeUInt16LE(height, 8)
  const frame = Buffer.from('\x21\xf9\x04\0\x0a\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0', 'latin1')
  frame.writeUInt16LE(ofFrame, 13)
  frame.writeUInt16LE(ofFrame, 15)
  return Buffer.concat([head, ...Array.from({ length: frames }, () => frame), Buffer.from(';')])
}

interface TiffTags {
  readonly width: number
  readonly height: number
  readonly [tag: number]: number
}

/** A little-endian TIFF of 8-bit grey with one strip that is not there. `next` is where its next directory lies. */
export function tiff({ width, height, ...more }: TiffTags, next = 0): Buffer {
  const tags = {
    256: width,
    257: height,
    258: 8,
    259: 1,
    262: 1,
    273: 8,
    277: 1,
    278: height,
    279: width * height,
    ...more,
  }
  const entries = Object.entries(tags).map(([tag, value]) => {
    const entry = Buffer.alloc(12)
    entry.writeUInt16LE(Number(tag), 0)
    entry.writeUInt16LE(4, 2)
    entry.writeUInt32LE(1, 4)
    entry.writeUInt32LE(value >>> 0, 8)
    return entry
  })
  const head = Buffer.from('II*\0\x08\0\0\0', 'latin1')
  const count = Buffer.alloc(2)
  count.writeUInt16LE(entries.length)
  const end = Buffer.alloc(4)
  end.writeUInt32LE(next)
  return Buffer.concat([head, count, ...entries, end])
}

/** A WebP that says that its canvas is this large, with nothing on it. */
export function webpCanvas(width: number, height: number): Buffer {
  const bytes = Buffer.alloc(30)
  bytes.write('RIFF', 0, 'latin1')
  bytes.writeUInt32LE(22, 4)
  bytes.write('WEBPVP8X', 8, 'latin1')
  bytes.writeUInt32LE(10, 16)
  bytes[20] = 0x02
  bytes.writeUIntLE(width - 1, 24, 3)
  bytes.writeUIntLE(height - 1, 27, 3)
  return bytes
}

/** Changes the size that an AVIF says of its picture. */
export function resizedAvif(whole: Buffer, width: number, height: number): Buffer {
  const bytes = Buffer.from(whole)
  const at = bytes.indexOf('ispe') + 8
  bytes.writeUInt32BE(width, at)
  bytes.writeUInt32BE(height, at + 4)
  return bytes
}

export const avif = async () =>
  sharp(await pictures.png())
    .avif({ effort: 0 })
    .toBuffer()

export const others = {
  'GIF that says 65,535x65,535': () => gif(65_535, 65_535, 1),
  'GIF whose frame says 65,535x65,535': () => gif(65_535, 65_535, 1, 65_535),
  'GIF of 200,000 frames': () => gif(10, 10, 200_000),
  'GIF of no frame': () => gif(10, 10, 0),
  'WebP that says 16,000,000x16,000,000': () => webpCanvas(16_000_000, 16_000_000),
  'WebP with a canvas and nothing on it': () => webpCanvas(100, 100),
  'AVIF that says 60,000x60,000': async () => resizedAvif(await avif(), 60_000, 60_000),
  'AVIF that says 6,000x6,000 and has 37x23': async () => resizedAvif(await avif(), 6_000, 6_000),
  'TIFF that says 100,000x100,000': () => tiff({ width: 100_000, height: 100_000 }),
  'TIFF that says 7,000x7,000 and has no pixel': () => tiff({ width: 7_000, height: 7_000 }),
  'TIFF with one tile of 2 billion rows': () => tiff({ width: 100, height: 100, 322: 16, 323: 2_000_000_000 }),
  'TIFF of 4 samples of 32 bits': () => tiff({ width: 5_000, height: 5_000, 258: 32, 277: 4, 339: 3 }),
  'TIFF of 100 samples a pixel': () => tiff({ width: 5_000, height: 5_000, 277: 100 }),
  'TIFF of 65,535 samples a pixel': () => tiff({ width: 5_000, height: 5_000, 277: 65_535 }),
  'TIFF whose directory follows itself': () => tiff({ width: 4, height: 4 }, 8),
}
