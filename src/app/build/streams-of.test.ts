import { describe, expect, it } from 'vitest'
import { z } from '../../sdk/schema.ts'
import { documents, type Stream, stream } from '../../sdk/stream.ts'
import { type TimerRecord, timer } from '../../sdk/timer.ts'
import { topic } from '../../sdk/topic.ts'
import { collect } from '../definitions.ts'
import { manifestOf } from './manifest-of.ts'

const places = { ofDefinition: (_: unknown, __: string, file: string) => file, ofThrown: () => undefined }
const describeAll = (exports: Record<string, unknown>) => manifestOf(collect([{ file: 'sites.ts', exports }]), places)

const sites = timer('sites', {
  schema: z.object({ id: z.string() }),
  items: () => [],
  id: (site) => site.id,
  every: () => '5s',
  shards: 3,
  perProducer: 7,
})
const sound = {
  from: sites,
  id: ({ item, scheduledAt }: TimerRecord<{ id: string }>) => [item.id, scheduledAt],
  steps: (records: unknown) => records,
  to: documents('checks', { key: 'id' }),
}
const check = (changes: object = {}): unknown => stream('check', { ...sound, ...changes } as never)

describe('the manifest of streams', () => {
  it('says of a timer what others need to know without its functions, and makes no topic of it', () => {
    const { streams, topics, faults } = describeAll({ sites, check: check() })
    expect(faults).toEqual([])
    expect(topics).toEqual([])
    expect(streams).toMatchObject([
      {
        ...{ name: 'check', file: 'sites.ts', topic: 'sites' },
        source: { kind: 'timer', name: 'sites', shards: 3, refreshMs: 5_000, perProducer: 7 },
        sink: { kind: 'documents', collection: 'checks', key: 'id' },
      },
    ])
  })

  it('says of a topic its name, under which the source was known before', () => {
    const urls = topic('urls', { schema: z.object({ id: z.string() }) })
    const { streams } = describeAll({ check: check({ from: urls, id: (url: { id: string }) => url.id }) })
    expect(streams).toMatchObject([{ topic: 'urls', source: { kind: 'topic', name: 'urls' } }])
  })

  it.each([
    [{ distinct: true, key: () => 'a' }, 'distinct is not for a timer, whose items come again and again'],
    [{ from: { kind: 'cron', name: 'x' } }, 'from must be a topic, a timer or http(...)'],
    [{ from: undefined }, 'from must be a topic, a timer or http(...)'],
    [{ id: 'id' }, 'id must be a function of the record'],
    [{ concurrency: { total: 0 } }, 'concurrency.total is 0; allowed are whole numbers from 1 to 4096'],
  ])('refuses %j', (changes, message) => {
    const { streams, faults } = describeAll({ check: check(changes) as Stream })
    expect(streams).toEqual([])
    expect(faults).toEqual([{ where: 'sites.ts', message: `stream check: ${message}` }])
  })
})
