import { describe, expect, it } from 'vitest'
import { endRun, insertRun, insertTask, insertWidth, testApi } from '../../../test/test-api.ts'
import { newRunId, taskIdOf } from '../../core/ids.ts'
import { statement } from '../../ports/database.ts'

const unknown = newRunId(1_700_000_000_000, () => 0.1)

const logTransition = statement(
  'test.log-transition',
  `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state)
   values ($1, $2, sluice.sluice_now(), $3, $4, 1, 'none', 'running')`,
)

/** All items of a list, page by page. */
async function collect(
  app: Awaited<ReturnType<typeof testApi>>['app'],
  url: string,
): Promise<Record<string, unknown>[]> {
  const items: Record<string, unknown>[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: { items: Record<string, unknown>[]; nextCursor: string | null } = (
      await app.inject(`${url}${cursor === '' ? '' : `&cursor=${cursor}`}`)
    ).json()
    items.push(...page.items)
    cursor = page.nextCursor
  }
  return items
}

describe('runs', () => {
  it('are listed newest first, filtered and paged', async () => {
    const { app, db } = await testApi()
    const ids: string[] = []
    for (let n = 0; n < 7; n += 1) ids.push(await insertRun(db, { workflow: n % 2 === 0 ? 'catalog' : 'empty' }))
    await endRun(db, ids[2] as string, 'failed')
    await endRun(db, ids[3] as string, 'failed')
    const idsOf = async (filter: string) => (await collect(app, `/api/v1/runs?limit=2${filter}`)).map((run) => run.id)
    const newest = ids.toReversed()
    expect(await idsOf('')).toEqual(newest)
    expect(await idsOf('&workflow=empty')).toEqual([5, 3, 1].map((n) => ids[n]))
    expect(await idsOf('&state=queued')).toEqual([6, 5, 4, 1, 0].map((n) => ids[n]))
    expect(await idsOf('&state=failed&workflow=catalog')).toEqual([ids[2]])
    expect(await idsOf('&workflow=nobody')).toEqual([])
  })

  it.each([
    'limit=0',
    'limit=1001',
    'limit=-1',
    'limit=1e99',
    'limit=x',
    'limit=1&limit=2',
    'state=odd',
    'workflow=%00',
    'colour=red',
  ])('refuse %s', async (query) => {
    const { app } = await testApi()
    const answer = await app.inject(`/api/v1/runs?${query}`)
    const { status, code, errors } = answer.json()
    expect([status, code, errors[0].where]).toEqual([422, 'INVALID_INPUT', `/query/${query.split('=')[0]}`])
  })

  it('refuse a cursor of another list', async () => {
    const { app, db } = await testApi()
    await insertRun(db)
    const { nextCursor } = (await app.inject('/api/v1/workflows?limit=1')).json()
    for (const cursor of [nextCursor, 'x', '%20']) {
      expect((await app.inject(`/api/v1/runs?cursor=${cursor}`)).json()).toMatchObject({
        status: 400,
        code: 'INVALID_CURSOR',
      })
    }
  })

  it('count their tasks, those that have not started included', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    const read = async () => (await app.inject(`/api/v1/runs/${id}`)).json()
    expect(await read()).toMatchObject({
      state: 'queued',
      tasks: { none: 3 },
      progress: { done: 0, total: 3 },
      cancelRequested: false,
    })
    await insertTask(db, id, [0, -1], 'success')
    await insertWidth(db, id, 1, 4)
    await insertTask(db, id, [1, 2], 'failed')
    await insertTask(db, id, [1, 0], 'running')
    expect(await read()).toMatchObject({
      tasks: { success: 1, failed: 1, running: 1, none: 3 },
      progress: { done: 2, total: 6 },
    })
  })

  it.each(['', '/tasks', '/transitions', '/logs'])('that do not exist are not found: %s', async (below) => {
    const { app } = await testApi()
    for (const id of [unknown, 'x', '%00', "'"]) {
      const answer = await app.inject(`/api/v1/runs/${id}${below}`)
      expect(answer.json()).toMatchObject({ status: 404, code: 'NOT_FOUND' })
    }
  })

  it('are cancelled once, and only before their end', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    const cancel = () => app.inject({ method: 'POST', url: `/api/v1/runs/${id}/cancel` })
    for (const answer of [await cancel(), await cancel()]) {
      expect([answer.statusCode, answer.json()]).toEqual([202, { id, state: 'queued' }])
    }
    expect((await app.inject(`/api/v1/runs/${id}`)).json()).toMatchObject({ cancelRequested: true })
    await endRun(db, id, 'cancelled')
    expect((await cancel()).json()).toMatchObject({ status: 409, code: 'CONFLICT' })
    expect((await app.inject({ method: 'POST', url: `/api/v1/runs/${unknown}/cancel` })).statusCode).toBe(404)
  })

  it('can be waited for', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    const waiting = app.inject(`/api/v1/runs/${id}?wait=30s`)
    await endRun(db, id, 'running')
    await endRun(db, id, 'success')
    expect((await waiting).json()).toMatchObject({ state: 'success' })
    expect((await app.inject(`/api/v1/runs/${id}?wait=31s`)).json()).toMatchObject({
      errors: [{ where: '/query/wait' }],
    })
  })

  it('tell every change in order', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    for (const [seq, node, index] of [
      [1, 0, -1],
      [2, 1, 0],
      [3, -1, -1],
    ])
      await db.execute(logTransition, [id, seq, node, index])
    const changes = await collect(app, `/api/v1/runs/${id}/transitions?limit=1`)
    expect(changes.map(({ seq, task, index }) => [seq, task, index])).toEqual([
      [1, 'keep', null],
      [2, 'fetch', 0],
      [3, null, null],
    ])
  })
})

describe('tasks', () => {
  it('are those of the graph, in its order, with what their rows say', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    const list = async (query = '') =>
      (await collect(app, `/api/v1/runs/${id}/tasks?limit=2${query}`)).map(({ name, index, state }) => [
        name,
        index,
        state,
      ])
    expect(await list()).toEqual([
      ['keep', null, 'none'],
      ['fetch', null, 'none'],
      ['publish', null, 'none'],
    ])
    await insertTask(db, id, [0, -1], 'success')
    await insertWidth(db, id, 1, 3)
    await insertTask(db, id, [1, 2], 'running')
    expect(await list()).toEqual([
      ['keep', null, 'success'],
      ['fetch', 0, 'none'],
      ['fetch', 1, 'none'],
      ['fetch', 2, 'running'],
      ['publish', null, 'none'],
    ])
    expect(await list('&state=running')).toEqual([['fetch', 2, 'running']])
  })

  it('of a mapped node that ended as a whole are one', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    await insertWidth(db, id, 1, 3)
    await insertTask(db, id, [1, -1], 'cancelled')
    await endRun(db, id, 'cancelled')
    expect((await collect(app, `/api/v1/runs/${id}/tasks?limit=9`)).map(({ name, state }) => [name, state])).toEqual([
      ['keep', 'cancelled'],
      ['fetch', 'cancelled'],
      ['publish', 'cancelled'],
    ])
  })

  it('are found by their id, before and after their start', async () => {
    const { app, db } = await testApi()
    const id = await insertRun(db)
    const read = async (node: number, index: number) =>
      (await app.inject(`/api/v1/tasks/${taskIdOf(id, node, index)}`)).json()
    expect(await read(0, -1)).toMatchObject({ name: 'keep', runId: id, state: 'none', result: null })
    await insertTask(db, id, [0, -1], 'success', { result: { sha256: 'ab' } })
    expect(await read(0, -1)).toMatchObject({ state: 'success', result: { sha256: 'ab' }, upstream: [] })
    expect(await read(1, 0)).toMatchObject({ status: 404 })
    await insertWidth(db, id, 1, 1)
    expect(await read(1, 0)).toMatchObject({ name: 'fetch', index: 0, upstream: ['keep'] })
    expect(await read(1, 1)).toMatchObject({ status: 404 })
    expect(await read(9, -1)).toMatchObject({ status: 404 })
    for (const other of [id, 'x']) expect((await app.inject(`/api/v1/tasks/${other}`)).statusCode).toBe(404)
  })
})
