/** 10,000 items, each due once a minute. Steps wait as a check of a site does; a few for half a minute. */
import { documents, stream, timer, z } from 'sluice'

const count = 10_000
const probe = z.object({ id: z.string(), waitMs: z.number() })
const list = Array.from({ length: count }, (_, n) => ({
  id: `probe-${n}`,
  waitMs: n % 500 === 0 ? 30_000 : 50 + ((n * 7_919) % 951),
}))

const probes = timer('probes', { schema: probe, items: () => list, id: ({ id }) => id, every: () => '60s' })

export default stream('probes', {
  from: probes,
  id: ({ item, scheduledAt }) => [item.id, scheduledAt],
  key: ({ item }) => item.id,
  concurrency: { total: 500 },
  steps: (records) =>
    records.step(async ({ item, scheduledAt }) => {
      const lateMs = Date.now() - Date.parse(scheduledAt)
      await new Promise((resolve) => setTimeout(resolve, item.waitMs))
      return { id: `${item.id} ${scheduledAt}`, item: item.id, scheduledAt, lateMs, waitMs: item.waitMs }
    }),
  to: documents('probes', { key: 'id' }),
})
