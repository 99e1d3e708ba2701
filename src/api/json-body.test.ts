import fc from 'fast-check'
import { expect, it } from 'vitest'
import { isDeeperThan } from './json-body.ts'

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return 1 + Math.max(0, ...Object.values(value).map(depthOf))
}

it('knows the depth of any JSON text', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), fc.nat(9), (value, limit) => {
      for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
        expect(isDeeperThan(limit, text)).toBe(depthOf(value) > limit)
      }
    }),
  )
})

it('is not misled by brackets and quotes in texts', () => {
  expect(isDeeperThan(1, JSON.stringify(['[[[[', '\\"[[', '\\\\']))).toBe(false)
})
