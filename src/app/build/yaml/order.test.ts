import fc from 'fast-check'
import { expect, it } from 'vitest'
import { orderOf } from './order.ts'

const graphs = fc.integer({ min: 1, max: 12 }).chain((size) =>
  fc.array(fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), { maxLength: 4 }), {
    minLength: size,
    maxLength: size,
  }),
)

it('gives an order in which each comes after what it waits for, or a circle that is one', () => {
  let circles = 0
  fc.assert(
    fc.property(graphs, (graph) => {
      const waitsFor = graph.map((before, task) => new Set(before.filter((other) => other !== task)))
      const found = orderOf(waitsFor)
      if ('order' in found) {
        expect([...found.order].sort((a, b) => a - b)).toEqual(graph.map((_, task) => task))
        const place = new Map(found.order.map((task, at) => [task, at]))
        for (const [task, before] of waitsFor.entries())
          for (const other of before) expect(place.get(other)).toBeLessThan(place.get(task)!)
        return
      }
      circles += 1
      const { circle } = found
      expect(circle.length).toBeGreaterThan(2)
      expect(circle[0]).toBe(circle.at(-1))
      expect(new Set(circle.slice(1)).size).toBe(circle.length - 1)
      for (const [at, task] of circle.slice(0, -1).entries()) expect(waitsFor[task]?.has(circle[at + 1]!)).toBe(true)
    }),
    { numRuns: 1_000 },
  )
  expect(circles).toBeGreaterThan(100)
})

it('keeps tasks that wait for nothing as they are written, and is not deep in the stack for a long chain', () => {
  expect(orderOf([new Set(), new Set([3]), new Set(), new Set()])).toEqual({ order: [0, 2, 3, 1] })
  const size = 20_000
  const chain = Array.from({ length: size }, (_, task) => new Set(task + 1 < size ? [task + 1] : []))
  expect(orderOf(chain)).toMatchObject({ order: { length: size } })
  chain[size - 1]!.add(0)
  expect(orderOf(chain)).toMatchObject({ circle: { length: size + 1 } })
})
