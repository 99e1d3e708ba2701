/**
 * The status list of the availability monitor at 10,000 sites with a day of results behind, through the API, while they are being
 * checked; and how many results a second the sums take in.
 */
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Database, statement } from '../src/ports/database.ts'
import { format, quantile, type Report, table } from './measure.ts'
import { type Platform, startPlatform } from './platform.ts'

const sites = 10_000
/** Seconds from one check of a site to the next. */
const interval = 300
/** Ticks that are inserted at once. */
const atOnce = 10

const addSites = statement(
  'bench.add_sites',
  `insert into monitoring.sites (url, interval) select $1 || n, $2 from generate_series(1, $3::int) as n`,
)

const addResults = statement(
  'bench.add_results',
  `insert into monitoring.results (site, scheduled_at, checked_at, url, status, response_ms, failure, detail, dns_ms, connect_ms, tls_ms,
     processing_ms, transfer_ms, total_ms, certificate_ends_at, record_id)
   select s.id, at, at + interval '5 ms', s.url, 200, case when fails then null else 20 + 200 * r end,
     case when fails then 'timeout' end, case when fails then 'no whole answer within 30000 ms' end,
     1 + r, 5 + r, 10 + r, 20 + r, 2 + r, 30 + 200 * r, now() + interval '60 days', '[' || s.id || ',"' || at || '"]'
   from generate_series($1::int, $2::int) as tick,
     lateral (select date_trunc('minute', now()) - make_interval(secs => tick * $3::float8) as at) a, monitoring.sites s,
     lateral (select random() as r, hashint4(s.id * 7919 + tick / 20) % 50 = 0 as fails) f
   where s.id > 0`,
)

const addDays = statement(
  'bench.add_days',
  `insert into monitoring.days (site, day, checks, successes, sum_ms, least_ms, most_ms)
   select s.id, date_trunc('day', now(), 'UTC') - make_interval(days => n), 288, 287, 20000, 10, 300
   from monitoring.sites s, generate_series(2, 31) as n on conflict do nothing`,
)

const addHours = statement(
  'bench.add_hours',
  `insert into monitoring.hours (site, hour, checks, successes, sum_ms, least_ms, most_ms)
   select s.id, date_trunc('hour', now(), 'UTC') - make_interval(hours => n), 12, 12, 900, 10, 300
   from monitoring.sites s, generate_series(26, 168) as n on conflict do nothing`,
)

export async function benchStatus(rounds: number, results: number): Promise<Report> {
  const origin = createServer((_, response) => response.end('ok'))
  await new Promise<void>((resolve) => origin.listen(0, '127.0.0.1', resolve))
  const folder = await mkdtemp(join(tmpdir(), 'sluice-bench-'))
  let platform: Platform | undefined
  try {
    await makeProject(folder)
    platform = await startPlatform(folder)
    const stored = await fill(platform.db, `http://127.0.0.1:${(origin.address() as AddressInfo).port}/`, results)
    const rows: string[][] = []
    const figures: Record<string, unknown> = { results: stored.results, perSecond: stored.perSecond }
    for (const [name, path] of asked) {
      const { ms, bytes } = await timed(platform.url + path, rounds * 40)
      figures[path] = { p50: quantile(ms, 0.5), p99: quantile(ms, 0.99), bytes }
      rows.push([name, format(quantile(ms, 0.5), 1), format(quantile(ms, 0.99), 1), format(bytes / 1_024, 0)])
    }
    const head = [`${format(sites)} sites, ${format(stored.results)} results behind`, 'p50 ms', 'p99 ms', 'KiB']
    const text = `${table(head, rows)}\n\nResults stored with their sums, states and incidents: ${format(stored.perSecond)} a second.`
    return { text, figures }
  } finally {
    await platform?.stop()
    origin.closeAllConnections()
    origin.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** The app alone, as a project. */
async function makeProject(folder: string): Promise<void> {
  const root = join(import.meta.dirname, '..')
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  await symlink(join(root, 'apps/availability'), join(folder, 'availability'))
  const config = {
    definitions: ['availability/workflows/*.ts'],
    connections: { checks: { kind: 'fetch', allow: ['127.0.0.0/8'] } },
    migrations: { availability: 'availability/migrations' },
  }
  await writeFile(join(folder, 'sluice.config.ts'), `export default ${JSON.stringify(config)}\n`)
}

async function fill(db: Database, url: string, results: number) {
  await db.execute(addSites, [url, interval, sites])
  const ticks = Math.ceil(results / sites)
  const startedAt = performance.now()
  for (let tick = ticks; tick > 0; tick -= atOnce) {
    await db.execute(addResults, [Math.max(1, tick - atOnce + 1), tick, interval])
  }
  const seconds = (performance.now() - startedAt) / 1_000
  await db.execute(addDays)
  await db.execute(addHours)
  await db.script('analyze monitoring.results, monitoring.states, monitoring.hours, monitoring.days, monitoring.sites')
  return { results: ticks * sites, perSecond: (ticks * sites) / seconds }
}

const middle = Buffer.from('5000').toString('base64url')

const asked: readonly (readonly [string, string])[] = [
  ['status list, first 50', '/api/v1/sites/status'],
  ['status list, 100 from the middle', `/api/v1/sites/status?limit=100&cursor=${middle}`],
  ['status list, sites that are down', '/api/v1/sites/status?state=down'],
  ['status list, URL contains', '/api/v1/sites/status?url=/77'],
  ['status list, 1,000', '/api/v1/sites/status?limit=1000'],
  ['how many in each state', '/api/v1/sites/summary'],
  ['series of a site, a day', '/api/v1/sites/77/series'],
  ['incidents of a site', '/api/v1/sites/77/incidents'],
  ['status page', '/status'],
  ['status page of a site', '/status/77'],
]

async function timed(url: string, times: number): Promise<{ ms: number[]; bytes: number }> {
  const ms: number[] = []
  let bytes = 0
  for (let time = -5; time < times; time += 1) {
    const startedAt = performance.now()
    const answer = await fetch(url)
    const body = await answer.arrayBuffer()
    if (!answer.ok) throw new Error(`${url}: ${answer.status} ${Buffer.from(body)}`)
    bytes = body.byteLength
    if (time >= 0) ms.push(performance.now() - startedAt)
  }
  return { ms, bytes }
}
