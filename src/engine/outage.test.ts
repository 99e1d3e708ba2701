import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Outage } from './outage.ts'

function told() {
  const notes: string[] = []
  const clock = { now: 0 }
  const note = (line: string) => void notes.push(line)
  return {
    notes,
    clock,
    outage: new Outage({ what: 'reading runs again', counted: 'runs', note, now: () => clock.now }),
  }
}

it('is told once when it begins and once when it ends, with how long and how many', () => {
  const { notes, clock, outage } = told()
  for (let tries = 0; tries < 100; tries += 1) {
    outage.failed(['a', 'b'], 'no answer')
    outage.failed(['c'], 'no answer')
    clock.now += 500
  }
  outage.over(['a', 'b'])
  expect(notes).toEqual(['reading runs again failed, and is tried until it goes well: no answer'])
  outage.over(['c'])
  expect(notes.slice(1)).toEqual(['reading runs again goes well again after 50.0 s (runs: 3)'])
})

it('what nobody tries any longer has not gone well', () => {
  const { notes, outage } = told()
  outage.failed(['a'], 'no answer')
  outage.over(['a'], 'is given up')
  expect(notes[1]).toBe('reading runs again is given up after 0.0 s (runs: 1)')
})

it('what goes well at once is not told', () => {
  const { notes, outage } = told()
  outage.over(['a'])
  expect(notes).toEqual([])
})

it('beginnings and ends take turns, whatever happens', () => {
  const event = fc.record({
    fails: fc.boolean(),
    ids: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 }),
  })
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const { notes, outage } = told()
      const failing = new Set<string>()
      for (const { fails, ids } of events) {
        for (const id of ids) fails ? failing.add(id) : failing.delete(id)
        fails ? outage.failed(ids, 'why') : outage.over(ids)
        expect(notes.length % 2).toBe(failing.size > 0 ? 1 : 0)
      }
      expect(notes.every((note, index) => note.includes(index % 2 === 0 ? ' failed, ' : ' well again '))).toBe(true)
    }),
  )
})
