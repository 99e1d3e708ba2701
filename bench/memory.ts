/**
 * What many pictures do to memory and rate: distinct pictures of 160x120 through the one shard of the image stream, the
 * memory of all of Sluice's processes (PSS, PostgreSQL apart) read once a second.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startDev } from './dev-process.ts'
import { format, median, table } from './measure.ts'
import { startOrigin } from './origin-process.ts'
import { memoryOf } from './process-memory.ts'

interface Sample {
  readonly atMs: number
  readonly written: number
  readonly sluiceMb: number
  readonly postgresMb: number
}

interface StreamFigures {
  readonly totals: Readonly<Record<'written' | 'pending' | 'received' | 'rejected' | 'dead' | 'duplicate', number>>
}

/** @param pictures at least 2,000 */
export async function benchMemory(pictures: number): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const origin = await startOrigin(['--cache-mib', '16'])
  const rewrite = [{ from: 'https://picsum.photos', to: origin.url }]
  const web = { kind: 'fetch', timeout: '60s', perHost: 8, rewrite }
  const dev = await startDev(home, { SLUICE_CONNECTION_WEB: JSON.stringify(web) })
  try {
    await upload(dev.url, pictures)
    return report(pictures, await watch(dev, home, pictures))
  } finally {
    await dev.stop()
    await origin.stop()
    await rm(home, { recursive: true, force: true })
  }
}

async function upload(url: string, pictures: number): Promise<void> {
  const lines = Array.from({ length: pictures }, (_, index) => `https://picsum.photos/160/120?seed=${index + 1}\n`)
  const answer = await fetch(`${url}/api/v1/catalogs?name=many`, {
    method: 'POST',
    headers: { 'content-type': 'text/plain' },
    body: lines.join(''),
  })
  if (answer.status !== 202) throw new Error(await answer.text())
}

async function watch(dev: { pid: number; url: string }, home: string, pictures: number): Promise<Sample[]> {
  const samples: Sample[] = []
  for (;;) {
    const answer = await fetch(`${dev.url}/api/v1/streams/images`)
    const { totals } = (await answer.json()) as StreamFigures
    const { sluiceKb, postgresKb } = await memoryOf(dev.pid, home)
    const sample = {
      atMs: performance.now(),
      written: totals.written,
      sluiceMb: sluiceKb / 1_024,
      postgresMb: postgresKb / 1_024,
    }
    samples.push(sample)
    if (process.env.BENCH_VERBOSE) process.stderr.write(`${JSON.stringify(sample)}\n`)
    if (totals.received >= pictures && totals.pending === 0) {
      if (totals.written !== pictures) throw new Error(`of ${pictures} pictures: ${JSON.stringify(totals)}`)
      return samples
    }
    await delay(1_000)
  }
}

/** Ten stretches of equal length; the level at 1,000 is the median of the samples from 500 to 1,500. */
function report(pictures: number, samples: readonly Sample[]): string {
  const level = median(between(samples, 500, 1_500).map(({ sluiceMb }) => sluiceMb))
  const stretch = pictures / 10
  const rows = Array.from({ length: 10 }, (_, index) => {
    const part = between(samples, index * stretch, (index + 1) * stretch)
    const [first, last] = [part[0], part.at(-1)]
    if (first === undefined || last === undefined || first === last)
      throw new Error(`${pictures} pictures are too few to see`)
    const rate = ((last.written - first.written) / (last.atMs - first.atMs)) * 1_000
    const memory = part.map(({ sluiceMb }) => sluiceMb)
    return [
      `to ${format((index + 1) * stretch)}`,
      format(rate),
      format(median(memory)),
      format(Math.max(...memory)),
      format(median(memory) - level),
      format(median(part.map(({ postgresMb }) => postgresMb))),
    ]
  })
  const head = ['pictures', 'pictures/s', 'PSS median, MB', 'highest', 'above its level at 1,000', 'PostgreSQL, MB']
  return `Level at 1,000: ${format(level)} MB\n\n${table(head, rows)}`
}

const between = (samples: readonly Sample[], from: number, to: number): Sample[] =>
  samples.filter(({ written }) => written >= from && written <= to)
