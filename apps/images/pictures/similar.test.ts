import fc from 'fast-check'
import sharp from 'sharp'
import { expect, it } from 'vitest'
import { makePicture } from '../origin/picture.ts'
import { grayscale } from '../transforms/grayscale.ts'
import { inspect } from '../transforms/inspect.ts'
import { defaultDistance, distanceBetween } from './similar.ts'

it('is the number of bits that differ', () => {
  const hash = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  const hex = (value: bigint) => value.toString(16).padStart(16, '0')
  fc.assert(
    fc.property(hash, hash, (one, other) => {
      const bits = [...(one ^ other).toString(2)].filter((bit) => bit === '1').length
      expect(distanceBetween(hex(one), hex(other))).toBe(bits)
    }),
  )
})

it('is small between sizes and qualities of a picture, and large between pictures', async () => {
  const hashOf = async (raw: Buffer) => (await grayscale().apply(raw, await inspect(raw))).perceptualHash as string
  const made = async (seed: string) => (await makePicture({ width: 640, height: 480, seed, grayscale: false })).bytes
  const [raw, ...strangers] = await Promise.all(['a', 'b', 'c', 'd'].map(made))
  const hash = await hashOf(raw!)
  const alike = [
    await sharp(raw).resize(320, 240).jpeg({ quality: 60 }).toBuffer(),
    await sharp(raw).webp({ quality: 40 }).toBuffer(),
    await sharp(raw).modulate({ brightness: 1.1 }).png().toBuffer(),
  ]
  for (const one of alike) expect(distanceBetween(hash, await hashOf(one))).toBeLessThanOrEqual(defaultDistance)
  for (const other of strangers) expect(distanceBetween(hash, await hashOf(other))).toBeGreaterThan(defaultDistance)
})
