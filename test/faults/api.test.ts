/** What callers of the API are told while the database is away, slow, full or busy, and that nobody waits without end. */
import { createConnection } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Database } from '../../src/ports/database.ts'
import { statement } from '../../src/ports/database.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { endpoint, reply } from '../../src/sdk/endpoint.ts'
import { registerNode } from '../../src/store/nodes.ts'
import { acquire, ensureShards } from '../../src/store/shards.ts'
import { ensureTopic } from '../../src/store/topics.ts'
import { type TestDatabase, testDatabase } from '../database.ts'
import { until } from '../engine-world.ts'
import { openTestApi, type TestApi } from '../test-api.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

let own: TestDatabase
let proxy: TcpProxy
let url: string
let closing: (() => Promise<void>)[] = []
beforeEach(async () => {
  own = await testDatabase()
  ;({ proxy, url } = await proxyFor(own.url))
})
afterEach(async () => {
  proxy.set({ kind: 'pass' })
  for (const close of closing.reverse()) await close()
  closing = []
  await proxy.close()
  await own.drop()
})

const node = '00000000-0000-7000-8000-000000000001'

/** An API that is ready, on the database behind the proxy. */
async function serve(statementTimeoutMs: number | undefined = undefined): Promise<TestApi> {
  const limits = { connectTimeoutMs: 1_000, answerTimeoutMs: 1_000 }
  const timeout = statementTimeoutMs === undefined ? {} : { statementTimeoutMs, answerTimeoutMs: 30_000 }
  const db: Database = openDatabase({ url, applicationName: 'api', max: 4, ...limits, ...timeout })
  const api = await openTestApi(db)
  closing.push(() => db.close(), api.close)
  await registerNode(own.db, { id: node, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000 })
  await ensureTopic(own.db, 'urls', 2)
  await ensureShards(own.db, 'images', 'urls')
  await acquire(own.db, ['images'], node, 600_000, 10)
  expect((await api.app.inject('/readyz')).statusCode).toBe(200)
  return api
}

const readOnly = (database: string, on: boolean) =>
  `alter database ${database} set default_transaction_read_only = ${on ? 'on' : 'off'}`

async function ready(api: TestApi): Promise<void> {
  await until('the API to be ready', async () => (await api.app.inject('/readyz')).statusCode === 200)
}

describe('while the database is away', () => {
  const away = {
    'nobody listens': () => proxy.set({ kind: 'refuse' }),
    'it does not answer': () => proxy.set({ kind: 'vanish', of: 'both' }),
    'it is starting': () =>
      proxy.set({ kind: 'turn away', sqlstate: '57P03', message: 'the database system is starting up' }),
    'it is stopping': () =>
      proxy.set({ kind: 'turn away', sqlstate: '57P03', message: 'the database system is shutting down' }),
    'it has too many clients': () =>
      proxy.set({ kind: 'turn away', sqlstate: '53300', message: 'sorry, too many clients already' }),
  }

  it.each(Object.entries(away))('%s: 503 that says so, and it goes on by itself', async (_, goAway) => {
    const api = await serve()
    goAway()
    proxy.reset()
    const readiness = await api.app.inject('/readyz')
    expect(readiness.statusCode).toBe(503)
    expect(readiness.headers).toMatchObject({ 'content-type': 'application/problem+json', 'retry-after': '5' })
    expect(readiness.json()).toMatchObject({ code: 'NOT_READY', status: 503 })
    expect(readiness.json().detail).toContain('database: DATABASE_UNREACHABLE')
    expect(readiness.json().checks).toContainEqual({ name: 'database', ok: false, detail: 'DATABASE_UNREACHABLE' })
    expect((await api.app.inject('/healthz')).json()).toEqual({ status: 'ok' })
    const asked = await api.app.inject('/api/v1/runs')
    expect([asked.statusCode, asked.json().code, asked.headers['retry-after']]).toEqual([
      503,
      'DATABASE_UNREACHABLE',
      '5',
    ])
    expect(asked.body).not.toContain(String(proxy.port))
    const payload = { params: { file: 'a' } }
    const started = await api.app.inject({ method: 'POST', url: '/api/v1/workflows/catalog/runs', payload })
    expect([started.statusCode, started.json().code]).toEqual([503, 'DATABASE_UNREACHABLE'])
    expect(api.logged.some(({ fields }) => fields?.code === 'DATABASE_UNREACHABLE')).toBe(true)
    proxy.set({ kind: 'pass' })
    await ready(api)
    expect((await api.app.inject({ method: 'POST', url: '/api/v1/workflows/catalog/runs', payload })).statusCode).toBe(
      201,
    )
  })

  it('a request whose commit was not answered may be sent again under its key, and starts one run', async () => {
    const api = await serve()
    const send = () =>
      api.app.inject({
        method: 'POST',
        url: '/api/v1/workflows/catalog/runs',
        headers: { 'idempotency-key': 'mine' },
        payload: { params: { file: 'a' } },
      })
    // The insert is a statement of its own: its answer, and with it that of its commit, is reset.
    let lost = 0
    for (let number = 1; number < 40 && lost < 3; number += 3) {
      proxy.cut({ at: 'message', number, side: 'before' })
      const answer = await send()
      if (answer.statusCode === 503) lost += 1
    }
    await until('an answer', async () => [200, 201].includes((await send()).statusCode))
    const runs = await own.db.query(
      statement<{ count: number }>('test.runs', 'select count(*)::int as count from sluice.runs'),
    )
    expect([lost, runs]).toEqual([3, [{ count: 1 }]])
  })
})

describe('while the database', () => {
  it('takes no writes, reading goes on, and writing is DATABASE_READ_ONLY', async () => {
    const api = await serve()
    const database = new URL(url).pathname.slice(1)
    await own.db.script(readOnly(database, true))
    proxy.reset()
    const payload = { params: { file: 'a' } }
    const start = () => api.app.inject({ method: 'POST', url: '/api/v1/workflows/catalog/runs', payload })
    await until('the connections to be new', async () => (await start()).json().code === 'DATABASE_READ_ONLY')
    const refused = await start()
    expect([refused.statusCode, refused.headers['retry-after']]).toEqual([503, '5'])
    expect((await api.app.inject('/api/v1/runs')).statusCode).toBe(200)
    await own.db.script(readOnly(database, false))
    proxy.reset()
    await until('a start', async () => (await start()).statusCode === 201)
  })

  it.each([
    ['40001', 503, 'UNAVAILABLE', '1'],
    ['40P01', 503, 'UNAVAILABLE', '1'],
    ['55P03', 503, 'UNAVAILABLE', '1'],
    ['57014', 504, 'TIMEOUT', undefined],
    ['53100', 507, 'STORAGE_FULL', '5'],
    ['58030', 503, 'DATABASE_UNREACHABLE', '5'],
  ])('says SQLSTATE %s, the answer is %i %s', async (sqlstate, status, code, retryAfter) => {
    const api = await serve()
    await own.db.script(`
      create function test_fault() returns trigger language plpgsql as
        $$ begin raise exception 'on purpose' using errcode = '${sqlstate}'; end $$;
      create trigger test_fault before insert on sluice.runs for each row execute function test_fault()`)
    const payload = { params: { file: 'a' } }
    const refused = await api.app.inject({ method: 'POST', url: '/api/v1/workflows/catalog/runs', payload })
    expect([refused.statusCode, refused.json().code, refused.headers['retry-after']]).toEqual([
      status,
      code,
      retryAfter,
    ])
    await own.db.script('drop trigger test_fault on sluice.runs')
    expect((await api.app.inject({ method: 'POST', url: '/api/v1/workflows/catalog/runs', payload })).statusCode).toBe(
      201,
    )
  })

  it('waits for a lock that somebody holds, readiness is off in 3 s and readers are let go', async () => {
    const api = await serve(500)
    const { promise: enough, resolve: release } = Promise.withResolvers<void>()
    const { promise: locked, resolve: tell } = Promise.withResolvers<void>()
    const held = own.db.transaction(async (session) => {
      await session.script('lock table sluice.runs, sluice.nodes in access exclusive mode')
      tell()
      await enough
    })
    await locked
    const reading = await api.app.inject('/api/v1/runs')
    expect([reading.statusCode, reading.json().code]).toEqual([504, 'TIMEOUT'])
    expect((await api.app.inject('/readyz')).statusCode).toBe(503)
    release()
    await held
    await ready(api)
  })
})

describe('a client that does not read', () => {
  it('is let go: the answer is ended at its source', async () => {
    let ended = false
    const endless = endpoint('GET /api/v1/endless', {
      summary: 'Zeros without end',
      handle: () =>
        reply(
          200,
          (async function* () {
            try {
              for (;;) yield Buffer.alloc(65_536)
            } finally {
              ended = true
            }
          })(),
        ),
    })
    const api = await openTestApi(own.db, { endpoints: [endless], limits: { idleMs: 300, checkEveryMs: 50 } })
    closing.push(api.close)
    expect(api.faults).toEqual([])
    const port = Number(new URL(await api.listen(0)).port)
    const socket = createConnection({ host: '127.0.0.1', port }).on('error', () => {})
    closing.push(async () => void socket.destroy())
    socket.pause()
    socket.write(`GET /api/v1/endless HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`)
    await until('the answer to be ended', () => ended)
  })
})
