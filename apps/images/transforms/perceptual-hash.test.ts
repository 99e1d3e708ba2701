import { expect, it } from 'vitest'
import { seededRandom } from '../origin/picture.ts'
import { perceptualHash } from './perceptual-hash.ts'

const picture = (width: number, height: number, level: (x: number, y: number) => number) =>
  Uint8Array.from({ length: width * height }, (_, at) => level(at % width, Math.floor(at / width)))

it('sets a bit where the picture gets brighter to the right', () => {
  expect(
    perceptualHash(
      picture(90, 80, (x) => x * 2),
      90,
      80,
    ),
  ).toBe('ffffffffffffffff')
  expect(
    perceptualHash(
      picture(90, 80, (x) => 200 - x * 2),
      90,
      80,
    ),
  ).toBe('0000000000000000')
  expect(
    perceptualHash(
      picture(90, 80, (x, y) => (y < 40 ? x * 2 : 200 - x * 2)),
      90,
      80,
    ),
  ).toBe('ffffffff00000000')
})

it('is the same at another size, and works down to one pixel', () => {
  const wave = (x: number, y: number) => Math.round(127 + 100 * Math.sin(x * 14 + y * 5))
  const at = (width: number, height: number) =>
    perceptualHash(
      picture(width, height, (x, y) => wave(x / width, y / height)),
      width,
      height,
    )
  expect(at(640, 480)).toBe(at(1_280, 960))
  expect(perceptualHash(Uint8Array.of(9), 1, 1)).toBeUndefined()
})

it('is not there of a flat picture, noise or not, and is there of a line on it', () => {
  const random = seededRandom(7)
  expect(
    perceptualHash(
      picture(90, 80, () => 200),
      90,
      80,
    ),
  ).toBeUndefined()
  expect(
    perceptualHash(
      picture(640, 480, () => 199 + Math.round(random())),
      640,
      480,
    ),
  ).toBeUndefined()
  expect(
    perceptualHash(
      picture(90, 80, (x) => (x > 40 && x < 50 ? 0 : 200)),
      90,
      80,
    ),
  ).toMatch(/^[0-9a-f]{16}$/)
})
