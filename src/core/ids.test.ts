import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isUuid, maxMapIndex, maxNode, newRunId, taskIdOf, taskIdRange, taskKeyOf } from './ids.ts'

const runs = fc
  .tuple(fc.integer({ min: 0, max: 2 ** 45 }), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }))
  .map(([now, random]) => newRunId(now, () => random))

test('a task id leads back to its run, node and map index, and differs from every other', () => {
  fc.assert(
    fc.property(
      runs,
      fc.integer({ min: 0, max: maxNode }),
      fc.integer({ min: -1, max: maxMapIndex }),
      (runId, node, mapIndex) => {
        const id = taskIdOf(runId, node, mapIndex)
        expect(isUuid(id)).toBe(true)
        expect(taskKeyOf(id)).toEqual({ runId, node, mapIndex })
        const [first, last] = taskIdRange(runId)
        expect(id > first && id <= last).toBe(true)
      },
    ),
  )
})

test('ids of runs are UUIDv7 and sort by time', () => {
  fc.assert(
    fc.property(runs, (id) => {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    }),
  )
  expect(newRunId(2, () => 0) > newRunId(1, () => 0.999999)).toBe(true)
  expect(newRunId(1, () => 0.2) === newRunId(1, () => 0.3)).toBe(false)
})

test('what is no id of a task is not found', () => {
  const run = newRunId(1, () => 0.5)
  for (const text of ['', 'x', run, run.toUpperCase(), '00000000-0000-4000-8000-000000000000', `${run}0`]) {
    expect(() => taskKeyOf(text)).toThrow(/task/)
  }
})
