import sharp from 'sharp'
import { expect, it } from 'vitest'
import { inspect } from './inspect.ts'
import { pictures, size } from './pictures.fixture.ts'
import { thumbnail } from './thumbnail.ts'

it('is a small WebP, upright, in colour, and no larger than the picture', async () => {
  const raw = await sharp({ create: { width: 900, height: 600, channels: 3, background: 'red' } })
    .withMetadata({ orientation: 6 })
    .jpeg()
    .toBuffer()
  const made = await thumbnail().apply(raw, await inspect(raw))
  expect(made).toMatchObject({ width: 171, height: 256 })
  expect(await sharp(made.bytes).metadata()).toMatchObject({ format: 'webp', width: 171, height: 256, channels: 3 })
  const little = await pictures.png()
  expect(await thumbnail({ side: 64 }).apply(little, await inspect(little))).toMatchObject(size)
  expect([thumbnail().name, thumbnail({ side: 64 }).name]).toEqual(['thumbnail-256', 'thumbnail-64'])
})

it('is the same bytes every time, and of a broken picture none', async () => {
  const raw = await pictures.jpeg()
  const facts = await inspect(raw)
  const [one, other] = await Promise.all([thumbnail().apply(raw, facts), thumbnail().apply(raw, facts)])
  expect(one.bytes.equals(other.bytes)).toBe(true)
  const cut = raw.subarray(0, Math.floor(raw.length * 0.6))
  await expect(thumbnail().apply(cut, await inspect(cut))).rejects.toMatchObject({ reason: 'corrupt' })
})
