/** Pictures for tests, made as code: noisy colours, so that a wrong weight, channel or turn shows. */
import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { seededRandom } from '../origin/picture.ts'

export const size = { width: 37, height: 23 }

/** Interleaved samples from 0 to `max`: a slope per channel with noise on it. */
export function samples(channels: number, max = 255): number[] {
  const random = seededRandom(channels * 1_000 + max)
  const { width, height } = size
  return Array.from({ length: width * height * channels }, (_, at) => {
    const channel = at % channels
    const x = Math.floor(at / channels) % width
    const slope = channel % 2 === 0 ? x / width : 1 - x / width
    return Math.min(max, Math.floor((0.6 * slope + 0.4 * random()) * (max + 1)))
  })
}

const raw = (channels: 1 | 2 | 3 | 4) => ({ raw: { ...size, channels } })

export const pictures = {
  jpeg: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .jpeg({ quality: 90 })
      .toBuffer(),
  png: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .png()
      .toBuffer(),
  webp: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .webp()
      .toBuffer(),
  tiff: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .tiff({ compression: 'lzw' })
      .toBuffer(),
  turned: (orientation: number) =>
    sharp(Buffer.from(samples(3)), raw(3))
      .withMetadata({ orientation })
      .png()
      .toBuffer(),
  grey: () =>
    sharp(Buffer.from(samples(1)), raw(1))
      .toColourspace('b-w')
      .png()
      .toBuffer(),
  greyAlpha: () =>
    sharp(Buffer.from(samples(2)), raw(2))
      .toColourspace('b-w')
      .png()
      .toBuffer(),
  alpha: () =>
    sharp(Buffer.from(samples(4)), raw(4))
      .png()
      .toBuffer(),
  palette: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .png({ palette: true, colours: 16 })
      .toBuffer(),
  cmyk: () =>
    sharp(Buffer.from(samples(3)), raw(3))
      .toColourspace('cmyk')
      .jpeg({ quality: 95 })
      .toBuffer(),
  deep: () =>
    sharp(Uint16Array.from(samples(3, 65_535)), raw(3))
      .toColourspace('rgb16')
      .png()
      .toBuffer(),
  deepGrey: () =>
    sharp(Uint16Array.from(samples(1, 65_535)), raw(1))
      .toColourspace('grey16')
      .png()
      .toBuffer(),
  deepAlpha: () =>
    sharp(Uint16Array.from(samples(4, 65_535)), raw(4))
      .toColourspace('rgb16')
      .png()
      .toBuffer(),
  /** Two frames: the first white, the second black. */
  animation: () => {
    const { width, height } = size
    const frames = Buffer.alloc(width * height * 2 * 3)
    frames.fill(255, 0, width * height * 3)
    return sharp(frames, { raw: { width, height: height * 2, channels: 3, pageHeight: height } })
      .gif()
      .toBuffer()
  },
}

/** A PNG that says it is this large, with no pixels in it. */
export function hollowPng(width: number, height: number): Buffer {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0])
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  const chunk = (type: string, data: Buffer) => {
    const framed = Buffer.alloc(data.length + 12)
    framed.writeUInt32BE(data.length, 0)
    framed.write(type, 4, 'latin1')
    data.copy(framed, 8)
    framed.writeUInt32BE(crc32(framed.subarray(4, -4)), data.length + 8)
    return framed
  }
  const none = Buffer.alloc(0)
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', none), chunk('IEND', none)])
}
