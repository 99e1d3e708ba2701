import { describe, expect, it } from 'vitest'
import { endRun, insertRun, testApi } from '../../../test/test-api.ts'
import type { Manifest, WorkflowManifest } from '../../core/manifest.ts'
import { statement } from '../../ports/database.ts'
import { registerNode } from '../../store/nodes.ts'
import { acquire, ensureShards } from '../../store/shards.ts'
import { append, ensureTopic } from '../../store/topics.ts'
import { currentVersion, deployVersion } from '../../store/versions.ts'

const node = '0199c7a8-5f2e-7c31-9d0a-5b8000000001'

describe('readiness', () => {
  it('needs an engine and holders of all shards', async () => {
    const { app, db } = await testApi()
    const before = await app.inject('/readyz')
    expect(before.statusCode).toBe(503)
    expect(before.json().checks).toEqual([
      { name: 'database', ok: true, detail: 'answers' },
      { name: 'engine', ok: false, detail: 'none has started' },
      { name: 'shards', ok: false, detail: 'images: no shards yet' },
      { name: 'definitions', ok: true, detail: '2 workflows, 1 stream, 1 fault' },
    ])
    await registerNode(db, { id: node, kind: 'engine', host: 'here', pid: 1, leaseMs: 60_000 })
    await ensureTopic(db, 'urls', 2)
    await ensureShards(db, 'images', 'urls')
    expect((await app.inject('/readyz')).json().checks[2]).toMatchObject({ ok: false, detail: 'images: 0 of 2 held' })
    await acquire(db, ['images'], node, 60_000, 10)
    const after = await app.inject('/readyz')
    expect([after.statusCode, after.json().status]).toEqual([200, 'ready'])
  })

  it('says which part cannot be asked, and not where it is', async () => {
    const { app, db } = await testApi({ ready: async () => [{ name: 'objects', ok: false, detail: 'full' }] })
    await db.close()
    const answer = await app.inject('/readyz')
    expect(answer.statusCode).toBe(503)
    expect(answer.json().checks).toContainEqual({ name: 'objects', ok: false, detail: 'full' })
    expect(answer.json().checks[0]).toMatchObject({ name: 'database', ok: false })
  })
})

describe('workflows', () => {
  it('whose file is wrong say what is wrong with it, and since when', async () => {
    const { app, db } = await testApi()
    const deployed = (await currentVersion(db)) as Manifest
    const file = deployed.workflows[0]?.file as string
    const kept = (column: number) => [
      { file, version: 'b'.repeat(64), faults: [{ where: `${file}:4:${column}`, message: 'unexpected' }] },
    ]
    const told = async (manifest: Manifest) => {
      await deployVersion(db, manifest)
      const now = (await currentVersion(db)) as Manifest
      const api = await testApi({ manifest: () => now })
      return (await api.app.inject('/api/v1/workflows/catalog')).json()
    }
    expect((await app.inject('/api/v1/workflows/catalog')).json()).toMatchObject({ fault: null, since: null })
    const first = await told({ ...deployed, kept: kept(2) })
    expect(first).toMatchObject({ fault: { file, line: 4, column: 2, message: 'unexpected' } })
    expect(first.since).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    // Another fault of the same file: it has been wrong since then.
    expect(await told({ ...deployed, kept: kept(9) })).toMatchObject({ fault: { column: 9 }, since: first.since })
    expect(await told(deployed)).toMatchObject({ fault: null, since: null })
  })

  it('are listed with their last run and the faults of definition files', async () => {
    const { app, db } = await testApi()
    await insertRun(db)
    const last = await insertRun(db)
    await endRun(db, last, 'failed')
    const { items, faults, nextCursor } = (await app.inject('/api/v1/workflows')).json()
    expect(items).toMatchObject([
      { name: 'catalog', paused: false, lastRun: { id: last, state: 'failed' }, plans: [{ kind: 'cron' }] },
      { name: 'empty', lastRun: null },
    ])
    expect(faults).toEqual([{ file: 'workflows/broken.ts', line: 3, column: 7, message: 'unexpected }' }])
    expect(nextCursor).toBeNull()
  })

  it('are paged', async () => {
    const { app } = await testApi()
    const first = (await app.inject('/api/v1/workflows?limit=1')).json()
    const second = (await app.inject(`/api/v1/workflows?limit=1&cursor=${first.nextCursor}`)).json()
    expect([first, second].map(({ items }) => items[0].name)).toEqual(['catalog', 'empty'])
    expect(second.nextCursor).toBeNull()
  })

  it('show their graph', async () => {
    const { app } = await testApi()
    const workflow = (await app.inject('/api/v1/workflows/catalog')).json()
    expect(workflow.nodes).toMatchObject([
      { id: 'keep', mapped: false },
      { id: 'fetch', mapped: true, upstream: ['keep'] },
      { id: 'publish' },
    ])
    expect((await app.inject('/api/v1/workflows/other')).json()).toMatchObject({ status: 404, code: 'NOT_FOUND' })
  })
})

describe('the body of an each', () => {
  it('is no workflow that people can see, start or pause: its own workflow starts it', async () => {
    const manifest = (await currentVersion((await testApi()).db)) as Manifest
    const body = {
      ...(manifest.workflows[0] as WorkflowManifest),
      name: 'catalog.each',
      plans: [],
      inner: true as const,
    }
    const { app, db } = await testApi({ manifest: () => ({ ...manifest, workflows: [...manifest.workflows, body] }) })
    const url = '/api/v1/workflows/catalog.each'
    for (const answer of [
      await app.inject({ method: 'POST', url: `${url}/runs`, payload: {} }),
      await app.inject(url),
    ]) {
      expect([answer.statusCode, answer.json().code]).toEqual([404, 'NOT_FOUND'])
      expect(answer.json().detail).toMatch(/^There is no workflow "catalog\.each"/)
    }
    const paused = await app.inject({ method: 'POST', url: `${url}/pause` })
    expect([paused.statusCode, paused.json().detail]).toEqual([
      409,
      'catalog.each is a part of workflow catalog; pause that one',
    ])
    const { items } = (await app.inject('/api/v1/workflows')).json()
    expect(items.map(({ name }: { name: string }) => name)).toEqual(['catalog', 'empty'])
    expect(await db.query(statement('test.all_runs', 'select id from sluice.runs'))).toEqual([])
  })
})

describe('starting a run', () => {
  const start = (app: Awaited<ReturnType<typeof testApi>>['app'], payload: object | undefined, key?: string) =>
    app.inject({
      method: 'POST',
      url: '/api/v1/workflows/catalog/runs',
      ...(payload && { payload }),
      headers: key === undefined ? {} : { 'idempotency-key': key },
    })

  it('gives its address, with defaults filled in', async () => {
    const { app } = await testApi()
    const answer = await start(app, { params: { file: 'a.txt' } })
    expect(answer.statusCode).toBe(201)
    const { id, url } = answer.json()
    expect(answer.headers.location).toBe(url)
    expect((await app.inject(url)).json()).toMatchObject({
      id,
      workflow: 'catalog',
      params: { file: 'a.txt', lines: 10 },
      state: 'queued',
    })
  })

  it('names each parameter that does not fit', async () => {
    const { app } = await testApi()
    const answer = await start(app, { params: { file: '', lines: 'many', extra: 1 } })
    expect(answer.statusCode).toBe(422)
    expect(
      answer
        .json()
        .errors.map((error: { where: string }) => error.where)
        .sort(),
    ).toEqual(['/body/params/extra', '/body/params/file', '/body/params/lines'])
    expect((await start(app, { parameters: {} })).json().errors).toEqual([
      { where: '/body/parameters', message: 'is not known here' },
    ])
    expect((await start(app, undefined)).json().errors).toMatchObject([{ where: '/body/params/file' }])
  })

  it('is idempotent under a key', async () => {
    const { app } = await testApi()
    const first = await start(app, { params: { file: 'a.txt' } }, 'k1')
    const again = await start(app, { params: { file: 'a.txt' } }, 'k1')
    expect([first.statusCode, again.statusCode]).toEqual([201, 200])
    expect(again.json()).toEqual(first.json())
    const other = await start(app, { params: { file: 'b.txt' } }, 'k1')
    expect(other.json()).toMatchObject({ status: 422, code: 'IDEMPOTENCY_KEY_REUSED' })
    expect((await start(app, { params: { file: 'b.txt' } }, 'a b')).json().errors).toMatchObject([
      { where: '/headers/idempotency-key' },
    ])
  })
})

describe('streams', () => {
  it('show where their records are', async () => {
    const { app, db } = await testApi()
    await ensureTopic(db, 'urls', 2)
    await ensureShards(db, 'images', 'urls')
    await append(db, 'urls', [
      { id: '1', key: null, value: '{"u":1}' },
      { id: '2', key: null, value: '{"u":2}' },
    ])
    const { items } = (await app.inject('/api/v1/streams')).json()
    expect(items).toMatchObject([{ name: 'images', totals: { received: 2, pending: 2, queued: 2, written: 0 } }])
    expect(items[0].shards.map((shard: { lag: number }) => shard.lag).reduce((a: number, b: number) => a + b)).toBe(2)
    expect((await app.inject('/api/v1/streams/images')).json()).toMatchObject({ name: 'images', minutes: [] })
    expect((await app.inject('/api/v1/streams/other')).statusCode).toBe(404)
  })

  it('list and replay dead letters', async () => {
    const { app } = await testApi()
    expect((await app.inject('/api/v1/streams/images/dead-letters')).json()).toEqual({ items: [], nextCursor: null })
    const replay = (payload: object) =>
      app.inject({ method: 'POST', url: '/api/v1/streams/images/dead-letters/replay', payload })
    expect((await replay({ all: true })).json()).toEqual({ replayed: 0, remaining: 0, notDead: [] })
    for (const wrong of [{}, { ids: [] }, { ids: ['a'], all: true }, { all: false }]) {
      expect((await replay(wrong)).json()).toMatchObject({ status: 422, code: 'INVALID_INPUT' })
    }
  })
})
