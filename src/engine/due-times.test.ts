import fc from 'fast-check'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { DueTimes } from './due-times.ts'
import { ReadyQueue } from './ready-queue.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

it('gives every item once, never early and never late', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ addAt: fc.nat(200_000), wait: fc.nat(200_000) }), { maxLength: 60 }), (plans) => {
      const clock = { now: () => Date.now() }
      const start = clock.now()
      const given: { item: number; at: number }[] = []
      const due = new DueTimes<number>(clock, (items) => {
        for (const item of items) given.push({ item, at: clock.now() - start })
      })
      const whens = plans.map(({ addAt, wait }, item) => ({ item, addAt, at: addAt + wait }))
      for (const { item, addAt, at } of whens) setTimeout(() => due.add(start + at, item), addAt)
      vi.advanceTimersByTime(400_001)
      due.stop()
      expect(given.map(({ item }) => item).toSorted((a, b) => a - b)).toEqual(whens.map(({ item }) => item))
      // The shortest timer takes 1 ms.
      for (const { item, at } of given) expect([0, 1]).toContain(at - whens[item]!.at)
    }),
    { numRuns: 50 },
  )
})

it('a ready queue gives every task of its ranges once, in order', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ node: fc.nat(5), first: fc.integer({ min: -1, max: 5 }), length: fc.integer({ min: 1, max: 9 }) }),
      ),
      (ranges) => {
        const queue = new ReadyQueue()
        const expected: [number, number][] = []
        for (const { node, first, length } of ranges) {
          queue.add({ node, first, last: first + length - 1 })
          for (let n = 0; n < length; n += 1) expected.push([node, first + n])
        }
        expect(queue.size).toBe(expected.length)
        const given: [number, number][] = []
        for (let task = queue.take(); task; task = queue.take()) given.push([task.node, task.mapIndex])
        expect(given).toEqual(expected)
        expect(queue.size).toBe(0)
      },
    ),
  )
})
