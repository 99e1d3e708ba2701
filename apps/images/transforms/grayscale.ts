import { setImmediate as breathe } from 'node:timers/promises'
import { type Pixels, withPixels } from './decode.ts'
import { encodeGreyPng } from './grey-png.ts'
import { perceptualHash } from './perceptual-hash.ts'
import { giveScratch, takeScratch } from './scratch.ts'
import type { ImageTransform } from './transform.ts'

/**
 * Weights of red, green and blue in 65,536ths; each triple sums to 65,536, so that grey stays what it is. Applied to the
 * gamma-coded 8-bit sRGB values and rounded to the nearest level.
 * - `bt601`: luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B
 * - `average`: (R + G + B) / 3
 */
const formulas = {
  bt601: [19_595, 38_470, 7_471],
  average: [21_845, 21_846, 21_845],
} as const

export type GrayscaleFormula = keyof typeof formulas

/** Pixels that are turned in one go; the event loop gets its turn in between. About 2 ms. */
const bandPixels = 1_000_000

/**
 * The grey picture as a lossless PNG of one 8-bit channel. The EXIF orientation is applied, transparency is composited on
 * white, of an animation the first frame is taken; CMYK, 16 bits and profiles are converted as `withPixels` says.
 */
export function grayscale({ formula = 'bt601' }: { formula?: GrayscaleFormula } = {}): ImageTransform {
  return {
    name: `grayscale-${formula}`,
    version: 1,
    mimeType: 'image/png',
    apply: (raw, facts) =>
      withPixels(raw, facts, async (pixels) => {
        const { width, height, warning } = pixels
        const grey = await greyOf(pixels, formula)
        const hash = perceptualHash(grey, width, height)
        const made = {
          bytes: await encodeGreyPng(grey, width, height),
          width,
          height,
          ...(warning === undefined ? {} : { warning }),
          ...(hash === undefined ? {} : { perceptualHash: hash }),
        }
        giveScratch(grey)
        return made
      }),
  }
}

/** One byte per pixel. */
async function greyOf({ data, channels }: Pixels, formula: GrayscaleFormula): Promise<Buffer> {
  const count = data.length / channels
  const grey = takeScratch(count)
  for (let from = 0; from < count; from += bandPixels) {
    if (from > 0) await breathe()
    const to = Math.min(count, from + bandPixels)
    if (channels === 3) turnOpaque(data, grey, from, to, formulas[formula])
    else turnTransparent(data, grey, from, to, formulas[formula])
  }
  return grey
}

type Weights = readonly [number, number, number]

function turnOpaque(rgb: Buffer, grey: Buffer, from: number, to: number, [red, green, blue]: Weights): void {
  let at = from * 3
  for (let pixel = from; pixel < to; pixel += 1) {
    grey[pixel] = (rgb[at]! * red + rgb[at + 1]! * green + rgb[at + 2]! * blue + 32_768) >>> 16
    at += 3
  }
}

/** On white, in the gamma-coded values: `a * luma + (1 - a) * 255`, rounded once. */
function turnTransparent(rgba: Buffer, grey: Buffer, from: number, to: number, [red, green, blue]: Weights): void {
  let at = from * 4
  for (let pixel = from; pixel < to; pixel += 1) {
    const luma = (rgba[at]! * red + rgba[at + 1]! * green + rgba[at + 2]! * blue) / 65_536
    grey[pixel] = Math.floor(255 + ((luma - 255) * rgba[at + 3]!) / 255 + 0.5)
    at += 4
  }
}
