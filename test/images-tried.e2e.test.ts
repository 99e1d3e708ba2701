/**
 * What a demanding user tries on the image job, in the processes that users have: pictures that are damaged or lie about their
 * size, an origin that leads elsewhere or asks for time, a host that is dead and comes back.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { closed, listening } from './loopback.ts'
import { type Project, projectOf, type RunningSluice, sluice, startSluice, until } from './sluice-process.ts'

const app = join(import.meta.dirname, '../apps/images')
/** A busy machine may take its time; nothing here is measured. */
const patienceMs = 120_000

interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly rejected: number
  readonly dead: number
  readonly rejectedByReason: Readonly<Record<string, number>>
}
interface Host {
  readonly host: string
  readonly circuit: string
  readonly lastError: string | null
}

let origin: ChildProcess
let originUrl: string
/** Resets every connection while `dead`, and has a picture for every path when it is not. */
let patient: Server
let dead = true
let picture: Buffer
let project: Project
let server: RunningSluice

beforeAll(async () => {
  origin = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(app, 'origin/main.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = await once(origin.stdout!, 'data')
  originUrl = (JSON.parse(String(line)) as { url: string }).url
  picture = await sharp({ create: { width: 9, height: 9, channels: 3, background: 'teal' } })
    .jpeg()
    .toBuffer()
  patient = createServer((_, response) => response.writeHead(200, { 'content-type': 'image/jpeg' }).end(picture))
  patient.on('connection', (socket) => dead && socket.resetAndDestroy())
  const to = `http://127.0.0.1:${await listening(patient)}`
  const rewrite = [
    { from: 'https://picsum.photos', to: originUrl },
    { from: 'https://asks.test', to: originUrl },
    { from: 'https://dead.test', to },
  ]
  const circuit = { failures: 3, base: '1s', max: '2s' }
  project = await projectOf('images', {
    SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', timeout: '60s', rewrite, circuit }),
  })
  server = await startSluice(project)
})

afterAll(async () => {
  await server?.stop()
  origin?.kill()
  if (patient) await closed(patient)
  await project?.remove()
})

const totals = async () => (await server.get<{ totals: Totals }>('/api/v1/streams/images')).totals

/** Publishes these and gives what they added to the totals, once nothing is pending. */
async function tried(name: string, urls: readonly string[]): Promise<Totals> {
  const before = await totals()
  await add(name, urls)
  const wanted = before.received + urls.length
  const after = await until(totals, ({ received, pending }) => received === wanted && pending === 0, patienceMs)
  const reasons = Object.entries(after.rejectedByReason)
    .map(([reason, count]) => [reason, count - (before.rejectedByReason[reason] ?? 0)] as const)
    .filter(([, count]) => count > 0)
  const added = (field: 'received' | 'pending' | 'written' | 'rejected' | 'dead') => after[field] - before[field]
  return {
    ...{ received: added('received'), pending: after.pending, written: added('written') },
    ...{ rejected: added('rejected'), dead: added('dead'), rejectedByReason: Object.fromEntries(reasons) },
  }
}

async function add(name: string, urls: readonly string[]): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ name, urls })
  expect((await fetch(`${server.url}/api/v1/catalogs`, { method: 'POST', headers, body })).status).toBe(202)
}

const refusedFor = (reason: string) => ({
  ...{ received: 1, written: 0, rejected: 1, dead: 0, rejectedByReason: { [reason]: 1 } },
})
const storedOf = async (catalog: string) =>
  (await server.get<{ items: object[] }>(`/api/v1/images?catalog=${catalog}`)).items.length

it.each([
  ['a JPEG of which 60 % came', 'cut', 'https://picsum.photos/300/200?cut=60', 'corrupt'],
  ['a PNG of 50,000 x 50,000 pixels', 'huge', 'https://picsum.photos/10/10?type=huge', 'too large'],
  [
    'a redirect to 169.254.169.254',
    'away',
    'https://picsum.photos/10/10?redirect=http://169.254.169.254/latest/meta-data/',
    'blocked by policy',
  ],
])(
  '%s is rejected with its reason, and nothing of it is stored',
  { timeout: patienceMs },
  async (_, name, url, reason) => {
    expect(await tried(name, [url])).toMatchObject(refusedFor(reason))
    expect(await storedOf(name)).toBe(0)
  },
)

it('429 with Retry-After 3 is asked again no sooner than it said, and stored', { timeout: patienceMs }, async () => {
  const path = '/12/12?flaky=1&status=429&retry-after=3'
  expect(await tried('asks', [`https://asks.test${path}`])).toMatchObject({ written: 1, rejected: 0, dead: 0 })
  // Of the origin's own record; the same clock says in Sluice when it may be asked.
  const record = (await (await fetch(`${originUrl}/asked`)).json()) as Record<string, readonly number[]>
  const [first, second, ...more] = record[path]!
  expect(second! - first!).toBeGreaterThanOrEqual(3_000)
  expect(more).toEqual([])
})

it('a dead host is shown with its open circuit and its error, and no more when it is well again', {
  timeout: patienceMs * 3,
}, async () => {
  const before = await totals()
  const urls = Array.from({ length: 10 }, (_, at) => `https://dead.test/${at}`)
  await add('dead', [...urls, 'https://picsum.photos/14/14?seed=beside'])
  const hosts = async () => (await server.get<{ items: Host[] }>('/api/v1/hosts')).items
  const found = await until(hosts, (all) => all.some(({ circuit }) => circuit === 'open'), patienceMs)
  const host = found.find(({ circuit }) => circuit === 'open')!
  expect(host).toMatchObject({ host: 'dead.test', lastError: expect.stringContaining('reset') })
  // A probe may be under way when the command asks; its error stays.
  const shown = await sluice<{ name: string; hosts: Host[] }>(project, 'streams', 'images')
  expect(shown).toMatchObject({ name: 'images', hosts: [{ host: 'dead.test', lastError: host.lastError }] })

  dead = false
  const rest = await until(
    totals,
    ({ received, pending }) => received === before.received + 11 && pending === 0,
    patienceMs,
  )
  expect([rest.written - before.written, rest.dead]).toEqual([2, before.dead])
  expect(await until(hosts, (all) => all.length === 0, patienceMs)).toEqual([])
  expect((await sluice<{ hosts: Host[] }>(project, 'streams', 'images')).hosts).toEqual([])
})
