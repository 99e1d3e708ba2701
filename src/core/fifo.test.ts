import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Fifo } from './fifo.ts'

it('gives what an array gives, for any order of calls', () => {
  const calls = fc.array(fc.oneof({ weight: 5, arbitrary: fc.constantFrom('push', 'shift') }, fc.constant('drain')))
  fc.assert(
    fc.property(calls, (names) => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      names.forEach((name, item) => {
        if (name === 'push') {
          fifo.push(item)
          model.push(item)
        } else if (name === 'shift') expect(fifo.shift()).toBe(model.shift())
        else expect(fifo.drain()).toEqual(model.splice(0))
        expect(fifo.size).toBe(model.length)
      })
    }),
  )
})
