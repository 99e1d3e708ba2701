import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Park } from './park.ts'

const calls = fc.array(
  fc.tuple(fc.constantFrom('arrive', 'arrive', 'arrive', 'leave', 'leave', 'leaveAll'), fc.constantFrom('a', 'b', 'c')),
  { maxLength: 200 },
)

describe('Park', () => {
  it('keeps order per key as a list per key does, for any interleaving', () => {
    fc.assert(
      fc.property(calls, (steps) => {
        const park = new Park<number>()
        const lines = new Map<string, number[]>()
        steps.forEach(([call, key], position) => {
          const line = lines.get(key) ?? []
          lines.set(key, line)
          if (call === 'arrive') {
            expect(park.arrive(key, position)).toBe(line.length === 0 ? 'go' : 'parked')
            line.push(position)
          } else if (line.length === 0) expect(() => park[call as 'leave'](key)).toThrow(`"${key}" was left`)
          else if (call === 'leave') {
            line.shift()
            expect(park.leave(key)).toBe(line[0])
          } else expect(park.leaveAll(key)).toEqual(line.splice(0).slice(1))
          const held = [...lines].filter(([, line]) => line.length > 0)
          expect(park.heldCount).toBe(held.length)
          expect(park.isHeld(key)).toBe(line.length > 0)
          expect(park.parkedCount).toBe(held.reduce((sum, [, line]) => sum + line.length - 1, 0))
        })
      }),
    )
  })

  it('lets other keys go on while one is held', () => {
    const park = new Park<string>()
    expect([park.arrive('a', 'a1'), park.arrive('b', 'b1'), park.arrive('a', 'a2')]).toEqual(['go', 'go', 'parked'])
    expect(park.leave('b')).toBeUndefined()
    expect(park.leave('a')).toBe('a2')
    expect(park.isHeld('a')).toBe(true)
    expect(park.leave('a')).toBeUndefined()
    expect(park.isHeld('a')).toBe(false)
  })
})
