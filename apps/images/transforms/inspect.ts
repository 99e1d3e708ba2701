import sharp from 'sharp'
import { ImageError } from './image-error.ts'

/** What the header of a picture says, without decoding a pixel. */
export interface ImageFacts {
  readonly format: ImageFormat
  readonly mimeType: string
  /** In pixels, after the orientation is applied. */
  readonly width: number
  readonly height: number
  /** EXIF orientation, 1 to 8; 1 is upright. */
  readonly orientation: number
  /** Frames or pages; transforms take the first. */
  readonly pages: number
  readonly bytes: number
}

export type ImageFormat = 'jpeg' | 'png' | 'gif' | 'webp' | 'tiff' | 'avif'

/** Pictures with more pixels are refused before anything is decoded. */
export const defaultMaxPixels = 50_000_000

const formats: readonly { format: ImageFormat; matches(head: string): boolean }[] = [
  { format: 'jpeg', matches: (head) => head.startsWith('\xff\xd8\xff') },
  { format: 'png', matches: (head) => head.startsWith('\x89PNG\r\n\x1a\n') },
  { format: 'gif', matches: (head) => /^GIF8[79]a/.test(head) },
  { format: 'webp', matches: (head) => head.startsWith('RIFF') && head.startsWith('WEBP', 8) },
  { format: 'tiff', matches: (head) => head.startsWith('II*\0') || head.startsWith('MM\0*') },
  { format: 'avif', matches: (head) => /^....ftyp(avif|avis)/s.test(head) },
]

/** The format by the first bytes; whatever the server called it. SVG is a program, not a picture, and is not taken. */
export function sniff(raw: Buffer): ImageFormat | undefined {
  const head = raw.toString('latin1', 0, 16)
  return formats.find((format) => format.matches(head))?.format
}

/**
 * @throws ImageError `not an image` (sniffed), `corrupt` (the header cannot be read), `too large` (over `maxPixels`,
 * all by the header alone, so that a pixel bomb costs nothing).
 */
export async function inspect(raw: Buffer, limits: { maxPixels?: number } = {}): Promise<ImageFacts> {
  const format = sniff(raw)
  if (!format) throw new ImageError('not an image', whatItLooksLike(raw))
  const header = await sharp(raw, { failOn: 'none', limitInputPixels: false })
    .metadata()
    .catch((cause: unknown) => {
      throw new ImageError('corrupt', `the ${format} header cannot be read (${firstLine(cause)})`, cause)
    })
  const pages = header.pages ?? 1
  const maxPixels = limits.maxPixels ?? defaultMaxPixels
  if (header.width * header.height > maxPixels) {
    throw new ImageError('too large', `${header.width}x${header.height} is over ${maxPixels} pixels`)
  }
  const orientation = header.orientation ?? 1
  const turned = orientation >= 5
  return {
    format,
    mimeType: `image/${format}`,
    width: turned ? header.height : header.width,
    height: turned ? header.width : header.height,
    orientation,
    pages,
    bytes: raw.length,
  }
}

function whatItLooksLike(raw: Buffer): string {
  if (raw.length === 0) return 'there are no bytes'
  const text = raw.toString('latin1', 0, 512).trimStart().toLowerCase()
  if (text.startsWith('<svg') || (text.startsWith('<?xml') && text.includes('<svg')))
    return 'it is SVG, which is not taken'
  if (text.startsWith('<!doctype html') || text.startsWith('<html')) return 'it is an HTML page'
  if (text.startsWith('{') || text.startsWith('[')) return 'it looks like JSON'
  return `it begins with ${raw.toString('hex', 0, 8)}, which is none of ${formats.map(({ format }) => format).join(', ')}`
}

/** The first line of what a decoder said. */
export function firstLine(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return message.split('\n', 1)[0] ?? ''
}
