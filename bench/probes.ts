/**
 * Timers: how late the steps of 10,000 items begin that are due once a minute, on one process, where steps wait 50 ms to 1 s
 * and twenty of them half a minute.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { statement } from '../src/ports/database.ts'
import { format, histogram, quantile, type Report, table } from './measure.ts'
import { startPlatform } from './platform.ts'
import { memoryOfProcess } from './process-memory.ts'

const items = 10_000

const begun = statement<{ late: number }>(
  'bench.probes_begun',
  `select (body ->> 'lateMs')::float8 as late from sluice.documents where collection = 'probes'`,
)
const shards = statement<{ items: number; missed: number; folded: number; pid: number }>(
  'bench.probes_shards',
  `select coalesce(sum(items), 0)::int as items, sum(ticks_missed)::int as missed, sum(ticks_folded)::int as folded,
     (select pid from sluice.nodes where kind = 'shard' limit 1) as pid
   from sluice.shards where stream = 'probes'`,
)
const twice = statement<{ item: string }>(
  'bench.probes_twice',
  `select body ->> 'item' as item from sluice.documents where collection = 'probes' and (body ->> 'waitMs')::int < 30000
   group by 1 having count(distinct body ->> 'scheduledAt') <> count(*)`,
)

/** @param seconds for which items are due */
export async function benchProbes(seconds: number): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'probes-project'))
  try {
    const { db } = platform
    const begin = performance.now()
    await delay(seconds * 1_000)
    const ran = (performance.now() - begin) / 1_000
    const [found] = await db.query(shards)
    const late = (await db.query(begun)).map((row) => row.late)
    if (found === undefined || found.items !== items || late.length < Math.min(items, (items * ran) / 70))
      throw new Error(`${found?.items} items, ${late.length} records in ${ran} s`)
    if (Math.min(...late) < 0) throw new Error('one began before it was due')
    if ((await db.query(twice)).length > 0) throw new Error('a tick became two records')
    const memoryMb = (await memoryOfProcess(found.pid)) / 1_024
    const figures = {
      ...{ items, records: late.length, missed: found.missed, folded: found.folded, memoryMb },
      ...{ p50: quantile(late, 0.5), p90: quantile(late, 0.9), p99: quantile(late, 0.99), max: Math.max(...late) },
    }
    const row = [
      late.length,
      figures.missed,
      figures.folded,
      figures.p50,
      figures.p90,
      figures.p99,
      figures.max,
      memoryMb,
    ]
    const head = ['records', 'missed', 'folded', 'late p50, ms', 'p90', 'p99', 'max', 'shard process, MB']
    const text = `${table(head, [row.map((value) => format(value))])}\n\n${histogram(late)}`
    return { text: `${format(items)} items every 60 s, one process, ${format(ran)} s.\n\n${text}`, figures }
  } finally {
    await platform.stop()
  }
}
