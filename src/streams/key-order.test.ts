import { expect, it } from 'vitest'
import type { Entry } from './entry.ts'
import { KeyOrder } from './key-order.ts'

const entryOf = (offset: number, key: string | null, again = false): Entry => ({
  ...{ offset, key, again, recordId: `${offset}`, value: '', record: {}, group: '', fault: undefined },
  ...{ place: 'log', end: undefined, attempts: 0, dueAt: 0, readAt: 0, endedAt: 0, leads: false, apart: false },
})

it('lets one record of a key go on at a time, in order', () => {
  const keys = new KeyOrder(false)
  const entries = [0, 1, 2].map((offset) => entryOf(offset, 'k'))
  expect(entries.map((entry) => keys.arrive(entry, false))).toEqual(['go', 'parked', 'parked'])
  expect(keys.arrive(entryOf(3, null), false)).toBe('go')
  expect(keys.leave(entries[0]!)).toEqual({ repeats: [], next: entries[1] })
  expect(keys.leave(entries[1]!)).toEqual({ repeats: [], next: entries[2] })
  expect(keys.leave(entries[2]!)).toEqual({ repeats: [], next: undefined })
  expect(keys.isBusy('k')).toBe(false)
})

it('ends repeats with their first, and lets what asks for it through', () => {
  const keys = new KeyOrder(true)
  const first = entryOf(0, 'k')
  const repeat = entryOf(1, 'k')
  const again = entryOf(2, 'k', true)
  const last = entryOf(3, 'k')
  // Of a key that is held a repeat waits, also when the key is known: the first may be let through again.
  const ways = [first, repeat, again, last].map((entry) => keys.arrive(entry, entry === last))
  expect(ways).toEqual(['go', 'parked', 'parked', 'parked'])
  expect(keys.leave(first)).toEqual({ repeats: [repeat], next: again })
  keys.committed(repeat)
  expect(keys.leave(again)).toEqual({ repeats: [last], next: undefined })
  // Both ends await their commit; until then the key is busy, and a record of it is a repeat.
  keys.committed(first)
  expect(keys.isBusy('k')).toBe(true)
  expect(keys.arrive(entryOf(4, 'k'), false)).toBe('repeat')
  keys.committed(again)
  expect(keys.isBusy('k')).toBe(false)
  expect(keys.arrive(entryOf(5, 'k'), true)).toBe('repeat')
  expect(keys.arrive(entryOf(6, 'k'), false)).toBe('go')
})
