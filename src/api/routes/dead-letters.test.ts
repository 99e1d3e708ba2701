import type { InjectOptions } from 'fastify'
import { expect, it } from 'vitest'
import { testApi } from '../../../test/test-api.ts'
import { type Database, statement } from '../../ports/database.ts'
import { ensureShards } from '../../store/shards.ts'
import { append, ensureTopic } from '../../store/topics.ts'
import { encodeCursor } from '../cursor.ts'

const putLetters = statement(
  'test.put-letters',
  `
  insert into sluice.stream_waiting (stream, partition, "offset", record_id, key, value, state, attempts, reason, since)
  select 'images', 0, n, 'r' || n, 'k' || n % 2, json_build_object('id', 'r' || n, 'url', 'k' || n % 2)::text, 'dead', 5,
    case when n < 2 then 'timeout' else 'fetch failed' end, '2026-03-28T00:00:00Z'::timestamptz + n * interval '1 hour'
  from generate_series(0, 3) as n`,
)
const countEdits = statement<{ edits: number }>(
  'test.count-edits',
  'select count(*)::int as edits from sluice.record_edits',
)

async function filled() {
  const api = await testApi()
  const db: Database = api.db
  await ensureTopic(db, 'urls', 2)
  await ensureShards(db, 'images', 'urls')
  await db.transaction((session) => append(session, 'urls', [{ id: 'r0', key: 'k', value: '{}' }]))
  await db.execute(putLetters)
  const ask = async (method: 'GET' | 'PUT' | 'POST', path: string, payload?: object, key?: string) => {
    const url = `/api/v1/streams/images/dead-letters${path}`
    const headers = key === undefined ? {} : { 'idempotency-key': key }
    const options: InjectOptions = { method, url, headers, ...(payload === undefined ? {} : { payload }) }
    const answer = await api.app.inject(options)
    return { status: answer.statusCode, body: answer.json() }
  }
  const ids = (body: { items: { id: string }[] }) => body.items.map(({ id }) => id)
  return { ...api, ask, ids }
}

it('lists dead letters by reason, key and time of death, and pages with the same filter', async () => {
  const { ask, ids } = await filled()
  expect(ids((await ask('GET', '?reason=timeout')).body)).toEqual(['r0', 'r1'])
  expect(ids((await ask('GET', '?key=k1&reason=fetch%20failed')).body)).toEqual(['r3'])
  expect(ids((await ask('GET', '?since=2026-03-28T03:00:00%2B01:00')).body)).toEqual(['r2', 'r3'])
  const { body } = await ask('GET', '?key=k0&limit=1')
  expect(ids(body)).toEqual(['r0'])
  expect(ids((await ask('GET', `?key=k0&limit=1&cursor=${body.nextCursor}`)).body)).toEqual(['r2'])
})

it('goes on only from a place that it gave out for this stream', async () => {
  const { ask, ids } = await filled()
  const goesOn = async (kind: string) => ask('GET', `?cursor=${encodeCursor(kind, '0:1')}`)
  expect(ids((await goesOn('dead-letters images')).body)).toEqual(['r2', 'r3'])
  for (const kind of ['dead-letters other', 'dead-letters']) {
    expect(await goesOn(kind)).toMatchObject({ status: 400, body: { code: 'INVALID_CURSOR' } })
  }
})

it.each([
  ['GET', '?since=yesterday', undefined, 422, '/query/since'],
  ['GET', '?color=red', undefined, 422, '/query/color'],
  ['GET', '?cursor=eHg', undefined, 400, undefined],
  ['GET', '/0/99', undefined, 404, undefined],
  ['GET', '/999/0', undefined, 422, '/path/partition'],
  ['GET', '/0/-1', undefined, 422, '/path/offset'],
  ['GET', '/0/1e99', undefined, 422, '/path/offset'],
  ['PUT', '/0/99', { value: { id: 'r99' } }, 404, undefined],
  ['PUT', '/0/0', {}, 422, '/body/value'],
  ['PUT', '/0/0', { value: { id: 'r7' } }, 422, '/body/value'],
  ['PUT', '/0/0', { value: 'no object' }, 422, '/body/value'],
  ['PUT', '/0/0', { value: { id: 'r0' }, edits: 3 }, 409, undefined],
  ['PUT', '/0/0', { value: { id: 'r0', text: 'x'.repeat(1_048_576) } }, 413, undefined],
  ['POST', '/replay', {}, 422, '/body'],
  ['POST', '/replay', { all: true, ids: ['r0'] }, 422, '/body'],
  ['POST', '/replay', { filter: {} }, 422, '/body/filter'],
  ['POST', '/replay', { letters: ['0/1'] }, 422, '/body/letters/0'],
] as const)('refuses %s %s %j with %i', async (method, path, payload, status, where) => {
  const { ask, db } = await filled()
  const answer = await ask(method, path, payload)
  expect([answer.status, answer.body.errors[0]?.where]).toEqual([status, where])
  expect(await db.query(countEdits)).toEqual([{ edits: 0 }])
  expect((await ask('GET', '')).body.items).toHaveLength(4)
})

it('says what is wrong with a body that is no JSON, and changes nothing', async () => {
  const { app, ask } = await filled()
  const url = '/api/v1/streams/images/dead-letters/0/0'
  const headers = { 'content-type': 'application/json' }
  const answer = await app.inject({ method: 'PUT', url, headers, payload: '{"value": {"id": "r0",}' })
  expect([answer.statusCode, answer.json().code]).toEqual([400, 'MALFORMED_JSON'])
  expect((await ask('GET', '/0/0')).body).toMatchObject({ edits: 0, state: 'dead' })
})

it('edits a letter, and shows both values and who did it', async () => {
  const { ask } = await filled()
  const answer = await ask('PUT', '/0/0', { value: { id: 'r0', url: 'new' }, by: 'ada', note: 'moved', edits: 0 })
  expect(answer).toMatchObject({
    status: 200,
    body: {
      ...{ id: 'r0', offset: 0, key: 'new', state: 'dead', edits: 1 },
      value: { id: 'r0', url: 'new' },
      original: { id: 'r0', url: 'k0' },
      changes: [{ by: 'ada', note: 'moved', value: { id: 'r0', url: 'new' } }],
    },
  })
  await ask('POST', '/replay', { letters: ['0:0'] })
  const late = await ask('PUT', '/0/0', { value: { id: 'r0', url: 'newer' } })
  expect([late.status, late.body.code]).toEqual([409, 'CONFLICT'])
  expect((await ask('GET', '/0/0')).body).toMatchObject({ state: 'waiting', replays: 1, history: [{ was: 'dead' }] })
})

it('does once what is asked again under the same Idempotency-Key, and refuses the key for anything else', async () => {
  const { ask, db } = await filled()
  const edit = { value: { id: 'r0', url: 'new' } }
  const both = await Promise.all([ask('PUT', '/0/0', edit, 'one'), ask('PUT', '/0/0', edit, 'one')])
  expect(both.map(({ status, body }) => [status, body.edits])).toEqual([
    [200, 1],
    [200, 1],
  ])
  expect(await db.query(countEdits)).toEqual([{ edits: 1 }])
  const replay = () => ask('POST', '/replay', { filter: { reason: 'timeout' } }, 'two')
  const replays = await Promise.all([replay(), replay(), replay()])
  expect(replays.map(({ body }) => body)).toEqual(
    Array.from({ length: 3 }, () => ({ replayed: 2, remaining: 0, notDead: [] })),
  )
  // Later it gives the answer of then, and touches nothing.
  expect((await replay()).body).toEqual({ replayed: 2, remaining: 0, notDead: [] })
  expect((await ask('GET', '')).body.items).toHaveLength(2)
  const other = await ask('POST', '/replay', { all: true }, 'two')
  expect([other.status, other.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
})

it('says that a stream which this process does not have yet cannot judge a value', async () => {
  const { app } = await testApi({ identify: () => undefined })
  const url = '/api/v1/streams/images/dead-letters/0/0'
  const answer = await app.inject({ method: 'PUT', url, payload: { value: 1 } })
  expect([answer.statusCode, answer.json().code]).toEqual([503, 'UNAVAILABLE'])
})
