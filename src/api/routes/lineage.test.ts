import { beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { endRun, insertRun, insertTask, openTestApi, type TestApi } from '../../../test/test-api.ts'
import { statement } from '../../ports/database.ts'
import { type LineageNote, noteEnvironment, noteLineage, publishDatasets, writeDataset } from '../../store/lineage.ts'

let test: TestDatabase
let api: TestApi
const giveToken = statement('test.token', 'update sluice.tasks set token = $3 where run_id = $1 and node = $2')
const succeed = statement('test.succeed', `update sluice.tasks set state = 'success', token = null where run_id = $1`)
const read = (name: string, what: LineageNote['what'] = 'dataset'): LineageNote => ({
  ...{ kind: 'read', what, name, version: 1, hash: null },
})

let token = 0
/** A run that reads some datasets and writes others. */
async function run(reads: LineageNote[], writes: string[]): Promise<string> {
  const id = await insertRun(test.db)
  token += 1
  await insertTask(test.db, id, [1, 2], 'running')
  await test.db.execute(giveToken, [id, 1, token])
  const key = { runId: id, node: 1, mapIndex: 2, token }
  await noteLineage(test.db, [{ key, notes: reads }])
  for (const [position, dataset] of writes.entries()) {
    const content = { hash: null, objects: [], rows: position, metadata: '{"made":true}' }
    await writeDataset(test.db, 'test', key, { dataset, doc: `about ${dataset}`, position, ...content })
  }
  await test.db.execute(succeed, [id])
  await endRun(test.db, id, 'success')
  await publishDatasets(test.db)
  await noteEnvironment(test.db, [id], '{"node":"24"}')
  return id
}

let ids: string[]
beforeAll(async () => {
  test = await testDatabase()
  api = await openTestApi(test.db)
  ids = [
    await run([read('/in/a.csv', 'file')], ['a']),
    await run([read('a'), read('web', 'connection')], ['b', 'b']),
    await run([read('b'), read('things', 'topic')], ['c']),
    // A run may read again what it wrote itself.
    await run([read('c'), read('a')], ['a']),
  ]
  return async () => {
    await api.close()
    await test.drop()
  }
})
async function get(path: string) {
  const response = await api.app.inject({ url: `/api/v1${path}`, headers: { host: 'localhost' } })
  return { status: response.statusCode, body: response.json() }
}

describe('datasets', () => {
  it('are listed by name with their latest version, page by page', async () => {
    const { body } = await get('/datasets?limit=2')
    expect(body.items).toMatchObject([
      { name: 'a', doc: 'about a', version: 2, runId: ids[3] },
      { name: 'b', version: 2, rows: 1, runId: ids[1] },
    ])
    const next = await get(`/datasets?limit=2&cursor=${body.nextCursor}`)
    expect(next.body).toMatchObject({ items: [{ name: 'c', version: 1 }], nextCursor: null })
  })

  it('have their versions, newest first, page by page', async () => {
    const { body } = await get('/datasets/b/versions?limit=1')
    expect(body.items).toMatchObject([
      {
        version: 2,
        sha256: null,
        objects: [],
        rows: 1,
        metadata: { made: true },
        runId: ids[1],
        task: 'fetch',
        index: 2,
      },
    ])
    const next = await get(`/datasets/b/versions?limit=1&cursor=${body.nextCursor}`)
    expect(next.body).toMatchObject({ items: [{ version: 1 }], nextCursor: null })
    expect(await get(`/datasets/a/versions?cursor=${body.nextCursor}`)).toMatchObject({
      body: { code: 'INVALID_CURSOR' },
    })
    expect(await get('/datasets/none/versions')).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  const ends = (edges: { from: { name: string }; to: { name: string } }[]) =>
    edges.map(({ from, to }) => `${from.name} > ${to.name}`)

  it('have what they are made of and what is made of them, as deep as is asked', async () => {
    const { body } = await get('/datasets/b/lineage')
    expect(ends(body.upstream)).toEqual(['a > b', 'c > a', '/in/a.csv > a', 'b > c', 'things > c'])
    expect(ends(body.downstream)).toEqual(['b > c', 'c > a', 'a > b'])
    expect(body).toMatchObject({ name: 'b', truncated: false })
    expect(body.upstream[0]).toEqual({
      ...{
        from: { what: 'dataset', name: 'a' },
        to: { what: 'dataset', name: 'b' },
        workflow: 'catalog',
        lastRunId: ids[1],
      },
    })
    const near = await get('/datasets/b/lineage?depth=1')
    expect([ends(near.body.upstream), ends(near.body.downstream)]).toEqual([['a > b'], ['b > c']])
    expect(near.body.truncated).toBe(true)
  })

  it('are not all: topics, documents and files have lineage too', async () => {
    const { body } = await get('/datasets/topic%3Athings/lineage?depth=1')
    expect(ends(body.downstream)).toEqual(['things > c'])
    expect(
      (await get(`/datasets/${encodeURIComponent('file:/in/a.csv')}/lineage?depth=1`)).body.downstream,
    ).toHaveLength(1)
    expect(await get('/datasets/topic%3Anone/lineage')).toMatchObject({ status: 404 })
    expect(await get('/datasets/b/lineage?depth=11')).toMatchObject({ status: 422 })
  })
})

describe('the lineage of a run', () => {
  it('is what its tasks read and wrote, page by page, and what it was executed in', async () => {
    const { body } = await get(`/runs/${ids[1]}/lineage?limit=3`)
    expect(body.environments).toEqual([{ node: '24' }])
    expect(body.items).toMatchObject([
      { task: 'fetch', index: 2, attempt: 1, kind: 'read', what: 'dataset', name: 'a', version: 1 },
      { kind: 'read', what: 'connection', name: 'web' },
      { kind: 'write', what: 'dataset', name: 'b', version: 1 },
    ])
    const next = await get(`/runs/${ids[1]}/lineage?limit=3&cursor=${body.nextCursor}`)
    expect(next.body).toMatchObject({ items: [{ name: 'b', version: 2 }], nextCursor: null })
    expect(await get(`/runs/${ids[2]}/lineage?cursor=${body.nextCursor}`)).toMatchObject({ status: 400 })
    expect(await get('/runs/0199c7a8-5f2e-7c31-9d0a-5b8000000000/lineage')).toMatchObject({ status: 404 })
  })
})
