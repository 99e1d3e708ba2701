/** The availability monitor as users start it: real processes, sites on loopback that fail in every way. */

import { symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expired, key, ofOther, selfSigned } from '../src/connectors/fetch/certificates.fixture.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { closed, freePort, listening } from './loopback.ts'
import {
  type Project,
  projectOf,
  type RunningSluice,
  sluice,
  sluiceEnds,
  startSluice,
  until,
} from './sluice-process.ts'

const hits = new Map<string, number>()
const openSilent = new Set<Socket>()
const closing: (() => Promise<void>)[] = []
let project: Project
let server: RunningSluice
let web = ''

beforeAll(async () => {
  web = `http://127.0.0.1:${await opened(createServer(answer))}`
  project = await projectOf('availability', {
    SLUICE_CONNECTION_CHECKS: JSON.stringify({
      kind: 'fetch',
      timeout: '30s',
      maxBytes: 100_000,
      allow: ['127.0.0.0/8'],
    }),
  })
  await symlink(join(import.meta.dirname, '../apps/availability/migrations'), join(project.folder, 'migrations'))
  const config = { definitions: ['workflows/*.ts'], migrations: { availability: 'migrations' } }
  await writeFile(join(project.folder, 'sluice.config.ts'), `export default ${JSON.stringify(config)}\n`)
  server = await startSluice(project)
})

afterAll(async () => {
  await server?.stop()
  for (const close of closing) await close()
  await project?.remove()
})

function answer(request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? ''
  hits.set(path, (hits.get(path) ?? 0) + 1)
  if (path.startsWith('/silent')) {
    openSilent.add(request.socket)
    request.socket.on('close', () => openSilent.delete(request.socket))
  } else if (path === '/drip') {
    const timer = setInterval(() => response.write('x'), 50)
    response.on('close', () => clearInterval(timer))
  } else if (path === '/endless') {
    const pump = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, 'a')));
    }
    response.on('drain', pump)
    pump()
  } else if (path === '/loop') response.writeHead(302, { location: '/loop' }).end()
  else if (path === '/500') response.writeHead(500).end()
  else if (path === '/hostile') response.end(withoutOrder)
  else response.end('<h1>Welcome home</h1>')
}

/** What a search for `[ab]*a[ab]{990}[yz]` takes seconds for. */
const withoutOrder = (() => {
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state >>> 20
  }
  return Array.from({ length: 90_000 }, () => 'ab'[next() & 1]).join('')
})()

async function opened(server: Server): Promise<number> {
  closing.push(() => closed(server))
  return listening(server)
}

const tlsSite = async (cert: string) => {
  const origin = createTlsServer({ key, cert }, (socket) => socket.on('error', () => {}))
  origin.on('tlsClientError', () => {})
  return `https://127.0.0.1:${await opened(origin)}/`
}

interface Site {
  readonly url: string
  readonly regexp?: string
  readonly interval?: number
  readonly expectedStatus?: number
  readonly active?: boolean
}

async function send(method: string, path: string, body: object): Promise<{ id: number }> {
  const headers = { 'content-type': 'application/json' }
  const answered = await fetch(server.url + path, { method, headers, body: JSON.stringify(body) })
  const found = (await answered.json()) as { id: number; detail?: string }
  if (!answered.ok) throw new Error(`${method} ${path}: ${found.detail}`)
  return found
}

const add = (site: Site) => send('POST', '/api/v1/sites', { interval: 5, ...site })

interface Status {
  readonly id: number
  readonly state: string
  readonly fault: string | null
  readonly uptime: { readonly '24h': number | null }
  readonly last: {
    readonly failure: string | null
    readonly status: number | null
    readonly regexpFound: boolean | null
    readonly certificateEndsAt: string | null
  } | null
}

const statusOf = (id: number) => server.get<Status>(`/api/v1/sites/${id}/status`)
const checked = (id: number) =>
  until(
    () => statusOf(id),
    ({ last }) => last !== null,
    60_000,
  )

/** Own SQL on the server that Sluice runs. */
async function rows<Row extends pg.QueryResultRow>(sql: string): Promise<Row[]> {
  const embedded = await startEmbedded({ home: project.home })
  const client = new pg.Client({ host: embedded.socketDir, user: embedded.user, database: embedded.database })
  try {
    await client.connect()
    return (await client.query<Row>(sql)).rows
  } finally {
    await client.end()
    await embedded.stop()
  }
}

/** Until so many further requests for a path have come. */
async function further(path: string, count: number): Promise<void> {
  const wanted = (hits.get(path) ?? 0) + count
  await until(
    async () => hits.get(path) ?? 0,
    (now) => now >= wanted,
    60_000,
  )
}

describe('sites', () => {
  it('each have a result of their own class, however they fail', { timeout: 120_000 }, async () => {
    const goneAt = await freePort()
    const sites: readonly (readonly [Site, string | null, object?])[] = [
      [{ url: `${web}/`, regexp: 'Welcome.*home' }, null, { status: 200, regexpFound: true }],
      [{ url: `${web}/other`, regexp: 'Goodbye' }, 'regexp-mismatch', { status: 200, regexpFound: false }],
      [{ url: `${web}/hostile`, regexp: '[ab]*a[ab]{990}[yz]' }, 'regexp-limit', { status: 200, regexpFound: null }],
      [{ url: `${web}/500` }, 'http-status', { status: 500 }],
      [{ url: `${web}/500`, expectedStatus: 500 }, null, { status: 500 }],
      [{ url: `${web}/loop` }, 'redirect-loop', { status: 302 }],
      [{ url: `${web}/loop`, expectedStatus: 302 }, null, { status: 302 }],
      [{ url: `${web}/endless` }, 'body-limit', { status: 200 }],
      [{ url: `${web}/drip` }, 'timeout', { status: 200 }],
      [{ url: `${web}/silent-5` }, 'timeout', { status: null }],
      [{ url: `http://127.0.0.1:${goneAt}/` }, 'refused', { status: null }],
      [{ url: 'http://nowhere.invalid/', interval: 30 }, 'dns', { status: null }],
      [{ url: 'http://10.0.0.1/' }, 'blocked', { status: null }],
      [{ url: await tlsSite(expired) }, 'tls', { certificateEndsAt: '2020-02-01T00:00:00.000Z' }],
      [{ url: await tlsSite(selfSigned) }, 'tls', { certificateEndsAt: '2120-01-01T00:00:00.000Z' }],
      [{ url: await tlsSite(ofOther) }, 'tls', { certificateEndsAt: '2120-01-01T00:00:00.000Z' }],
    ]
    const added = await Promise.all(sites.map(([site]) => add(site)))
    const found = await Promise.all(added.map(({ id }) => checked(id)))
    const seen = found.map(({ state, last }) => [state, last?.failure])
    expect(seen).toEqual(sites.map(([, failure]) => [failure === null ? 'up' : 'down', failure]))
    sites.forEach(([, , more = {}], at) => {
      expect(found[at]!.last).toMatchObject(more)
    })
    expect(found.map(({ uptime }) => uptime['24h'])).toEqual(sites.map(([, failure]) => (failure === null ? 100 : 0)))
    // An incident each, of those that fail.
    for (const [at, { id }] of added.entries()) {
      const { items } = await server.get<{ items: { failure: string }[] }>(`/api/v1/sites/${id}/incidents`)
      expect(items.map(({ failure }) => failure)).toEqual(sites[at]![1] === null ? [] : [sites[at]![1]])
    }
  })

  it.concurrent('that take 30 s hold up nobody', { timeout: 120_000 }, async () => {
    for (let site = 0; site < 6; site += 1) await add({ url: `${web}/silent-60`, interval: 60 })
    await further('/silent-60', 1)
    const youngest = [...openSilent].at(-1)!
    await further('/', 2)
    expect(openSilent.has(youngest)).toBe(true)
  })

  it.concurrent('are checked and left alone without a restart, also when others write what cannot be checked', {
    timeout: 120_000,
  }, async () => {
    const { id } = await add({ url: `${web}/left-alone` })
    await rows(`insert into monitoring.sites (url, interval, regexp) values ('javascript:alert(1)', 5, null), ('no url', 5, null),
      ('http://127.0.0.1/', 4, null), ('http://127.0.0.1/', 5, '(a)\\1'), ('${web}/by-sql', 5, null)`)
    await further('/by-sql', 1)
    const { items } = await server.get<{ items: Status[] }>('/api/v1/sites/status?state=invalid')
    expect(items.map(({ fault }) => fault?.split(':')[0])).toEqual(['url', 'url', 'interval', 'regexp'])
    await further('/left-alone', 1)
    await send('PUT', `/api/v1/sites/${id}`, { url: `${web}/left-alone`, interval: 5, active: false })
    // the list is asked for every 5 s
    await further('/', 3)
    const before = hits.get('/left-alone')
    await further('/', 2)
    expect(hits.get('/left-alone')).toBe(before)
    expect(await statusOf(id)).toMatchObject({ state: 'paused' })
  })

  it.concurrent('are shown, measured, and added by the command line', { timeout: 60_000 }, async () => {
    const { id } = await sluice<{ id: number }>(
      project,
      'sites',
      'add',
      `${web}/by-cli`,
      '--interval',
      '5',
      '--regexp',
      'home',
    )
    await checked(id)
    const page = await fetch(`${server.url}/status`)
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/)
    expect(await page.text()).toContain(`${web}/by-cli`)
    const own = await (await fetch(`${server.url}/status/${id}?span=1h`)).text()
    expect(own).toContain('<svg')
    expect(own).not.toMatch(/<script|style=/)
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    expect(metrics).toContain(`probe_success{target="${web}/by-cli",site="${id}"} 1\n`)
    expect(metrics).toMatch(/probe_http_duration_seconds\{target="[^"]+",site="\d+",phase="resolve"\} /)
    expect(metrics).toContain('probe_ssl_earliest_cert_expiry{')
    expect(metrics).toMatch(/sluice_stream_records\{stream="website-results",outcome="written"\} [1-9]/)
    await expect(sluiceEnds(project, 'sites', 'add', 'ftp://x/')).rejects.toThrow(/ended with 2/)
  })

  it('lose nothing of what was found when a producer and PostgreSQL are killed', { timeout: 150_000 }, async () => {
    const [shard] = await rows<{ pid: number }>(
      `select pid from sluice.nodes where kind = 'shard' order by heartbeat_at desc limit 1`,
    )
    process.kill(shard!.pid, 'SIGKILL')
    await further('/', 1)
    const embedded = await startEmbedded({ home: project.home })
    const { pid } = embedded
    await embedded.stop()
    process.kill(pid, 'SIGKILL')
    const stored = async () =>
      (await rows<{ count: number }>('select count(*)::int as count from monitoring.results'))[0]!.count
    const first = await until(
      () => stored().catch(() => -1),
      (count) => count >= 0,
      60_000,
    )
    await until(stored, (count) => count >= first + 20, 60_000)
    await rows('update monitoring.sites set active = false')
    for (const socket of openSilent) socket.destroy()
    const pending = async () => {
      const { items } = await server.get<{ items: { totals: { pending: number; dead: number; rejected: number } }[] }>(
        '/api/v1/streams',
      )
      return items.map(({ totals }) => [totals.pending, totals.dead, totals.rejected])
    }
    const atRest = async () => JSON.stringify([await pending().catch(() => null), await stored()])
    let [last, same] = ['', 0]
    // nothing under way, and nothing new for a while: sites that were under way take 30 s at most
    await until(
      atRest,
      (now) => {
        same = now === last && now.startsWith('[[[0,0,0],[0,0,0]]') ? same + 1 : 0
        last = now
        return same >= 20
      },
      90_000,
    )
    const [counted] = await rows(`
      select (select count(*)::int from sluice.topic_records where topic = 'website_availability') as published,
        (select count(*)::int from monitoring.results) as stored, (select sum(checks)::int from monitoring.days) as summed,
        (select count(distinct (value::jsonb ->> 'site', value::jsonb ->> 'scheduledAt'))::int from sluice.topic_records
         where topic = 'website_availability') as ticks`)
    expect(counted).toEqual({
      published: counted!.stored,
      stored: counted!.stored,
      summed: counted!.stored,
      ticks: counted!.stored,
    })
  })
})
