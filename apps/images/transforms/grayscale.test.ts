import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { diagnose } from './decode.ts'
import { type GrayscaleFormula, grayscale } from './grayscale.ts'
import { ImageError } from './image-error.ts'
import { inspect } from './inspect.ts'
import { pictures, samples, size } from './pictures.fixture.ts'

/** The oracle: real arithmetic on decoded pixels, one at a time, on white. */
function oracle(rgba: readonly number[], formula: GrayscaleFormula): number {
  const [red, green, blue, alpha = 255] = rgba as [number, number, number, number?]
  const onWhite = [red, green, blue].map((level) => (level * alpha + 255 * (255 - alpha)) / 255) as [
    number,
    number,
    number,
  ]
  return formula === 'average'
    ? onWhite.reduce((sum, level) => sum + level) / 3
    : 0.299 * onWhite[0] + 0.587 * onWhite[1] + 0.114 * onWhite[2]
}

function oraclePixels(levels: ArrayLike<number>, channels: number, formula: GrayscaleFormula = 'bt601'): number[] {
  return Array.from({ length: levels.length / channels }, (_, pixel) => {
    const of = (channel: number) => levels[pixel * channels + channel] ?? 0
    if (channels < 3) return oracle([of(0), of(0), of(0), ...(channels === 2 ? [of(1)] : [])], formula)
    return oracle(
      Array.from({ length: channels }, (_, channel) => of(channel)),
      formula,
    )
  })
}

/** Where the stored pixel lies that an EXIF orientation shows at (x, y) (EXIF 2.32, tag 274). */
function storedAt(orientation: number, x: number, y: number, width: number, height: number): [number, number] {
  const positions: Record<number, [number, number]> = {
    1: [x, y],
    2: [width - 1 - x, y],
    3: [width - 1 - x, height - 1 - y],
    4: [x, height - 1 - y],
    5: [y, x],
    6: [y, height - 1 - x],
    7: [width - 1 - y, height - 1 - x],
    8: [width - 1 - y, x],
  }
  return positions[orientation] ?? [x, y]
}

async function greyOf(raw: Buffer, formula?: GrayscaleFormula) {
  const made = await grayscale(formula ? { formula } : {}).apply(raw, await inspect(raw))
  const header = await sharp(made.bytes).metadata()
  expect(header).toMatchObject({ format: 'png', channels: 1, depth: 'uchar', width: made.width, height: made.height })
  const { data, info } = await sharp(made.bytes).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true })
  expect(info.channels).toBe(1)
  return { ...made, levels: [...data] }
}

function furthest(found: readonly number[], wanted: readonly number[]): number {
  expect(found).toHaveLength(wanted.length)
  return found.reduce((worst, level, at) => Math.max(worst, Math.abs(level - wanted[at]!)), 0)
}

const decoded = async (raw: Buffer) => sharp(raw).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true })

describe('grey', () => {
  it.each(['jpeg', 'png', 'webp', 'tiff', 'palette', 'cmyk'] as const)(
    'of %s is within one level of the oracle',
    async (kind) => {
      const raw = await pictures[kind]()
      const { data, info } = await decoded(raw)
      for (const formula of ['bt601', 'average'] as const) {
        const { levels, warning } = await greyOf(raw, formula)
        expect(warning).toBeUndefined()
        expect(furthest(levels, oraclePixels(data, info.channels, formula))).toBeLessThan(0.51)
      }
    },
  )

  it('of CMYK starts from CMYK', async () => {
    expect(await sharp(await pictures.cmyk()).metadata()).toMatchObject({ space: 'cmyk', channels: 4 })
  })

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('is upright from orientation %i', async (orientation) => {
    const stored = oraclePixels(samples(3), 3)
    const { levels, width, height } = await greyOf(await pictures.turned(orientation))
    const turned = orientation >= 5
    expect({ width, height }).toEqual(turned ? { width: size.height, height: size.width } : size)
    const wanted = levels.map((_, at) => {
      const [x, y] = storedAt(orientation, at % width, Math.floor(at / width), size.width, size.height)
      return stored[y * size.width + x]!
    })
    expect(furthest(levels, wanted)).toBeLessThan(0.51)
  })

  it('of what is transparent lies on white', async () => {
    expect(furthest((await greyOf(await pictures.alpha())).levels, oraclePixels(samples(4), 4))).toBeLessThan(0.51)
    const greyAlpha = await greyOf(await pictures.greyAlpha())
    expect(furthest(greyAlpha.levels, oraclePixels(samples(2), 2))).toBeLessThan(0.51)
  })

  it('of 16 bits takes the high byte', async () => {
    const high = (channels: number) => samples(channels, 65_535).map((level) => level >> 8)
    expect(furthest((await greyOf(await pictures.deep())).levels, oraclePixels(high(3), 3))).toBeLessThan(0.51)
    expect(furthest((await greyOf(await pictures.deepGrey())).levels, high(1))).toBe(0)
    expect(furthest((await greyOf(await pictures.deepAlpha())).levels, oraclePixels(high(4), 4))).toBeLessThanOrEqual(1)
  })

  it('of grey is the same grey', async () => {
    expect((await greyOf(await pictures.grey())).levels).toEqual(samples(1))
  })

  it('of an animation is its first frame', async () => {
    const raw = await pictures.animation()
    expect((await inspect(raw)).frames).toBe(2)
    expect(new Set((await greyOf(raw)).levels)).toEqual(new Set([255]))
  })

  it('differs between the formulas, whose names say so', async () => {
    const raw = await pictures.png()
    const [luma, mean] = [await greyOf(raw), await greyOf(raw, 'average')]
    expect(luma.bytes.equals(mean.bytes)).toBe(false)
    expect(grayscale().name).toBe('grayscale-bt601')
    expect(grayscale({ formula: 'average' }).name).toBe('grayscale-average')
  })

  it('is the same bytes every time', async () => {
    const raw = await pictures.jpeg()
    expect((await greyOf(raw)).bytes.equals((await greyOf(raw)).bytes)).toBe(true)
  })
})

describe('damage', () => {
  it('a JPEG cut off is corrupt', async () => {
    const whole = await pictures.jpeg()
    const cut = whole.subarray(0, Math.floor(whole.length * 0.6))
    const facts = await inspect(cut)
    await expect(grayscale().apply(cut, facts)).rejects.toMatchObject({ reason: 'corrupt' })
    expect(await diagnose(cut, facts)).toMatchObject({ state: 'corrupt' })
    expect(await diagnose(whole, facts)).toEqual({ state: 'ok' })
  })

  it('a PNG cut off is corrupt', async () => {
    const whole = await pictures.png()
    const cut = whole.subarray(0, Math.floor(whole.length * 0.6))
    await expect(grayscale().apply(cut, await inspect(cut))).rejects.toBeInstanceOf(ImageError)
  })

  it('a complaint that costs no pixel is a warning, and the grey is whole', async () => {
    const whole = await pictures.jpeg()
    const scan = whole.indexOf(Buffer.from([0xff, 0xda]))
    const stray = Buffer.concat([whole.subarray(0, scan), Buffer.from([1, 2, 3]), whole.subarray(scan)])
    const facts = await inspect(stray)
    expect(await diagnose(stray, facts)).toMatchObject({
      state: 'warning',
      detail: expect.stringMatching(/extraneous/),
    })
    const { levels, warning } = await greyOf(stray)
    expect(warning).toMatch(/extraneous/)
    expect(levels).toEqual((await greyOf(whole)).levels)
  })
})
