import type { InjectOptions } from 'fastify'
import { expect, it } from 'vitest'
import { testApi, testManifest } from '../../../test/test-api.ts'
import type { Manifest } from '../../core/manifest.ts'
import { statement } from '../../ports/database.ts'
import { ensureShards } from '../../store/shards.ts'
import { append, ensureTopic } from '../../store/topics.ts'

const committed = statement(
  'test.committed',
  `with shard as (
     update sluice.shards set committed_offset = 2, committed_at = '2026-03-28T00:00:00Z' where stream = 'images' and partition = 0
   )
   insert into sluice.ledger_batches
     (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at)
   values ('images', 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, '2026-03-28T00:00:00Z')`,
)

async function world(manifest: Manifest = testManifest) {
  const api = await testApi({ manifest: () => manifest })
  await ensureTopic(api.db, 'urls', 2)
  await ensureShards(api.db, 'images', 'urls')
  await api.db.transaction((session) =>
    append(
      session,
      'urls',
      ['r0', 'r1', 'r2'].map((id) => ({ id, key: 'k', value: '{}' })),
    ),
  )
  await api.db.execute(committed)
  const ask = async (method: 'GET' | 'POST', path: string, payload?: object, key?: string) => {
    const headers = key === undefined ? {} : { 'idempotency-key': key }
    const url = path === '' ? '/api/v1/streams' : `/api/v1/streams/${path}`
    const options: InjectOptions = { method, url, headers, ...(payload === undefined ? {} : { payload }) }
    const answer = await api.app.inject(options)
    return { status: answer.statusCode, body: answer.json() }
  }
  return { ...api, ask }
}

it('pauses, drains and resumes, says whether that changed anything, and keeps who asked and why', async () => {
  const { ask } = await world()
  const note = 'the warehouse is being moved'
  expect(await ask('POST', 'images/pause', { by: 'ada', note })).toEqual({
    status: 200,
    body: { name: 'images', mode: 'paused', changed: true },
  })
  expect((await ask('POST', 'images/pause')).body).toMatchObject({ changed: false })
  expect((await ask('GET', 'images')).body).toMatchObject({ mode: 'paused' })
  expect((await ask('POST', 'images/drain')).body).toMatchObject({ mode: 'draining', changed: true })
  expect((await ask('GET', '')).body.items[0]).toMatchObject({ name: 'images', mode: 'draining' })
  expect((await ask('POST', 'images/resume')).body).toMatchObject({ mode: 'running', changed: true })
  const first = (await ask('GET', 'images/operations?limit=2')).body
  expect(first.items.map(({ act }: { act: string }) => act)).toEqual(['resume', 'drain'])
  const rest = (await ask('GET', `images/operations?limit=2&cursor=${first.nextCursor}`)).body
  expect(rest).toMatchObject({ items: [{ act: 'pause', by: 'ada', note, detail: {} }], nextCursor: null })
})

it('says of what age the oldest is that has not ended', async () => {
  const { ask, db } = await world()
  const { body } = await ask('GET', 'images')
  const rows = await db.query(
    statement<{ at: Date }>('test.published', 'select published_at as at from sluice.topic_records'),
  )
  expect(rows.map(({ at }) => at.toISOString())).toContain(body.oldest.queued)
  expect(body.oldest.waiting).toBeNull()
})

it('rewinds once per idempotency key', async () => {
  const { ask } = await world()
  const again = { beginning: true, partition: 0, by: 'ada' }
  const done = { name: 'images', shards: [{ partition: 0, from: 2, to: 0, records: 2 }] }
  expect(await ask('POST', 'images/rewind', again, 'once')).toEqual({ status: 200, body: done })
  expect(await ask('POST', 'images/rewind', again, 'once')).toEqual({ status: 200, body: done })
  expect((await ask('GET', 'images')).body.totals).toMatchObject({ received: 3, written: 0, pending: 3 })
  expect(await ask('POST', 'images/rewind', { ...again, partition: 1 }, 'once')).toMatchObject({
    status: 422,
    body: { code: 'IDEMPOTENCY_KEY_REUSED' },
  })
})

it('adds partitions and never takes one away', async () => {
  const { ask, db } = await world()
  expect((await ask('POST', 'images/scale', { partitions: 4 })).body).toEqual({
    ...{ name: 'images', topic: 'urls', partitions: 4, before: 2 },
  })
  expect((await ask('GET', 'images')).body.shards).toHaveLength(4)
  expect(await ask('POST', 'images/scale', { partitions: 3 })).toMatchObject({
    status: 409,
    body: { code: 'CONFLICT' },
  })
  await db.execute(statement('test.elsewhere', `update sluice.shards set topic = 'kafka:urls'`))
  expect(await ask('POST', 'images/scale', { partitions: 8 })).toMatchObject({
    status: 404,
    body: { code: 'NOT_FOUND' },
  })
})

it('refuses to rewind what cannot be received again', async () => {
  const [images] = testManifest.streams
  const timer = { kind: 'timer', name: 'checks', shards: 2, refreshMs: 5_000 } as const
  const timed = await world({ ...testManifest, streams: [{ ...images!, source: timer }] })
  for (const [act, body] of [
    ['rewind', { beginning: true }],
    ['scale', { partitions: 4 }],
  ] as const) {
    const refused = await timed.ask('POST', `images/${act}`, body)
    expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining('timer checks') } })
  }
  const distinct = await world({ ...testManifest, streams: [{ ...images!, distinct: true }] })
  const refused = await distinct.ask('POST', 'images/rewind', { beginning: true })
  expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining('each key once') } })
})

it.each([
  ['nothing/pause', undefined, 404],
  ['images/pause', { by: '' }, 422],
  ['images/pause', { color: 'red' }, 422],
  ['images/rewind', {}, 422],
  ['images/rewind', { beginning: true, offset: 3 }, 422],
  ['images/rewind', { beginning: false }, 422],
  ['images/rewind', { offset: -1 }, 422],
  ['images/rewind', { time: 'yesterday' }, 422],
  ['images/rewind', { beginning: true, partition: 9 }, 404],
  ['images/scale', {}, 422],
  ['images/scale', { partitions: 257 }, 422],
  ['images/scale', { partitions: 2.5 }, 422],
])('POST %s %j is refused: %i', async (path, body, status) => {
  const { ask } = await world()
  const answer = await ask('POST', path, body)
  expect([answer.status, typeof answer.body.detail]).toEqual([status, 'string'])
})
