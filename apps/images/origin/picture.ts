/**
 * Makes pictures that look like photographs to a decoder and to a compressor: smooth shapes, edges and grain. One base
 * texture is made once; a picture is a window of it, moved and tinted by width, height and seed, so that many different
 * ones are cheap (about 6 ms at 640x480). The same request gives the same bytes every time.
 */
import { createHash } from 'node:crypto'
import sharp from 'sharp'

export interface PictureRequest {
  /** Pixels, 1 to `maxSide`. */
  readonly width: number
  readonly height: number
  readonly seed: string
  readonly grayscale: boolean
}

export interface Picture {
  /** A baseline JPEG of at least half a bit per pixel. */
  readonly bytes: Buffer
  readonly etag: string
}

export const maxSide = 5_000

const quality = 78
/** Side of the square base texture in pixels, a power of two: it wraps around. */
const side = 1_024
const mask = side - 1
/** Octaves of value noise: spacing of the grid in pixels, and amplitude in levels. The last one is the grain. */
const octaves = [
  { spacing: 256, amplitude: 60 },
  { spacing: 64, amplitude: 34 },
  { spacing: 16, amplitude: 20 },
  { spacing: 4, amplitude: 11 },
  { spacing: 2, amplitude: 7 },
]

let base: Uint8Array | undefined

export async function makePicture(request: PictureRequest): Promise<Picture> {
  base ??= makeBase()
  const { width, height, grayscale } = request
  const pixels = window(base, request)
  const image = sharp(pixels, { raw: { width, height, channels: 3 } })
  const bytes = await (grayscale ? image.grayscale().toColourspace('b-w') : image).jpeg({ quality }).toBuffer()
  return { bytes, etag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"` }
}

/** Interleaved RGB of one picture. */
function window(texture: Uint8Array, { width, height, seed }: PictureRequest): Uint8ClampedArray {
  const digest = createHash('sha256').update(`${width}x${height} ${seed}`).digest()
  const left = digest.readUInt16LE(0)
  const top = digest.readUInt16LE(2)
  const pixels = new Uint8ClampedArray(width * height * 3)
  const across = [4, 5, 6].map((at) => slope(digest[at] ?? 0, width))
  const down = [7, 8, 9].map((at) => slope(digest[at] ?? 0, height))
  const [red, green, blue] = across as [Int16Array, Int16Array, Int16Array]
  let out = 0
  for (let y = 0; y < height; y += 1) {
    const row = ((y + top) & mask) * side
    const [r, g, b] = down.map((tints) => tints[y] ?? 0) as [number, number, number]
    for (let x = 0; x < width; x += 1) {
      const at = (row + ((x + left) & mask)) * 3
      pixels[out] = texture[at]! + red[x]! + r
      pixels[out + 1] = texture[at + 1]! + green[x]! + g
      pixels[out + 2] = texture[at + 2]! + blue[x]! + b
      out += 3
    }
  }
  return pixels
}

/** A tint that goes from one level to its opposite along a side. */
function slope(byte: number, length: number): Int16Array {
  const from = (byte - 128) / 3
  return Int16Array.from({ length }, (_, at) => Math.round(from * (1 - (2 * at) / length)))
}

function makeBase(): Uint8Array {
  const sums = new Float32Array(side * side * 3).fill(128)
  octaves.forEach(({ spacing, amplitude }, octave) => {
    for (let channel = 0; channel < 3; channel += 1) addNoise(sums, channel, spacing, amplitude, octave * 3 + channel)
  })
  return Uint8Array.from(sums, (level) => Math.max(0, Math.min(255, Math.round(level))))
}

/** Adds seeded value noise, interpolated between grid points, to one channel; it wraps around at the sides. */
function addNoise(sums: Float32Array, channel: number, spacing: number, amplitude: number, seed: number): void {
  const cells = side / spacing
  const random = seededRandom(seed + 1)
  const grid = Float32Array.from({ length: cells * cells }, () => (random() * 2 - 1) * amplitude)
  const weights = Float32Array.from({ length: spacing }, (_, at) => at / spacing)
  for (let y = 0; y < side; y += 1) {
    const upper = Math.floor(y / spacing) * cells
    const lower = ((Math.floor(y / spacing) + 1) % cells) * cells
    const v = weights[y % spacing]!
    for (let x = 0; x < side; x += 1) {
      const left = Math.floor(x / spacing)
      const right = (left + 1) % cells
      const u = weights[x % spacing]!
      const above = grid[upper + left]! * (1 - u) + grid[upper + right]! * u
      const below = grid[lower + left]! * (1 - u) + grid[lower + right]! * u
      sums[(y * side + x) * 3 + channel]! += above * (1 - v) + below * v
    }
  }
}

/** Numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
