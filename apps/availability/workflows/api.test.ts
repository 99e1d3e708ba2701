/** The API over tables of its own, through the server as it is. */
import { join } from 'node:path'
import type { Endpoint } from 'sluice'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type OpenPostgres, openPostgres } from '../../../src/connectors/postgres/postgres.ts'
import { postgresSettings } from '../../../src/connectors/postgres/settings.ts'
import type { Capabilities } from '../../../src/sdk/context.ts'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { openTestApi, type TestApi } from '../../../test/test-api.ts'
import { activeSites } from '../sites/active-sites.ts'
import * as api from './api.ts'
import { availabilityMetrics } from './metrics.ts'
import * as pages from './pages.ts'

let test: TestDatabase
let warehouse: OpenPostgres
let server: TestApi
const warned: string[] = []

beforeAll(async () => {
  test = await testDatabase({
    max: 4,
    apps: [{ scope: 'availability', folder: join(import.meta.dirname, '../migrations') }],
  })
  warehouse = openPostgres('warehouse', postgresSettings.parse({ kind: 'postgres', url: test.url }))
  server = await openTestApi(test.db, {
    endpoints: [...Object.values(api), ...Object.values(pages)] as unknown as Endpoint[],
    capabilities,
    metrics: [availabilityMetrics],
  })
})
afterAll(async () => {
  await server?.close()
  await warehouse?.close()
  await test?.drop()
})

function capabilities(signal: AbortSignal): Capabilities {
  const log = { debug() {}, info() {}, warn: (message: string) => void warned.push(message), error() {} }
  return { signal, log, connection: () => warehouse.client(signal) } as unknown as Capabilities
}

async function ask(method: string, url: string, body?: object) {
  const headers = { host: 'localhost' }
  const sent = body === undefined ? {} : { payload: body }
  const answer = await server.app.inject({ method: method as 'GET', url, headers, ...sent })
  return {
    status: answer.statusCode,
    headers: answer.headers,
    body: answer.body === '' ? null : JSON.parse(answer.body),
  }
}

const empty = () =>
  test.db.script(`truncate monitoring.sites, monitoring.results, monitoring.hours, monitoring.days, monitoring.states, monitoring.incidents
    restart identity`)

const result = (site: number, ago: string, failure: string | null, ms = 100) => `
  insert into monitoring.results (site, scheduled_at, checked_at, url, status, response_ms, failure, dns_ms, connect_ms, tls_ms, processing_ms,
    transfer_ms, total_ms, certificate_ends_at)
  values (${site}, now() - interval '${ago}', now() - interval '${ago}', 'x', 200, ${failure ? 'null' : ms}, ${failure ? `'${failure}'` : 'null'},
    1, 2, 3, 4, 5, ${ms}, '2027-01-01Z');`

describe('sites', () => {
  it('are added, read, replaced and removed', async () => {
    await empty()
    const added = await ask('POST', '/api/v1/sites', { url: 'https://a.test/' })
    expect(added).toMatchObject({
      status: 201,
      headers: { location: '/api/v1/sites/1' },
      body: {
        id: 1,
        url: 'https://a.test/',
        regexp: null,
        interval: 60,
        active: true,
        expectedStatus: null,
        fault: null,
      },
    })
    const full = { url: 'http://b.test/', regexp: 'a+', interval: 5, active: false, expectedStatus: 301 }
    expect(await ask('PUT', '/api/v1/sites/1', full)).toMatchObject({ status: 200, body: { id: 1, ...full } })
    expect(await ask('GET', '/api/v1/sites/1')).toMatchObject({ status: 200, body: full })
    expect(await ask('DELETE', '/api/v1/sites/1')).toMatchObject({ status: 204, body: null })
    for (const [method, body] of [['GET'], ['DELETE'], ['PUT', full]] as const)
      expect(await ask(method, '/api/v1/sites/1', body)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  it.each([
    [{ url: 'example.com' }, '/body/url', /with its scheme/],
    [{ url: 'ftp://example.com/' }, '/body/url', /scheme "ftp:"/],
    [{ url: 'https://me:secret@example.com/' }, '/body/url', /credentials/],
    [{ url: `https://x/${'a'.repeat(2_000)}` }, '/body/url', /2000|2,000/],
    [{ url: 'https://x/', regexp: '(a)\\1' }, '/body/regexp', /no backreferences/],
    [{ url: 'https://x/', regexp: 'a'.repeat(1_001) }, '/body/regexp', /1000|1,000/],
    [{ url: 'https://x/', regexp: '' }, '/body/regexp', /./],
    [{ url: 'https://x/', interval: 4 }, '/body/interval', />=5/],
    [{ url: 'https://x/', interval: 301 }, '/body/interval', /<=300/],
    [{ url: 'https://x/', interval: 5.5 }, '/body/interval', /int/],
    [{ url: 'https://x/', expectedStatus: 99 }, '/body/expectedStatus', />=100/],
    [{ url: 'https://x/', aktiv: true }, '/body/aktiv', /not known/],
    [{}, '/body/url', /./],
  ])('%j is refused', async (body, where, message) => {
    const { status, body: problem } = await ask('POST', '/api/v1/sites', body)
    expect([status, problem.code]).toEqual([422, 'INVALID_INPUT'])
    expect(problem.errors).toContainEqual({ where, message: expect.stringMatching(message) })
    if (JSON.stringify(body).includes('secret')) expect(JSON.stringify(problem)).not.toContain('secret')
  })

  it('are added together, all or none, and read page by page', async () => {
    await empty()
    const sites = Array.from({ length: 25 }, (_, at) => ({ url: `https://${at}.test/`, active: at % 2 === 0 }))
    const refused = await ask('POST', '/api/v1/sites/import', { sites: [...sites, { url: 'nonsense' }] })
    expect(refused).toMatchObject({ status: 422, body: { errors: [{ where: '/body/sites/25/url' }] } })
    expect((await ask('GET', '/api/v1/sites')).body.items).toEqual([])
    expect((await ask('POST', '/api/v1/sites/import', { sites })).body.sites).toHaveLength(25)
    const seen: string[] = []
    let cursor = ''
    do {
      const { body } = await ask('GET', `/api/v1/sites?limit=10${cursor && `&cursor=${cursor}`}`)
      seen.push(...body.items.map(({ url }: { url: string }) => url))
      cursor = body.nextCursor
    } while (cursor)
    expect(seen).toEqual(sites.map(({ url }) => url))
    expect((await ask('GET', '/api/v1/sites?active=true')).body.items).toHaveLength(13)
    for (const wrong of ['zzz', 'IjEi', 'LTE'])
      expect(await ask('GET', `/api/v1/sites?cursor=${wrong}`)).toMatchObject({
        status: 400,
        body: { code: 'INVALID_CURSOR' },
      })
  })

  it('that others wrote wrongly are reported once, and skipped', async () => {
    await empty()
    await test.db.script(`insert into monitoring.sites (url, interval, regexp, expected_status, active) values
      ('https://good/', 5, 'a', 200, true), ('nonsense', 60, null, null, true), ('https://x/', 4, null, null, true),
      ('https://x/', 60, '(?=a)', null, true), ('https://x/', 60, null, 7, true), ('nonsense', 60, null, null, false)`)
    warned.length = 0
    const found = async () => (await activeSites(capabilities(new AbortController().signal))).map(({ id }) => id)
    expect(await found()).toEqual([1])
    expect(await found()).toEqual([1])
    expect(warned).toHaveLength(4)
    const { body } = await ask('GET', '/api/v1/sites/status?state=invalid')
    const faults = body.items.map(({ id, fault }: { id: number; fault: string }) => [id, fault.split(':')[0]])
    expect(faults).toEqual([
      [2, 'url'],
      [3, 'interval'],
      [4, 'regexp'],
      [5, 'expected_status'],
    ])
    // Mended by whatever means, it is checked.
    await test.db.script(`update monitoring.sites set url = 'https://now/' where id = 2`)
    await ask('PUT', '/api/v1/sites/3', { url: 'https://x/', interval: 5 })
    expect(await found()).toEqual([1, 2, 3])
    expect((await ask('GET', '/api/v1/sites/2')).body.fault).toBeNull()
  })
})

describe('how sites are', () => {
  beforeAll(async () => {
    await empty()
    await test.db.script(`
      insert into monitoring.sites (url, interval, active) values ('https://up.test/', 60, true), ('https://down.test/', 60, true),
        ('https://late.test/', 5, true), ('https://new.test/', 60, true), ('https://paused.test/', 60, false);
      update monitoring.sites set fault = 'url: no' where id = 6;
      ${result(1, '3 minutes', null, 100)} ${result(1, '2 minutes', 'timeout')} ${result(1, '1 minute', null, 300)}
      ${result(2, '2 minutes', null)} ${result(2, '1 minute', 'dns')} ${result(3, '2 minutes', null)} ${result(5, '1 minute', null)}`)
  })

  it('is told with shares, the last result, and counts', async () => {
    const { body } = await ask('GET', '/api/v1/sites/status')
    const states = body.items.map(({ state, uptime }: { state: string; uptime: object }) => [state, uptime])
    const shares = (percent: number | null) => ({ '24h': percent, '7d': percent, '30d': percent })
    expect(states).toEqual([
      ['up', shares(66.666)],
      ['down', shares(50)],
      ['late', shares(100)],
      ['pending', shares(null)],
      ['paused', shares(100)],
    ])
    expect(body.items[0].last).toMatchObject({
      ...{ status: 200, responseMs: 300, failure: null, certificateEndsAt: '2027-01-01T00:00:00.000Z' },
      timings: { dnsMs: 1, connectMs: 2, tlsMs: 3, processingMs: 4, transferMs: 5, totalMs: 300 },
    })
    expect(body.items[3].last).toBeNull()
    expect((await ask('GET', '/api/v1/sites/summary')).body).toEqual({
      ...{ up: 1, down: 1, late: 1, pending: 1, paused: 1, invalid: 0 },
    })
  })

  it('is filtered, and read page by page', async () => {
    const ids = async (query: string) =>
      (await ask('GET', `/api/v1/sites/status?${query}`)).body.items.map(({ id }: { id: number }) => id)
    expect(await ids('state=down')).toEqual([2])
    expect(await ids('failure=dns')).toEqual([2])
    expect(await ids('url=TEST/&limit=2')).toEqual([1, 2])
    expect(await ids('url=_')).toEqual([])
    const { body } = await ask('GET', '/api/v1/sites/status?limit=3')
    expect(await ids(`limit=3&cursor=${body.nextCursor}`)).toEqual([4, 5])
    expect(await ask('GET', '/api/v1/sites/status?state=gone')).toMatchObject({ status: 422 })
    expect(await ask('GET', '/api/v1/sites/status?url=%00')).toMatchObject({ status: 422 })
    expect(await ask('GET', '/api/v1/sites/2/status')).toMatchObject({ status: 200, body: { state: 'down' } })
    expect(await ask('GET', '/api/v1/sites/99/status')).toMatchObject({ status: 404 })
    expect(await ask('GET', '/api/v1/sites/x/status')).toMatchObject({ status: 422 })
  })

  it('is told over time, from single results or from sums', async () => {
    const sums = async (step: string) => {
      const { body } = await ask(
        'GET',
        `/api/v1/sites/1/series?step=${step}&from=${new Date(Date.now() - 86_400_000 * (step === '1d' ? 3 : 0.9)).toISOString()}`,
      )
      const total = (field: 'checks' | 'successes') =>
        body.items.reduce((sum: number, point: Record<string, number>) => sum + point[field]!, 0)
      return [
        body.step,
        total('checks'),
        total('successes'),
        Math.max(...body.items.map((point: { mostMs: number }) => point.mostMs)),
      ]
    }
    for (const step of ['1m', '5m', '15m', '1h', '1d']) expect(await sums(step)).toEqual([step, 3, 2, 300])
    expect(await ask('GET', '/api/v1/sites/1/series?from=2030-01-01T00:00:00Z')).toMatchObject({ status: 422 })
    expect(await ask('GET', '/api/v1/sites/99/series')).toMatchObject({ status: 404 })
  })

  it('is told as incidents, newest first', async () => {
    await test.db.script(
      `${result(4, '50 seconds', 'tls')} ${result(4, '40 seconds', null)} ${result(4, '30 seconds', 'reset')}`,
    )
    const { body: first } = await ask('GET', '/api/v1/sites/4/incidents?limit=1')
    expect(first.items).toMatchObject([{ site: 4, failure: 'reset', endedAt: null }])
    const { body: second } = await ask('GET', `/api/v1/sites/4/incidents?limit=1&cursor=${first.nextCursor}`)
    expect(second).toMatchObject({
      items: [{ failure: 'tls', endedAt: expect.stringMatching(/Z$/) }],
      nextCursor: null,
    })
    await test.db.script('delete from monitoring.states where site = 4')
  })

  it('is measured', async () => {
    const answer = await server.app.inject({ url: '/metrics', headers: { host: 'localhost' } })
    const lines = answer.body.split('\n').filter((line) => /^(probe|availability)_/.test(line))
    expect(lines).toEqual(
      expect.arrayContaining([
        'probe_success{target="https://up.test/",site="1"} 1',
        'probe_success{target="https://down.test/",site="2"} 0',
        'probe_duration_seconds{target="https://up.test/",site="1"} 0.3',
        'probe_http_status_code{target="https://up.test/",site="1"} 200',
        'probe_http_duration_seconds{target="https://up.test/",site="1",phase="tls"} 0.003',
        'probe_ssl_earliest_cert_expiry{target="https://up.test/",site="1"} 1798761600',
        'probe_failed_due_to_regex{target="https://up.test/",site="1"} 0',
        'availability_failure{target="https://down.test/",site="2",failure="dns"} 1',
        'availability_sites{state="late"} 1',
        'availability_targets_omitted 0',
      ]),
    )
    // What is paused, late or new has no value of now.
    expect(lines.filter((line) => line.startsWith('probe_success'))).toHaveLength(2)
  })

  it('is shown as pages', async () => {
    for (const url of ['/status', '/status?state=down&url=down', '/status/2', '/status/2?span=30d']) {
      const answer = await server.app.inject({ url, headers: { host: 'localhost' } })
      expect([answer.statusCode, answer.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
      expect(answer.body).toContain('https://down.test/')
    }
    expect((await server.app.inject({ url: '/status/99', headers: { host: 'localhost' } })).statusCode).toBe(404)
  })
})
