import { describe, expect, it } from 'vitest'
import { z } from './schema.ts'
import { type TimerOptions, timer } from './timer.ts'

const site = z.object({ id: z.string(), every: z.string() })
const good: TimerOptions<z.infer<typeof site>> = {
  schema: site,
  items: () => [],
  id: (one) => one.id,
  every: (one) => one.every,
}

describe('timer', () => {
  it('has records of an item and the time of its tick', () => {
    const sites = timer('sites', good)
    expect(sites).toMatchObject({ kind: 'timer', name: 'sites', refreshMs: 5_000, shards: 16, perProducer: undefined })
    const record = { item: { id: 'a', every: '5s' }, scheduledAt: '2026-03-28T12:00:00.000Z' }
    expect(sites.schema.parse(record)).toEqual(record)
  })

  it.each([
    [{ shards: 0 }, 'shards of the timer "sites" must be a whole number from 1 to 256, not 0'],
    [{ shards: 257 }, 'shards of the timer "sites" must be a whole number from 1 to 256, not 257'],
    [{ shards: 1.5 }, 'shards of the timer "sites" must be a whole number from 1 to 256, not 1.5'],
    [{ perProducer: 0 }, 'perProducer of the timer "sites" must be a whole number from 1 to 1,000,000, not 0'],
    [{ refresh: '999ms' }, 'refresh of the timer "sites" must be a duration from 1s to 1h, not "999ms"'],
    [{ refresh: '2h' }, 'refresh of the timer "sites" must be a duration from 1s to 1h, not "2h"'],
    [{ refresh: 'soon' }, 'refresh of the timer "sites" must be a duration from 1s to 1h, not "soon"'],
    [{ refresh: 5 }, 'refresh of the timer "sites" must be a duration from 1s to 1h, not 5'],
    [{ items: [] }, 'items of the timer "sites" must be a function'],
    [{ id: undefined }, 'id of the timer "sites" must be a function'],
    [{ every: '5s' }, 'every of the timer "sites" must be a function'],
    [{ schema: {} }, 'schema of the timer "sites" must be a zod schema'],
  ])('refuses %j', (wrong, message) => {
    expect(() => timer('sites', { ...good, ...wrong } as typeof good)).toThrow(
      expect.objectContaining({ code: 'DEFINITION_INVALID', message }),
    )
  })

  it('refuses a name that is none', () => {
    expect(() => timer('Sites!', good)).toThrow('is not a name for a timer')
  })
})
