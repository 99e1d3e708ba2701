import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { offsetOf, phaseOf, placeOf, tickBy, tickFrom, timeOfOffset } from './ticks.ts'

const ids = Array.from({ length: 20_000 }, (_, n) => `site-${n}`)

describe('ticks', () => {
  it('are the same for ever: nothing but the id and the interval decides them', () => {
    expect([phaseOf('site-1', 60_000), phaseOf('1', 5_000), placeOf('site-1')]).toEqual([
      phaseOf('site-1', 60_000),
      phaseOf('1', 5_000),
      placeOf('site-1'),
    ])
    expect([phaseOf('site-1', 60_000), phaseOf('1', 5_000), placeOf('site-1')]).toMatchInlineSnapshot(`
      [
        39220,
        3545,
        824,
      ]
    `)
  })

  it('are spread evenly over the interval, and over the places of a millisecond', () => {
    const spread = (parts: number, part: (id: string) => number) => {
      const counts = new Array<number>(parts).fill(0)
      for (const id of ids) counts[part(id)]! += 1
      return { least: Math.min(...counts), most: Math.max(...counts) }
    }
    // 1,000 in each of 20 parts, give or take four standard deviations.
    for (const parts of [
      spread(20, (id) => Math.floor(phaseOf(id, 60_000) / 3_000)),
      spread(20, (id) => placeOf(id) % 20),
    ]) {
      expect(parts.least).toBeGreaterThan(875)
      expect(parts.most).toBeLessThan(1_125)
    }
  })

  it('of the shards of a timer differ: the phase has nothing to do with the shard', () => {
    const inShard = ids.filter((id) => placeOf(id) % 16 === 3)
    const halves = inShard.filter((id) => phaseOf(id, 60_000) < 30_000).length / inShard.length
    expect(halves).toBeGreaterThan(0.45)
    expect(halves).toBeLessThan(0.55)
  })

  it('lie at the phase and every interval from there, before and after any time', () => {
    const time = fc.integer({ min: 0, max: 4_000_000_000_000 })
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 1, max: 86_400_000 }), time, (id, interval, at) => {
        const phase = phaseOf(id, interval)
        const [from, by] = [tickFrom(phase, interval, at), tickBy(phase, interval, at)]
        expect(phase).toBeLessThan(interval)
        expect([(from - phase) % interval, Math.abs((by - phase) % interval)]).toEqual([0, 0])
        expect(from).toBeGreaterThanOrEqual(at)
        expect(by).toBeLessThanOrEqual(at)
        expect(from - by).toBe(from === at ? 0 : interval)
      }),
    )
  })

  it('have offsets that are their time, up to the year 2248', () => {
    const last = Date.UTC(2248, 0, 1)
    expect(Number.isSafeInteger(offsetOf(last, 1_023))).toBe(true)
    expect(timeOfOffset(offsetOf(last, 1_023))).toBe(last)
    expect(timeOfOffset(offsetOf(last) - 1)).toBe(last - 1)
  })
})
