/** The image path from URL to stored document, against sharp alone on the same pictures in the same run. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { statement } from '../src/ports/database.ts'
import { format, median, spread, table } from './measure.ts'
import { startOrigin } from './origin-process.ts'
import { startPlatform } from './platform.ts'

const root = join(import.meta.dirname, '..')
const pictures = 1_500
/** In memory of the process that measures sharp. */
const alone = 600

/** From the first batch that the shard committed to the last. */
const committed = statement<{ records: number; seconds: number; written: number }>(
  'bench.committed',
  `select sum(received)::int as records, sum(written)::int as written,
     extract(epoch from max(committed_at) - min(committed_at))::float8 as seconds
   from sluice.ledger_batches where stream = 'images' and committed_at > $1`,
)
const now = statement<{ now: Date }>('bench.now', 'select clock_timestamp() as now')

export async function benchImages(rounds: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  const rates: number[] = []
  const limits: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const paths = Array.from({ length: pictures }, (_, index) => `/640/480?seed=${round * pictures + index + 1}`)
    const list = join(folder, `${round}.txt`)
    await writeFile(list, paths.map((path) => `https://picsum.photos${path}`).join('\n'))
    const origin = await startOrigin(['--prepare', list])
    try {
      const local = join(folder, `${round}.local.txt`)
      await writeFile(local, paths.map((path) => `${origin.url}${path}`).join('\n'))
      limits.push(await sharpAlone(local))
      rates.push(await pipeline(list, origin.url))
    } finally {
      await origin.stop()
    }
  }
  await rm(folder, { recursive: true, force: true })
  return table(
    [`640x480, ${pictures} different pictures a round`, `median of ${rounds} rounds (lowest to highest)`, 'ratio'],
    [
      ['sharp alone: grey PNG, level 1, four in flight', `${spread(limits)} pictures/s`, '1'],
      [
        'image path: fetch, raw kept, grey PNG, document and ledger committed',
        `${spread(rates)} pictures/s`,
        format(median(rates.map((rate, round) => rate / limits[round]!)), 2),
      ],
    ],
  )
}

async function sharpAlone(list: string): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    join(import.meta.dirname, 'sharp-alone.ts'),
    list,
    String(alone),
  ])
  return Number(stdout)
}

async function pipeline(list: string, originUrl: string): Promise<number> {
  const rewrite = [{ from: 'https://picsum.photos', to: originUrl }]
  const web = { kind: 'fetch', timeout: '60s', perHost: 8, rewrite }
  const platform = await startPlatform(root, { SLUICE_CONNECTION_WEB: JSON.stringify(web) })
  try {
    const [{ now: begun }] = (await platform.db.query(now)) as [{ now: Date }]
    const answer = await fetch(`${platform.url}/api/v1/catalogs?name=bench`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain' },
      body: await readFile(list),
    })
    if (answer.status !== 202) throw new Error(await answer.text())
    for (;;) {
      const [row] = await platform.db.query(committed, [begun])
      if (row && row.records >= pictures) {
        if (row.written !== pictures) throw new Error(`${row.written} of ${pictures} pictures were written`)
        return (row.written - 1) / row.seconds
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  } finally {
    await platform.stop()
  }
}
