import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Admission } from './admission.ts'

const limits = fc.record({ total: fc.integer({ min: 1, max: 6 }), each: fc.integer({ min: 1, max: 3 }) })
const groups = ['a', 'b', 'c', 'd']
const calls = fc.array(
  fc.tuple(fc.constantFrom('offer', 'offer', 'next', 'next', 'release'), fc.constantFrom(...groups)),
  { maxLength: 300 },
)

describe('Admission', () => {
  it('keeps its limits, order within a group, and turns between groups, for any interleaving', () => {
    fc.assert(
      fc.property(limits, calls, ({ total, each }, steps) => {
        const admission = new Admission<{ group: string; place: number }>({ total, each })
        const waiting = new Map(groups.map((group) => [group, [] as number[]]))
        const running = new Map(groups.map((group) => [group, 0]))
        /** For each group that may start: how many items of each other group started since it could. */
        const passed = new Map<string, Map<string, number>>()
        const mayStart = (group: string) => waiting.get(group)!.length > 0 && running.get(group)! < each
        const sum = () => [...running.values()].reduce((a, b) => a + b, 0)
        steps.forEach(([call, group], place) => {
          if (call === 'offer') {
            admission.offer(group, { group, place })
            waiting.get(group)!.push(place)
          } else if (call === 'release') {
            if (running.get(group) === 0) {
              expect(() => admission.release(group)).toThrow(`"${group}" was released and has nothing under way`)
            } else {
              admission.release(group)
              running.set(group, running.get(group)! - 1)
            }
          } else {
            const item = admission.next()
            expect(item !== undefined).toBe(sum() < total && groups.some(mayStart))
            if (item !== undefined) {
              expect(mayStart(item.group)).toBe(true)
              expect(item.place).toBe(waiting.get(item.group)!.shift())
              running.set(item.group, running.get(item.group)! + 1)
              passed.delete(item.group)
              for (const counts of passed.values()) {
                counts.set(item.group, (counts.get(item.group) ?? 0) + 1)
                expect(Math.max(...counts.values())).toBeLessThanOrEqual(1)
              }
            }
          }
          for (const one of groups) if (mayStart(one) && !passed.has(one)) passed.set(one, new Map())
          for (const one of groups) if (!mayStart(one)) passed.delete(one)
          expect(admission.running).toBe(sum())
          expect(admission.waiting).toBe([...waiting.values()].reduce((a, b) => a + b.length, 0))
          expect(admission.groupCount).toBe(
            groups.filter((one) => waiting.get(one)!.length > 0 || running.get(one)! > 0).length,
          )
        })
      }),
      { numRuns: 300 },
    )
  })

  it('lets no group at its limit hold up another', () => {
    const admission = new Admission<string>({ total: 10, each: 2 })
    for (let item = 0; item < 1_000; item += 1) admission.offer('slow', `slow ${item}`)
    for (let item = 0; item < 3; item += 1) admission.offer('quick', `quick ${item}`)
    const started = Array.from({ length: 5 }, () => admission.next())
    expect(started).toEqual(['slow 0', 'quick 0', 'slow 1', 'quick 1', undefined])
    admission.release('quick')
    expect(admission.next()).toBe('quick 2')
    expect(admission.next()).toBeUndefined()
  })

  it.each([0, -1, 1.5, Number.NaN])('refuses %s as a limit', (limit) => {
    expect(() => new Admission({ total: limit, each: 1 })).toThrow(`The limit "total" is ${limit}`)
    expect(() => new Admission({ total: 1, each: limit })).toThrow(`The limit "each" is ${limit}`)
  })
})
