import type { Metadata } from 'sharp'
import { ImageError } from './image-error.ts'
import { openPicture } from './vips.ts'

/** What the header of a picture says, without decoding a pixel. */
export interface ImageFacts {
  readonly format: ImageFormat
  readonly mimeType: string
  /** In pixels, after the orientation is applied. */
  readonly width: number
  readonly height: number
  /** EXIF orientation, 1 to 8; 1 is upright. */
  readonly orientation: number
  /** Of an animation, or pages; transforms take the first. An animated PNG counts as one. */
  readonly frames: number
  readonly bytes: number
}

export type ImageFormat = 'jpeg' | 'png' | 'gif' | 'webp' | 'tiff' | 'avif'

/** Pictures with more pixels are refused before anything is decoded. */
export const defaultMaxPixels = 50_000_000
/** Pixels that a side has at most. It is what a JPEG can have, rounded up; a PNG could have 2 billion in one row. */
const maxSide = 65_535
/** Of all channels together: CMYK and alpha of 16 bits. A TIFF could have 65,535 channels. */
const maxPixelBytes = 10
const sampleBytes: Readonly<Record<string, number>> = {
  ...{ uchar: 1, char: 1, ushort: 2, short: 2, uint: 4, int: 4, float: 4, double: 8, complex: 8, dpcomplex: 16 },
}
/** Scans that a JPEG has at most; usual are 10. Each costs a walk over all pixels and may have 60 bytes (880 of 49 million: 27 s). */
const maxScans = 100

const formats: readonly { format: ImageFormat; matches(head: string): boolean }[] = [
  { format: 'jpeg', matches: (head) => head.startsWith('\xff\xd8\xff') },
  { format: 'png', matches: (head) => head.startsWith('\x89PNG\r\n\x1a\n') },
  { format: 'gif', matches: (head) => /^GIF8[79]a/.test(head) },
  { format: 'webp', matches: (head) => head.startsWith('RIFF') && head.startsWith('WEBP', 8) },
  { format: 'tiff', matches: (head) => head.startsWith('II*\0') || head.startsWith('MM\0*') },
  { format: 'avif', matches: (head) => /^....ftyp(avif|avis)/s.test(head) },
]

/** The format by the first bytes, whatever the server or the URL calls it. */
export function sniff(raw: Buffer): ImageFormat | undefined {
  const head = raw.toString('latin1', 0, 16)
  return formats.find((format) => format.matches(head))?.format
}

/**
 * @throws ImageError `not an image` (by its first bytes), `corrupt` (the header cannot be read), `too large` (over `maxPixels`, a
 * side of over 65,535, over 10 bytes a pixel, a JPEG of over 100 scans). All by the header alone, so that a pixel bomb costs nothing.
 */
export async function inspect(raw: Buffer, limits: { maxPixels?: number } = {}): Promise<ImageFacts> {
  const format = sniff(raw)
  if (!format) throw new ImageError('not an image', whatItLooksLike(raw))
  const picture = await openPicture(raw, { failOn: 'none', limitInputPixels: false })
  const header = await picture.metadata().catch((cause: unknown) => {
    throw new ImageError('corrupt', `the ${format} header cannot be read (${firstLine(cause)})`, cause)
  })
  refuseBombs(raw, format, header, limits.maxPixels ?? defaultMaxPixels)
  const orientation = header.orientation ?? 1
  const turned = orientation >= 5
  return {
    format,
    mimeType: `image/${format}`,
    width: turned ? header.height : header.width,
    height: turned ? header.width : header.height,
    orientation,
    frames: header.pages ?? 1,
    bytes: raw.length,
  }
}

type Header = Pick<Metadata, 'width' | 'height' | 'channels' | 'depth'>

function refuseBombs(raw: Buffer, format: ImageFormat, header: Header, maxPixels: number): void {
  const { width, height } = header
  if (width * height > maxPixels) throw new ImageError('too large', `${width}x${height} is over ${maxPixels} pixels`)
  if (Math.max(width, height) > maxSide) {
    throw new ImageError('too large', `${width}x${height} has a side of over ${maxSide} pixels`)
  }
  const pixelBytes = header.channels * (sampleBytes[header.depth] ?? 16)
  if (pixelBytes > maxPixelBytes) {
    throw new ImageError('too large', `a pixel has ${pixelBytes} bytes; ${maxPixelBytes} are allowed`)
  }
  if (format === 'jpeg' && scansOver(raw, maxScans)) {
    throw new ImageError('too large', `it has over ${maxScans} scans`)
  }
}

/** Whether a JPEG has more scans before it ends; what comes behind its end, such as the film of a moving photo, does not count. */
function scansOver(raw: Buffer, most: number): boolean {
  let scans = 0
  for (let at = raw.indexOf(0xff, 2); at >= 0 && at + 3 < raw.length; at = raw.indexOf(0xff, at)) {
    const marker = raw[at + 1]!
    if (marker === 0xd9) return false
    if (marker === 0xda) scans += 1
    if (scans > most) return true
    // Fill bytes, stuffed zeros and restarts have no length, and the data of a scan none either.
    if (marker === 0xff) at += 1
    else at += marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd7) ? 2 : 2 + raw.readUInt16BE(at + 2)
  }
  return false
}

/** Pages and data that are often served instead, by how their text begins. */
const texts: readonly (readonly [RegExp, string])[] = [
  [/^<(!doctype html|html|head|body)/i, 'it is an HTML page'],
  [/^(<\?xml.*|<!--.*)?<(!doctype )?svg/is, 'it is SVG, which is not taken'],
  [/^<\?xml/i, 'it is XML'],
  [/^[{[]/, 'it looks like JSON'],
]

/** Pictures of other formats, and documents, by their first bytes: hexadecimal, `..` stands for any byte. */
const strangers: readonly (readonly [string, string])[] = [
  ['25504446', 'a PDF'],
  ['25215053', 'PostScript'],
  ['38425053', 'a PSD'],
  ['424d', 'a BMP'],
  ['00000100', 'an icon'],
  ['00000200', 'a cursor'],
  ['........667479706865', 'HEIF'],
  ['........667479706d696631', 'HEIF'],
  ['........667479706d736631', 'HEIF'],
  ['ff0a', 'JPEG XL'],
  ['0000000c4a584c20', 'JPEG XL'],
  ['0000000c6a502020', 'JPEG 2000'],
  ['ff4fff51', 'JPEG 2000'],
  ['49492b00', 'BigTIFF'],
  ['4d4d002b', 'BigTIFF'],
]

function whatItLooksLike(raw: Buffer): string {
  if (raw.length === 0) return 'there are no bytes'
  // A byte-order mark and white space may stand before a page.
  const written = raw
    .toString('utf8', 0, 1_024)
    .replace(/^\ufeff/, '')
    .trimStart()
  const text = texts.find(([pattern]) => pattern.test(written))
  if (text) return text[1]
  const head = raw.toString('hex', 0, 16)
  const stranger = strangers.find(([bytes]) => new RegExp(`^${bytes}`).test(head))
  const taken = formats.map(({ format }) => format).join(', ')
  if (stranger) return `it is ${stranger[1]}, which is not taken; ${taken} are`
  return `it begins with ${head.slice(0, 16)}, which is none of ${taken}`
}

/** The first line of what a decoder said, but for the one by which libvips says that it takes a warning for an error. */
export function firstLine(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const lines = message.split('\n').filter((line) => !line.startsWith('Warning treated as error'))
  return (lines[0] ?? message).slice(0, 300)
}
