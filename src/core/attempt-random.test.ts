import { describe, expect, it } from 'vitest'
import { attemptRandom } from './attempt-random.ts'

const run = '0199c7a8-5f2e-7c31-9d0a-5b8000000000'
const take = (random: () => number, count: number) => Array.from({ length: count }, () => random())

describe('the randomness of an attempt', () => {
  it('is the same again', () => {
    expect(take(attemptRandom(run, 3, -1, 1), 20)).toEqual(take(attemptRandom(run, 3, -1, 1), 20))
  })

  it('stays what it is, since runs of today are reproduced later', () => {
    expect(take(attemptRandom(run, 0, -1, 1), 3)).toMatchInlineSnapshot(`
      [
        0.7043365873127992,
        0.4176545028100125,
        0.5154498881290636,
      ]
    `)
  })

  it('is another for another run, node, map index or attempt', () => {
    const other = run.replace('5b8', '5b9')
    const keys: [string, number, number, number][] = [
      [run, 0, -1, 1],
      [other, 0, -1, 1],
      [run, 1, -1, 1],
      [run, 0, 0, 1],
      [run, 0, -1, 2],
    ]
    const firsts = keys.map((key) => attemptRandom(...key)())
    expect(new Set(firsts).size).toBe(keys.length)
  })

  it('is spread evenly over [0, 1)', () => {
    const counts = Array.from({ length: 10 }, () => 0)
    for (const value of take(attemptRandom(run, 0, -1, 1), 20_000)) {
      expect(value >= 0 && value < 1).toBe(true)
      counts[Math.floor(value * 10)]! += 1
    }
    for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(200)
  })
})
