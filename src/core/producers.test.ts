import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { producerShare, producersWanted } from './producers.ts'

describe('producers', () => {
  it.each([
    [0, 2_000, 1],
    [1, 2_000, 1],
    [2_000, 2_000, 1],
    [2_001, 2_000, 2],
    [10_000, 2_000, 5],
  ])('of %i items at %i each are %i', (items, perProducer, wanted) => {
    expect(producersWanted(items, perProducer)).toBe(wanted)
  })

  it('come to hold all shards, as evenly as can be, by no more than are wanted; then nothing moves any more', () => {
    const held = fc.array(fc.nat(20), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(held, fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 8 }), (start, shards, wanted) => {
        let living = start.map((count, n) => ({ node: `node-${n}`, held: count }))
        // Each gives back what is over its share and takes what is free, one after another, as often as it takes.
        const beat = () => {
          for (const { node } of living) {
            const share = producerShare(node, { shards, wanted, living })
            const free = Math.max(0, shards - living.reduce((sum, one) => sum + one.held, 0))
            living = living.map((one) => (one.node === node ? { node, held: Math.min(share, one.held + free) } : one))
          }
        }
        for (let beats = 0; beats < 20; beats += 1) beat()
        const before = living
        beat()
        expect(living).toEqual(before)
        const holding = living.filter((one) => one.held > 0).map((one) => one.held)
        expect(holding.reduce((sum, one) => sum + one, 0)).toBe(shards)
        expect(holding.length).toBe(Math.min(wanted, living.length, shards))
        expect(Math.max(...holding) - Math.min(...holding)).toBeLessThanOrEqual(1)
      }),
    )
  })

  it('gives nothing to who does not live', () => {
    expect(producerShare('gone', { shards: 4, wanted: 2, living: [{ node: 'here', held: 0 }] })).toBe(0)
  })
})
