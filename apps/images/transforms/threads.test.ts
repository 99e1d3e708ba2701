import sharp from 'sharp'
import { expect, test } from 'vitest'
import { grayscale } from './grayscale.ts'
import { inspect } from './inspect.ts'
import { main } from './registry.ts'
import { threaded } from './threads.ts'

const picture = (seed: number) =>
  sharp({ create: { width: 64 + seed, height: 48, channels: 3, background: { r: seed, g: 90, b: 200 } } })
    .jpeg()
    .toBuffer()

test('gives what the transform itself gives, however many pictures come at once', async () => {
  const raws = await Promise.all(Array.from({ length: 12 }, (_, seed) => picture(seed)))
  const made = await Promise.all(raws.map(async (raw) => threaded(main).apply(raw, await inspect(raw))))
  const direct = await Promise.all(raws.map(async (raw) => main.apply(raw, await inspect(raw))))
  expect(made).toEqual(direct)
  expect(Buffer.isBuffer(made[0]!.bytes)).toBe(true)
})

test('says why bytes are refused, and goes on', async () => {
  const raw = await picture(1)
  const facts = await inspect(raw)
  const cut = raw.subarray(0, raw.length - 200)
  await expect(threaded(main).apply(cut, facts)).rejects.toMatchObject({ name: 'ImageError', reason: 'corrupt' })
  expect((await threaded(main).apply(raw, facts)).width).toBe(65)
})

test('a transform that the threads do not know is an error, not a hang', async () => {
  const raw = await picture(2)
  const stranger = { ...grayscale(), name: 'stranger' }
  await expect(threaded(stranger).apply(raw, await inspect(raw))).rejects.toThrow()
})
