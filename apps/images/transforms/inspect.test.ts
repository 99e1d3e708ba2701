import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { ImageError } from './image-error.ts'
import { inspect, sniff } from './inspect.ts'
import { hollowPng, pictures, size } from './pictures.fixture.ts'

const refusal = async (raw: Buffer, limits?: { maxPixels?: number }) => {
  const thrown = await inspect(raw, limits).catch((error) => error)
  expect(thrown).toBeInstanceOf(ImageError)
  return (thrown as ImageError).message
}

describe('facts', () => {
  it.each(['jpeg', 'png', 'webp', 'tiff'] as const)('of %s', async (format) => {
    const raw = await pictures[format]()
    const mimeType = `image/${format}`
    expect(await inspect(raw)).toEqual({ format, mimeType, ...size, orientation: 1, frames: 1, bytes: raw.length })
  })

  it('of an AVIF', async () => {
    const raw = await sharp(await pictures.png())
      .avif({ effort: 0 })
      .toBuffer()
    expect(await inspect(raw)).toMatchObject({ format: 'avif', ...size })
  })

  it('are upright', async () => {
    expect(await inspect(await pictures.turned(3))).toMatchObject({ ...size, orientation: 3 })
    expect(await inspect(await pictures.turned(6))).toMatchObject({
      width: size.height,
      height: size.width,
      orientation: 6,
    })
  })
})

describe('what is refused', () => {
  it.each([
    ['', 'there are no bytes'],
    ['<!DOCTYPE html><html>', 'it is an HTML page'],
    ['  \n<html lang="en">', 'it is an HTML page'],
    ['<svg xmlns="http://www.w3.org/2000/svg"/>', 'it is SVG, which is not taken'],
    ['<?xml version="1.0"?><svg/>', 'it is SVG, which is not taken'],
    ['{"error":"no"}', 'it looks like JSON'],
    ['PK\x03\x04', 'it begins with 504b0304'],
  ])('%j is not an image', async (text, why) => {
    expect(await refusal(Buffer.from(text, 'latin1'))).toContain(`not an image: ${why}`)
  })

  it('a header that cannot be read', async () => {
    const raw = await pictures.jpeg()
    expect(await refusal(raw.subarray(0, 20))).toMatch(/^corrupt: the jpeg header cannot be read/)
  })

  it('too many pixels, before any is decoded', async () => {
    expect(await refusal(hollowPng(50_000, 50_000))).toBe('too large: 50000x50000 is over 50000000 pixels')
    const raw = await pictures.png()
    expect(await refusal(raw, { maxPixels: size.width * size.height - 1 })).toMatch(/^too large: 37x23/)
    expect((await inspect(raw, { maxPixels: size.width * size.height })).format).toBe('png')
  })
})

it('sniffs by bytes alone', async () => {
  expect(sniff(await pictures.animation())).toBe('gif')
  expect(sniff(Buffer.from('RIFF1234WAVE'))).toBeUndefined()
})
