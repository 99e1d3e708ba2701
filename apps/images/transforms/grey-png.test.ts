import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { encodeGreyPng } from './grey-png.ts'

const decode = (png: Buffer) => sharp(png, { failOn: 'warning' }).toColourspace('b-w').raw().toBuffer()

describe('the PNG writer', () => {
  it('gives back exactly the pixels, whatever they are', async () => {
    const picture = fc
      .tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }))
      .chain(([width, height]) =>
        fc
          .uint8Array({ minLength: width * height, maxLength: width * height })
          .map((grey) => ({ width, height, grey })),
      )
    await fc.assert(
      fc.asyncProperty(picture, async ({ width, height, grey }) => {
        const png = await encodeGreyPng(Buffer.from(grey), width, height)
        expect((await decode(png)).equals(Buffer.from(grey))).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('works across bands, and stays small where the picture is flat', async () => {
    const [width, height] = [3_000, 700]
    const flat = Buffer.alloc(width * height, 200)
    const png = await encodeGreyPng(flat, width, height)
    expect(png.length).toBeLessThan(width * height * 0.02)
    expect((await decode(png)).equals(flat)).toBe(true)
    const wavy = Buffer.from(flat.map((_, at) => (at * 7 + (at >> 9)) & 255))
    expect((await decode(await encodeGreyPng(wavy, width, height))).equals(wavy)).toBe(true)
  })
})
