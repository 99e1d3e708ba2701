import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  insertRun,
  insertTask,
  type TestApi,
  testApi,
  testManifest,
  testNode,
  testWorkflow,
} from '../../../test/test-api.ts'
import { taskIdOf } from '../../core/ids.ts'
import type { Manifest } from '../../core/manifest.ts'
import { statement } from '../../ports/database.ts'
import { admitRuns } from '../../store/admit-runs.ts'
import { registerNode } from '../../store/nodes.ts'
import { showLines, showRunners } from '../../store/shown-limits.ts'

const limits = {
  pool: { name: 'etl', of: 3, slots: 1 },
  rate: { name: 'api', limit: 60, perMs: 60_000, burst: 2 },
}
const workflow = { ...testWorkflow, maxActiveRuns: 1, nodes: [{ ...testNode('keep'), limits }, testNode('fetch', [0])] }
const manifest: Manifest = { ...testManifest, workflows: [workflow] }
const open = () => testApi({ manifest: () => manifest })

const put = ({ app }: TestApi, path: string, body: object) =>
  app.inject({ method: 'PUT', url: `/api/v1/limits/${path}`, payload: body })

describe('limits', () => {
  it('are listed as they are declared, page by page and by kind', async () => {
    const { app } = await open()
    const first = (await app.inject('/api/v1/limits?limit=2')).json()
    const names = ({ items }: { items: { kind: string; name: string }[] }) =>
      items.map((one) => `${one.kind} ${one.name}`)
    expect(names(first)).toEqual(['pool etl', 'rate api'])
    expect(first.items[0]).toEqual({
      ...{ kind: 'pool', name: 'etl', slots: 3, declared: 3, perMs: null, burst: null, deployed: true },
      ...{ setBy: null, setAt: null, inUse: 0, waiting: 0 },
    })
    const second = (await app.inject(`/api/v1/limits?limit=2&cursor=${first.nextCursor}`)).json()
    expect([names(second), second.nextCursor]).toEqual([['runs catalog'], null])
    expect(names((await app.inject('/api/v1/limits?kind=rate')).json())).toEqual(['rate api'])
    expect((await app.inject('/api/v1/limits?kind=lock')).statusCode).toBe(422)
    expect((await app.inject('/api/v1/limits?cursor=x')).json()).toMatchObject({ code: 'INVALID_CURSOR' })
  })

  it('are set, closed and let go again', async () => {
    const api = await open()
    expect((await put(api, 'pool/etl', { slots: 5, by: 'ann' })).json()).toMatchObject({
      slots: 5,
      declared: 3,
      setBy: 'ann',
    })
    expect((await put(api, 'pool/etl', { slots: 0 })).json()).toMatchObject({ slots: 0 })
    const back = await api.app.inject({ method: 'DELETE', url: '/api/v1/limits/pool/etl' })
    expect(back.json()).toMatchObject({ slots: 3, setBy: null, setAt: null })
    expect((await put(api, 'pool/new', { slots: 1 })).json()).toMatchObject({
      slots: 1,
      declared: null,
      deployed: false,
    })
    expect((await put(api, 'rate/api', { slots: 10, per: '1s' })).json()).toMatchObject({
      slots: 10,
      perMs: 1_000,
      burst: 10,
    })
    expect((await put(api, 'rate/api', { slots: 0, per: '1s' })).json()).toMatchObject({ slots: 0, burst: 0 })
    expect((await put(api, 'runs/catalog', { slots: 9 })).json()).toMatchObject({ slots: 9, declared: 1 })
  })

  it.each<[string, string, object, number, string]>([
    ['what is no limit', 'pool/etl', { slots: -1 }, 422, '/slots'],
    ['a part of a slot', 'pool/etl', { slots: 1.5 }, 422, '/slots'],
    ['too many', 'pool/etl', { slots: 1_000_001 }, 422, '/slots'],
    ['a time of a pool', 'pool/etl', { slots: 1, per: '1s' }, 422, '/per'],
    ['a burst of a pool', 'pool/etl', { slots: 1, burst: 2 }, 422, '/burst'],
    ['a rate without its time', 'rate/api', { slots: 1 }, 422, '/per'],
    ['a time that is none', 'rate/api', { slots: 1, per: 'soon' }, 422, '/per'],
    ['a name that is none', 'pool/A%20b', { slots: 1 }, 422, '/name'],
    ['what it does not know', 'pool/etl', { slots: 1, size: 2 }, 422, '/size'],
  ])('are not set to %s', async (_, path, body, status, where) => {
    const answer = await put(await open(), path, body)
    expect(answer.statusCode).toBe(status)
    expect(JSON.stringify(answer.json().errors)).toContain(where.slice(1))
  })

  it('that nobody declared are not found; the nearest is named', async () => {
    const api = await open()
    const answer = await put(api, 'runs/catalogue', { slots: 1 })
    expect([answer.statusCode, answer.json().detail]).toEqual([
      404,
      'There is no limit of active runs named "catalogue"; did you mean catalog?',
    ])
    expect((await api.app.inject('/api/v1/limits/pool/none')).statusCode).toBe(404)
    expect((await api.app.inject('/api/v1/limits/lock/etl')).statusCode).toBe(422)
  })
})

const take = statement(
  'test.take-run',
  `update sluice.runs set node_id = $2, epoch = 1, state = 'running' where id = $1`,
)

describe('why', () => {
  const why = async ({ app }: TestApi, path: string) =>
    ((await app.inject(`/api/v1/${path}/why`)).json().reasons as { code: string; text: string }[]).map(
      ({ code, text }) => [code, text] as const,
    )

  it('a run waits: nobody is there, nobody took it, others are active, it is paused', async () => {
    const api = await open()
    const [one, two] = [await insertRun(api.db), await insertRun(api.db)]
    expect((await why(api, `runs/${one}`)).at(-1)).toEqual(['no_engine', 'no engine is running'])
    await admitRuns(api.db)
    const node = randomUUID()
    await registerNode(api.db, { id: node, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000 })
    expect(await why(api, `runs/${one}`)).toEqual([['not_taken', `no engine has taken run ${one} yet`]])
    expect((await why(api, `runs/${two}`))[0]).toEqual([
      'active_runs',
      `1 of 1 runs of catalog are active: run ${one}; next in line`,
    ])
    await api.db.execute(take, [one, node])
    expect(await why(api, `runs/${one}`)).toEqual([['running', `run ${one} is running`]])
    await api.db.script(`update sluice.workflows set paused = true where name = 'catalog'`)
    expect((await why(api, `runs/${one}`))[0]![0]).toBe('paused')
    await api.db.script(`update sluice.nodes set lease_until = sluice.sluice_now() - interval '1 s'`)
    expect((await why(api, `runs/${one}`)).map(([code]) => code)).toEqual(['paused', 'no_engine', 'running'])
  })

  it('a task waits: for others, for a limit and who holds it, for a runner', async () => {
    const api = await open()
    const [one, two, three] = [await insertRun(api.db), await insertRun(api.db), await insertRun(api.db)]
    const [node, other] = [randomUUID(), randomUUID()]
    for (const id of [node, other]) {
      await registerNode(api.db, { id, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000 })
    }
    for (const run of [one, two, three]) await api.db.execute(take, [run, node])
    await insertTask(api.db, one, [0, -1], 'running')
    const task = (run: string, index = 0) => `tasks/${taskIdOf(run, index, -1)}`
    expect((await why(api, task(one)))[0]![0]).toBe('running')
    expect(await why(api, task(one, 1))).toEqual([
      [
        'upstream',
        'task fetch waits for keep (running): 1 of 1 before it have not ended; its rule is all_success (all before it succeeded)',
      ],
    ])
    const shown = (run: string, since: number) => ({ run, node: 0, index: -1, amount: 1, priority: 0, since })
    const line = { limit: 'pool:etl', inUse: 1, waiting: 1 }
    await showLines(api.db, node, [{ ...line, holders: [shown(one, 1)], line: [shown(two, 20)] }])
    await showLines(api.db, other, [{ ...line, inUse: 2, holders: [], line: [shown(three, 10)] }])
    expect(await why(api, task(three))).toEqual([
      ['limit', `pool etl 3 of 3, held by run ${one} task keep; next in line`],
    ])
    expect(await why(api, task(two))).toEqual([
      ['limit', `pool etl 3 of 3, held by run ${one} task keep; number 2 in line of 2`],
    ])
    await showLines(api.db, node, [{ ...line, inUse: 0, waiting: 0, holders: [], line: [] }])
    await showRunners(api.db, node, [{ lane: 'shared', busy: 2, slots: 2, ready: 9 }])
    expect(await why(api, task(two))).toEqual([
      ['runner', 'no runner is free for task keep: 2 of 2 attempts are under way; 9 tasks are ready'],
    ])
    await insertTask(api.db, two, [0, -1], 'failed', { error: 'ACTION_FAILED: no' })
    expect(await why(api, task(two))).toEqual([['ended', 'task keep ended: failed, ACTION_FAILED: no']])
    expect((await api.app.inject(`/api/v1/tasks/${randomUUID()}/why`)).statusCode).toBe(404)
    expect((await api.app.inject(`/api/v1/runs/${randomUUID()}/why`)).statusCode).toBe(404)
  })
})
