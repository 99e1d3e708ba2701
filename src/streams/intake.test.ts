import { describe, expect, it } from 'vitest'
import { z } from '../sdk/schema.ts'
import { documents, type Stream, stream } from '../sdk/stream.ts'
import { timer } from '../sdk/timer.ts'
import { intakeOf } from './intake.ts'

function intake(key?: (record: { item: { id: number; host: string } }) => unknown) {
  const items = timer('items', {
    schema: z.object({ id: z.number(), host: z.string() }),
    items: () => [],
    id: (item) => item.id,
    every: () => '5s',
  })
  const definition: unknown = stream('timed', {
    from: items,
    id: ({ item, scheduledAt }) => [item.id, scheduledAt],
    ...(key === undefined ? {} : { key: key as () => string }),
    steps: (records) => records.step(({ item }) => ({ id: item.host })),
    to: documents('timed', { key: 'id' }),
  })
  const value = '{"item":{"id":7,"host":"a"},"scheduledAt":"2026-03-28T12:00:00.000Z"}'
  return intakeOf(definition as Stream)({ offset: 1, id: 'x', value })
}

describe('a record of a timer', () => {
  it('has the id of its item as its key, whether the stream says so or says nothing', () => {
    for (const key of [undefined, ({ item }: { item: { id: number } }) => String(item.id)])
      expect(intake(key)).toMatchObject({ key: '7', recordId: '[7,"2026-03-28T12:00:00.000Z"]', fault: undefined })
  })

  it('is rejected where the stream gives it another key, since records of an item could overlap then', () => {
    expect(intake(({ item }) => item.host).fault).toEqual({
      kind: 'rejected',
      reason: 'function failed',
      detail: `key: of a timer's record it is the id of the item, "7", not "a"`,
    })
  })
})
