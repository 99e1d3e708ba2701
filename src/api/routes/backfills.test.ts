import { expect, it } from 'vitest'
import { testApi, testManifest, testWorkflow } from '../../../test/test-api.ts'
import type { Manifest } from '../../core/manifest.ts'
import { Backfills } from '../../engine/backfill.ts'
import { statement } from '../../ports/database.ts'

const now = Date.UTC(2026, 2, 28, 12)
const clock = { now: () => now }
const manifest: Manifest = {
  ...testManifest,
  workflows: [
    ...testManifest.workflows,
    {
      ...testWorkflow,
      name: 'local',
      params: { type: 'object', properties: {} },
      plans: [
        { kind: 'cron', name: 'nightly', pattern: '0 3 * * *', timezone: 'Europe/Paris', catchUp: 'last' },
        { kind: 'interval', name: 'often', every: '15m', everyMs: 900_000, catchUp: 'last' },
        { kind: 'file-arrival', name: 'file', glob: '*', restMs: 1 },
      ],
    },
  ],
}
const params = { file: 'a.txt' }
const march = { from: '2026-03-01', to: '2026-03-02', params }

async function opened() {
  const api = await testApi({ manifest: () => manifest, clock })
  const post = (path: string, payload: object = {}, headers = {}) =>
    api.app.inject({ method: 'POST', url: `/api/v1/${path}`, payload, headers })
  const start = (payload: object, workflow = 'catalog', headers = {}) =>
    post(`workflows/${workflow}/backfills`, payload, headers)
  const submitted = () => new Backfills({ db: api.db, clock, random: Math.random, note: () => {} }).wake()
  return { ...api, post, start, submitted }
}

const insertRun = statement(
  'test.insert-tick-run',
  `insert into sluice.runs (id, workflow, version, plan, logical_time, params, state, started_at, finished_at)
   select gen_random_uuid(), 'catalog', $1, 'cron-1', '2026-03-01T00:00:00Z'::timestamptz + n * interval '1 h', '{}', s,
     '2026-03-01', '2026-03-01'::timestamptz + (n + 1) * interval '1 s'
   from unnest($2::int[], $3::text[]) as r(n, s)`,
)

it('says in a dry run what is chosen and how long that may take, and changes nothing', async () => {
  const { start, db, app } = await opened()
  const dry = async (more: object = {}) => (await start({ ...march, dryRun: true, ...more })).json()
  expect(await dry()).toEqual({
    ...{ dryRun: true, workflow: 'catalog', plan: 'cron-1', from: '2026-03-01T00:00:00.000Z' },
    ...{ to: '2026-03-02T00:00:00.000Z', ticks: 24, chosen: 24, codeUnknown: 0, maxActive: 8, estimate: null },
    counts: { missing: 24, failed: 0, 'code-changed': 0, stale: 0, ok: 0, running: 0, due: 0 },
    ...{ first: '2026-03-01T00:00:00.000Z', last: '2026-03-01T23:00:00.000Z' },
  })
  const states = ['success', 'success', 'failed', 'cancelled', 'running', 'queued']
  await db.execute(insertRun, [manifest.hash, states.map((_, n) => n), states])
  expect(await dry({ reasons: ['failed'], maxActive: 1 })).toMatchObject({
    counts: { missing: 18, failed: 2, ok: 2, running: 2 },
    ...{ chosen: 2, first: '2026-03-01T02:00:00.000Z', last: '2026-03-01T03:00:00.000Z', codeUnknown: 2 },
    estimate: { history: 2, medianMs: 1_000, p90Ms: 2_000, totalMedianMs: 2_000, totalP90Ms: 4_000 },
  })
  expect(await dry({ all: true })).toMatchObject({ chosen: 22 })
  expect((await app.inject('/api/v1/backfills')).json().items).toEqual([])
})

it('is written down once for an idempotency key, and submitted by an engine', async () => {
  const { start, submitted, app } = await opened()
  const first = await start({ ...march, note: 'why', by: 'ada' }, 'catalog', { 'idempotency-key': 'k' })
  expect(first.statusCode).toBe(201)
  const { id } = first.json()
  expect(first.headers.location).toBe(`/api/v1/backfills/${id}`)
  expect(first.json()).toMatchObject({
    ...{ state: 'submitting', total: 0, ticks: { total: 24, examined: 0 }, by: 'ada', note: 'why', maxActive: 8 },
    ...{ reasons: ['missing', 'failed'], order: 'oldest', params, paused: false },
  })
  const again = await start({ ...march, note: 'why', by: 'ada' }, 'catalog', { 'idempotency-key': 'k' })
  expect(again.json().id).toBe(id)
  const other = await start(march, 'catalog', { 'idempotency-key': 'k' })
  expect(other.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED', status: 422 })
  await submitted()
  expect((await app.inject(`/api/v1/backfills/${id}`)).json()).toMatchObject({
    ...{ state: 'running', total: 24, ticks: { total: 24, examined: 24 }, byReason: { missing: 24 } },
    runs: { queued: 24, running: 0, success: 0, failed: 0, cancelled: 0 },
  })
  const { items } = (await app.inject('/api/v1/runs?limit=1')).json()
  expect(items).toMatchObject([{ plan: `cron-1#${id}`, logicalTime: '2026-03-01T23:00:00.000Z' }])
})

it('is paused, gone on with and cancelled; what is over is not', async () => {
  const { start, submitted, post, app } = await opened()
  const { id } = (await start(march)).json()
  await submitted()
  expect((await post(`backfills/${id}/pause`)).json()).toMatchObject({ paused: true, state: 'running' })
  expect((await post(`backfills/${id}/pause`)).json()).toMatchObject({ paused: true })
  expect((await post(`backfills/${id}/resume`)).json()).toMatchObject({ paused: false })
  const cancelled = (await post(`backfills/${id}/cancel`, { by: 'ada' })).json()
  expect(cancelled).toMatchObject({
    ...{ state: 'cancelled', error: `backfill ${id} was cancelled by ada`, total: 24 },
    runs: { queued: 0, running: 0, success: 0, failed: 0, cancelled: 24 },
  })
  expect((await post(`backfills/${id}/cancel`)).statusCode).toBe(200)
  await submitted()
  expect((await app.inject(`/api/v1/backfills/${id}`)).json().endedAt).not.toBeNull()
  for (const act of ['pause', 'resume']) {
    expect((await post(`backfills/${id}/${act}`)).json()).toMatchObject({
      ...{ code: 'CONFLICT', detail: 'The backfill is over already: cancelled' },
    })
  }
  for (const unknown of ['0199c7a8-5f2e-7c31-9d0a-5b8000000000', 'x', '%00']) {
    expect((await post(`backfills/${unknown}/cancel`)).statusCode).toBe(404)
    expect((await app.inject(`/api/v1/backfills/${unknown}`)).statusCode).toBe(404)
  }
})

it('is listed newest first, page by page', async () => {
  const { start, app } = await opened()
  const ids: string[] = []
  for (let hour = 1; hour <= 3; hour += 1) {
    ids.unshift((await start({ ...march, to: `2026-03-01T0${hour}:00:00Z` })).json().id)
  }
  ids.sort().reverse()
  const first = (await app.inject('/api/v1/backfills?limit=2')).json()
  const second = (await app.inject(`/api/v1/backfills?limit=2&cursor=${first.nextCursor}`)).json()
  expect([...first.items, ...second.items].map((one) => one.id)).toEqual(ids)
  expect(second.nextCursor).toBeNull()
  expect((await app.inject('/api/v1/backfills?workflow=local')).json().items).toEqual([])
})

it('takes days in the zone of the plan', async () => {
  const { start } = await opened()
  const wish = { from: '2026-03-27', to: '2026-03-28', plan: 'nightly', dryRun: true }
  expect((await start(wish, 'local')).json()).toMatchObject({
    ...{
      from: '2026-03-26T23:00:00.000Z',
      to: '2026-03-27T23:00:00.000Z',
      ticks: 1,
      first: '2026-03-27T02:00:00.000Z',
    },
  })
})

const refused: readonly (readonly [string, string, object, number, string])[] = [
  ['an unknown workflow', 'nowhere', {}, 404, 'There is no workflow "nowhere"'],
  [
    'no plan at all',
    'empty',
    {},
    422,
    'A backfill needs a plan by the clock, whose ticks it runs; the plans of empty: none at all',
  ],
  [
    'several plans',
    'local',
    {},
    422,
    'There are several plans by the clock, name one; the plans of local: nightly (cron), often (interval), file (file-arrival)',
  ],
  ['a plan of events', 'local', { plan: 'file' }, 422, 'The plan file is not by the clock'],
  ['a mistyped plan', 'local', { plan: 'nightli' }, 422, 'There is no plan "nightli", did you mean nightly?'],
  [
    'no time',
    'catalog',
    { from: 'yesterday!' },
    422,
    '"yesterday!" is no time; write 2026-03-28T06:00:00Z, or the day 2026-03-28, which begins in UTC',
  ],
  ['a day that is none', 'catalog', { to: '2026-02-30' }, 422, '"2026-02-30" is no time'],
  [
    'to before from',
    'catalog',
    { to: '2026-03-01' },
    422,
    '/body/to: is 2026-03-01T00:00:00.000Z; allowed is a time after from',
  ],
  [
    'the future',
    'catalog',
    { to: '2026-03-29' },
    422,
    "up to now, 2026-03-28T12:00:00.000Z: later ticks are the plan's own",
  ],
  [
    'no tick',
    'catalog',
    { from: '2026-03-01T00:10:00Z', to: '2026-03-01T00:20:00Z' },
    422,
    'the plan cron-1 has no tick from',
  ],
  ['too many ticks', 'local', { from: '1980-01-01', plan: 'often' }, 422, 'There are more than 1000000 ticks'],
  ['reasons and all', 'catalog', { all: true, reasons: ['failed'] }, 422, 'is given beside all'],
  ['an unknown reason', 'catalog', { reasons: ['old'] }, 422, '/body/reasons/0'],
  ['no reason', 'catalog', { reasons: [] }, 422, '/body/reasons'],
  ['no places', 'catalog', { maxActive: 0 }, 422, '/body/maxActive'],
  ['too many places', 'catalog', { maxActive: 1_001 }, 422, '/body/maxActive'],
  ['an unknown order', 'catalog', { order: 'random' }, 422, '/body/order'],
  [
    'a parameter of the wrong type',
    'catalog',
    { params: { file: 3 } },
    422,
    'The parameters of the tick 2026-03-01T00:00:00.000Z do not fit catalog: /params/file',
  ],
  ['a missing parameter', 'catalog', { params: {} }, 422, 'do not fit catalog: /params/file'],
  ['an unknown field', 'catalog', { until: 'x' }, 422, '/body'],
  ['text that a database cannot hold', 'catalog', { note: 'a\0b' }, 422, '/body/note'],
] as const

it('refuses what it cannot do, says precisely why, and writes nothing down', async () => {
  const { start, app } = await opened()
  for (const [what, workflow, more, status, message] of refused) {
    const answer = await start({ ...march, ...more }, workflow)
    expect([what, answer.statusCode, answer.json().detail]).toEqual([what, status, expect.stringContaining(message)])
  }
  expect((await app.inject('/api/v1/backfills')).json().items).toEqual([])
})
