/**
 * What many records do to the memory of a shard process: a trivial stream over the topic in the tables, one shard; records
 * and their ids are removed behind it, as retention does.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Database, statement } from '../src/ports/database.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { totals } from '../src/store/ledger.ts'
import { append, forgetIds, trim } from '../src/store/topics.ts'
import { format, median, type Report, table } from './measure.ts'
import { startPlatform } from './platform.ts'
import { memoryOfProcess } from './process-memory.ts'

const levelAt = 100_000
/** Records that are published and not yet received, at most. */
const ahead = 50_000
const batch = 1_000

const shardProcess = statement<{ pid: number }>(
  'bench.shard-process',
  `select pid from sluice.nodes where kind = 'shard' limit 1`,
)

interface Sample {
  readonly records: number
  readonly atMs: number
  readonly mb: number
}

/** @param count at least 200,000 */
export async function benchRecords(count: number): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'records-project'))
  const db = openDatabase({ url: platform.databaseUrl, applicationName: 'bench', max: 4 })
  try {
    const pid = (await db.query(shardProcess))[0]!.pid
    const samples = await watch(db, pid, count)
    const sums = await totals(db, 'records')
    if (sums.received !== count || sums.pending > 0 || sums.filtered + sums.written + sums.duplicate !== count)
      throw new Error(`of ${count} records: ${JSON.stringify(sums)}`)
    return report(count, samples)
  } finally {
    await db.close()
    await platform.stop()
  }
}

async function watch(db: Database, pid: number, count: number): Promise<Sample[]> {
  const samples: Sample[] = []
  let published = 0
  let received = 0
  let over = false
  const publish = async () => {
    while (published < count) {
      if (published - received >= ahead) await delay(20)
      else {
        const from = published
        published = Math.min(count, from + batch)
        const records = Array.from({ length: published - from }, (_, index) => {
          const n = from + index
          return { id: `record-${n}`, key: null, value: `{"n":${n}}` }
        })
        await db.transaction((session) => append(session, 'records', records))
      }
    }
  }
  const clear = async () => {
    while (!over) {
      const removed = await trim(db, 'records', new Date())
      await forgetIds(db, 'records', new Date(Date.now() - 5_000), 50_000)
      if (removed === 0) await delay(500)
    }
  }
  const look = async () => {
    for (; received < count; await delay(500)) {
      const sums = await totals(db, 'records')
      received = sums.received - sums.pending
      samples.push({ records: received, atMs: performance.now(), mb: (await memoryOfProcess(pid)) / 1_024 })
    }
    over = true
  }
  await Promise.all([publish(), look(), clear()])
  return samples
}

function report(count: number, samples: readonly Sample[]): Report {
  const near = samples.filter(({ records }) => records >= levelAt * 0.7 && records <= levelAt * 1.3)
  const level = median(near.map(({ mb }) => mb))
  const parts = 5
  const rows = Array.from({ length: parts }, (_, index) => {
    const [from, to] = [(count * index) / parts, (count * (index + 1)) / parts]
    const part = samples.filter(({ records }) => records >= from && records <= to)
    const [first, last] = [part[0]!, part.at(-1)!]
    const rate = ((last.records - first.records) / (last.atMs - first.atMs)) * 1_000
    const mb = part.map((sample) => sample.mb)
    const cells = [to, rate, median(mb), Math.max(...mb), Math.max(...mb) - level]
    return cells.map((value) => format(value))
  })
  const highest = Math.max(...samples.filter(({ records }) => records > levelAt).map(({ mb }) => mb))
  const head = ['records, to', 'records/s', 'PSS median, MB', 'highest', `above its level at ${format(levelAt)}`]
  return {
    text: `Level at ${format(levelAt)}: ${format(level)} MB\n\n${table(head, rows)}`,
    figures: { count, levelMb: level, highestMb: highest, aboveMb: highest - level },
  }
}
