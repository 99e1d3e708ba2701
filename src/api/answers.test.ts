import { expect, it } from 'vitest'
import { endRun, insertRun, insertTask, testApi } from '../../test/test-api.ts'
import { taskIdOf } from '../core/ids.ts'
import { statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { appendLogs } from '../store/logs.ts'
import { recordTicks } from '../store/plans.ts'
import { ensureShards } from '../store/shards.ts'
import { ensureTopic } from '../store/topics.ts'

const putDeadLetter = statement(
  'test.put-dead-letter',
  `insert into sluice.stream_waiting (stream, partition, "offset", record_id, key, value, state, attempts, reason, since)
   values ('images', 0, $1, $2, null, '{"url":"x"}', 'dead', 5, 'FETCH_FAILED', sluice.sluice_now())`,
)
const putBatch = statement(
  'test.put-batch',
  `insert into sluice.ledger_batches (stream, partition, from_offset, to_offset, received, written, duplicate, filtered, rejected, dead, waiting, committed_at)
   values ('images', 0, 0, 3, 3, 0, 0, 0, 0, 3, 0, sluice.sluice_now())`,
)
const putTransition = statement(
  'test.put-transition',
  `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
   values ($1, 1, sluice.sluice_now(), 0, -1, 1, 'none', 'running', 'x')`,
)

const putDataset = statement(
  'test.put-dataset',
  `with named as (insert into sluice.datasets (name, last_version) values ('prim.orders', 1)),
   written as (
     insert into sluice.dataset_versions (dataset, version, hash, run_id, node, map_index, attempt, position, objects, row_count)
     values ('prim.orders', 1, repeat('a', 64), $1, 0, -1, 1, 0, '[]', 3)
   )
   insert into sluice.lineage (run_id, node, map_index, attempt, kind, what, dataset, version, hash)
   values ($1, 0, -1, 1, 'write', 'dataset', 'prim.orders', 1, repeat('a', 64))`,
)

async function filled() {
  const api = await testApi()
  const { db } = api
  const run = await insertRun(db)
  await insertTask(db, run, [0, -1], 'failed', { error: 'boom', result: [1] })
  await insertTask(db, run, [2, -1], 'upstream_failed')
  await db.execute(putTransition, [run])
  await db.execute(putDataset, [run])
  const task = taskIdOf(run, 0, -1)
  await appendLogs(db, [
    { source: task, attempt: 1, seq: 0, lines: '{"time":"x","level":"info","message":"a","n":1}\n' },
  ])
  await endRun(db, run, 'failed')
  const tick = { workflow: 'catalog', plan: 'cron-1', logicalTime: new Date(0), outcome: 'fired', reason: 'on time' }
  await recordTicks(db, [{ ...tick, runId: run }])
  await ensureTopic(db, 'urls', 2)
  await ensureShards(db, 'images', 'urls')
  for (let n = 0; n < 3; n += 1) await db.execute(putDeadLetter, [n, `r${n}`])
  await db.execute(putBatch)
  return { ...api, run, task, queued: await insertRun(db) }
}

it('are what the OpenAPI document says, field by field', async () => {
  const { app, run, task, queued } = await filled()
  const march = { from: '2026-03-01', to: '2026-03-02', params: { file: 'a' } }
  const url = '/api/v1/workflows/catalog/backfills'
  const backfill = (await app.inject({ method: 'POST', url, payload: march })).json().id
  const document = (await app.inject('/openapi.json')).json()
  const requests: [string, string, object?][] = [
    ['GET /healthz', '/healthz'],
    ['GET /readyz', '/readyz'],
    ['GET /openapi.json', '/openapi.json'],
    ['GET /api/v1/workflows', '/api/v1/workflows'],
    ['GET /api/v1/workflows/{name}', '/api/v1/workflows/catalog'],
    ['POST /api/v1/workflows/{name}/runs', '/api/v1/workflows/catalog/runs', { params: { file: 'a' } }],
    ['GET /api/v1/workflows/{name}/plans', '/api/v1/workflows/catalog/plans'],
    ['GET /api/v1/plans', '/api/v1/plans'],
    ['GET /api/v1/plans/ticks', '/api/v1/plans/ticks'],
    ['GET /api/v1/hosts', '/api/v1/hosts'],
    ['GET /api/v1/datasets', '/api/v1/datasets'],
    ['GET /api/v1/datasets/{name}/versions', '/api/v1/datasets/prim.orders/versions'],
    ['GET /api/v1/datasets/{name}/lineage', '/api/v1/datasets/prim.orders/lineage'],
    ['GET /api/v1/runs/{id}/lineage', `/api/v1/runs/${run}/lineage`],
    ['GET /api/v1/tasks/{id}/why', `/api/v1/tasks/${task}/why`],
    ['GET /api/v1/runs/{id}/why', `/api/v1/runs/${queued}/why`],
    ['PUT /api/v1/limits/{kind}/{name}', '/api/v1/limits/pool/etl', { slots: 3 }],
    ['GET /api/v1/limits/{kind}/{name}', '/api/v1/limits/pool/etl'],
    ['GET /api/v1/limits', '/api/v1/limits'],
    ['DELETE /api/v1/limits/{kind}/{name}', '/api/v1/limits/pool/etl'],
    ['GET /api/v1/runs', '/api/v1/runs'],
    ['GET /api/v1/runs/{id}', `/api/v1/runs/${run}`],
    ['GET /api/v1/runs/{id}/tasks', `/api/v1/runs/${run}/tasks`],
    ['GET /api/v1/runs/{id}/transitions', `/api/v1/runs/${run}/transitions`],
    ['GET /api/v1/runs/{id}/logs', `/api/v1/runs/${run}/logs`],
    ['POST /api/v1/runs/{id}/clear', `/api/v1/runs/${run}/clear`, { tasks: ['keep'], dryRun: true }],
    ['POST /api/v1/runs/{id}/retry', `/api/v1/runs/${run}/retry`, { version: 'latest' }],
    ['GET /api/v1/approvals', '/api/v1/approvals'],
    ['POST /api/v1/workflows/{name}/pause', '/api/v1/workflows/catalog/pause'],
    ['POST /api/v1/workflows/{name}/resume', '/api/v1/workflows/catalog/resume'],
    ['POST /api/v1/runs/{id}/cancel', `/api/v1/runs/${queued}/cancel`],
    ['POST /api/v1/workflows/{name}/backfills', url, { ...march, dryRun: true }],
    ['GET /api/v1/backfills', '/api/v1/backfills'],
    ['GET /api/v1/backfills/{id}', `/api/v1/backfills/${backfill}`],
    ['POST /api/v1/backfills/{id}/pause', `/api/v1/backfills/${backfill}/pause`],
    ['POST /api/v1/backfills/{id}/resume', `/api/v1/backfills/${backfill}/resume`],
    ['POST /api/v1/backfills/{id}/cancel', `/api/v1/backfills/${backfill}/cancel`, { by: 'ada' }],
    ['GET /api/v1/tasks/{id}', `/api/v1/tasks/${task}`],
    ['GET /api/v1/tasks/{id}/logs', `/api/v1/tasks/${task}/logs`],
    ['GET /api/v1/streams', '/api/v1/streams'],
    ['GET /api/v1/streams/{name}', '/api/v1/streams/images'],
    ['GET /api/v1/streams/{name}/dead-letters', '/api/v1/streams/images/dead-letters'],
    ['GET /api/v1/streams/{name}/dead-letters/{partition}/{offset}', '/api/v1/streams/images/dead-letters/0/0'],
    [
      'PUT /api/v1/streams/{name}/dead-letters/{partition}/{offset}',
      '/api/v1/streams/images/dead-letters/0/0',
      { value: { id: 'r0', url: 'y' }, by: 'ada' },
    ],
    [
      'POST /api/v1/streams/{name}/dead-letters/replay',
      '/api/v1/streams/images/dead-letters/replay',
      { ids: ['r1', 'r9'] },
    ],
    ['POST /api/v1/streams/{name}/pause', '/api/v1/streams/images/pause', { by: 'ada', note: 'a move' }],
    ['POST /api/v1/streams/{name}/drain', '/api/v1/streams/images/drain'],
    ['POST /api/v1/streams/{name}/resume', '/api/v1/streams/images/resume'],
    ['POST /api/v1/streams/{name}/rewind', '/api/v1/streams/images/rewind', { beginning: true }],
    ['POST /api/v1/streams/{name}/scale', '/api/v1/streams/images/scale', { partitions: 2 }],
    ['GET /api/v1/streams/{name}/operations', '/api/v1/streams/images/operations'],
  ]
  for (const [operation, url, payload] of requests) {
    const [method, path] = operation.split(' ') as ['GET', string]
    const answer = await app.inject({ method, url, ...(payload && { payload }) })
    const described = document.paths[path][method.toLowerCase()].responses[answer.statusCode]
    const [content] = Object.values<{ schema: true; example?: unknown }>(described.content)
    const schema = z.fromJSONSchema(content!.schema)
    expect([operation, schema.safeParse(answer.json()).error]).toEqual([operation, undefined])
    const { example } = content!
    if (example) expect([operation, schema.safeParse(example).error]).toEqual([operation, undefined])
  }
  // Those that answer with something else than JSON, or need a signature or an approval, are tried elsewhere.
  const others = [
    'GET /metrics',
    'POST /api/v1/tasks/{id}/approval',
    'POST /api/v1/hooks/{workflow}/{hook}',
    'GET /docs',
    'GET /docs/{file}',
  ]
  const known = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect([...requests.map(([operation]) => operation), ...others].sort()).toEqual(known.sort())
})

it('page and replay dead letters', async () => {
  const { app } = await filled()
  const list = async (query: string) => (await app.inject(`/api/v1/streams/images/dead-letters?limit=2${query}`)).json()
  const first = await list('')
  expect(first.items).toMatchObject([{ id: 'r0', value: { url: 'x' }, reason: 'FETCH_FAILED' }, { id: 'r1' }])
  const second = await list(`&cursor=${first.nextCursor}`)
  expect([second.items.map(({ id }: { id: string }) => id), second.nextCursor]).toEqual([['r2'], null])
  const replay = (payload: object) =>
    app.inject({ method: 'POST', url: '/api/v1/streams/images/dead-letters/replay', payload })
  expect((await replay({ ids: ['r1'] })).json()).toEqual({ replayed: 1, remaining: 0, notDead: [] })
  expect((await replay({ all: true })).json()).toEqual({ replayed: 2, remaining: 0, notDead: [] })
  expect((await list('')).items).toEqual([])
})
