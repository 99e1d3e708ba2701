/**
 * Events by HTTP into a table, acknowledged after the commit, against bare Fastify and COPY doing the same: same server of
 * PostgreSQL (fsync on), same rows, same load, in turn. Sluice does more: it keeps a ledger and offsets under a fence, checks
 * Host and Origin, refuses doubled names and inexact numbers, and rows are checked twice (the event, and the row of the table).
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Load, LoadFigures } from './ingest-load.ts'
import { format, median, type Report, spread, table } from './measure.ts'
import { startPlatform } from './platform.ts'

const event = JSON.stringify({
  token: 'c98arf53-ae39-4c9d-af44-c6957ee2f748',
  customer: 'Customer1',
  content: 'channel1',
  timespan: 30000,
  p2p: 560065,
  cdn: 321123,
  sessionDuration: 120000,
})

const columns = `token text not null, customer text not null, content text not null, timespan bigint not null, p2p bigint not null,
  cdn bigint not null, session_duration bigint not null, received_at timestamptz not null`

interface Case {
  readonly name: string
  readonly path: string
  readonly batch: number
  readonly ids: boolean
  readonly minimal: boolean
  readonly connections: number
}

const single = { path: '/stats', batch: 0, minimal: false, connections: 128 } as const
const batch = { path: '/stats/batch', batch: 100, connections: 32 } as const
const cases: readonly Case[] = [
  { name: 'single', ...single, ids: false },
  { name: 'batches of 100, answered with counts', ...batch, ids: false, minimal: true },
  { name: 'batches of 100, answered for each event', ...batch, ids: false, minimal: false },
  { name: 'single, each with an id', ...single, ids: true },
  { name: 'batches of 100, each event with an id', ...batch, ids: true, minimal: true },
]

const [warmMs, ms] = [1_000, 4_000]

export async function benchIngest(rounds: number): Promise<Report> {
  const platform = await startPlatform(join(import.meta.dirname, 'ingest-project'))
  const bare = await (async () => {
    await platform.db.script(`create schema bench_ingest;
      create table bench_ingest.raw (${columns}); create table bench_ingest.bare (${columns});`)
    return startBare(platform.databaseUrl)
  })()
  try {
    const own = Number(new URL(platform.url).port)
    await untilTaken(own)
    const found: Record<string, { sluice: number[]; bare: number[]; p99: number[]; ratio: number[] }> = {}
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, ...one } of cases) {
        found[name] ??= { sluice: [], bare: [], p99: [], ratio: [] }
        const figures = found[name]
        // Each begins with empty tables and nothing left to be written back, and goes first every other time.
        const play = async (port: number) => {
          for (const name of ['sluice.ingest_ids', 'bench_ingest.raw', 'bench_ingest.bare'])
            await platform.db.script(`truncate ${name}`)
          await platform.db.script('checkpoint')
          return run({ ...one, port, event, warmMs, ms })
        }
        const first = round % 2 === 0 ? await play(bare.port) : undefined
        const ours = await play(own)
        const peer = first ?? (await play(bare.port))
        const perRequest = Math.max(1, one.batch)
        figures.bare.push((peer.requests * perRequest) / peer.seconds)
        figures.sluice.push((ours.requests * perRequest) / ours.seconds)
        figures.ratio.push(ours.requests / ours.seconds / (peer.requests / peer.seconds))
        figures.p99.push(ours.p99)
      }
    }
    const rows = Object.entries(found).map(([name, { sluice, bare, ratio, p99 }]) => [
      ...[name, spread(sluice), spread(bare), spread(ratio, 2), `${format(median(p99), 1)} ms`],
    ])
    return {
      text: table(['events per second', 'Sluice', 'Fastify and COPY', 'ratio', 'p99 of Sluice'], rows),
      figures: found,
    }
  } finally {
    await bare.stop()
    await platform.stop()
  }
}

const run = async (load: Load): Promise<LoadFigures> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'ingest-load.ts'), JSON.stringify(load)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  const figures = JSON.parse(text) as LoadFigures
  if (Object.keys(figures.others).length > 0) throw new Error(`not all was stored: ${JSON.stringify(figures.others)}`)
  return figures
}

async function startBare(databaseUrl: string): Promise<{ port: number; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'ingest-bare.ts'), databaseUrl], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const { port } = JSON.parse(line.toString()) as { port: number }
  return {
    port,
    async stop() {
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

/** The table was made after the start: the lane looks for it again and again. */
async function untilTaken(port: number): Promise<void> {
  const deadline = Date.now() + 20_000
  for (;;) {
    const answer = await fetch(`http://localhost:${port}/stats`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: event,
    })
    if (answer.status === 202) return
    if (Date.now() > deadline) throw new Error(`no event is taken: ${answer.status} ${await answer.text()}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
