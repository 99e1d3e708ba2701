import { describe, expect, it } from 'vitest'
import { testApi, testManifest, testWorkflow } from '../../../test/test-api.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { beginTopicPlans } from '../../store/plan-topics.ts'
import { beginPlans, recordTicks } from '../../store/plans.ts'
import { ensureTopic } from '../../store/topics.ts'

const paris = {
  kind: 'cron',
  name: 'nightly',
  pattern: '30 2 * * *',
  timezone: 'Europe/Paris',
  catchUp: 'last',
} as const
const records = {
  kind: 'topic-record',
  name: 'records',
  topic: 'urls',
  batch: { records: 5, withinMs: 10_000 },
} as const
const workflows: WorkflowManifest[] = [
  { ...testWorkflow, name: 'b', plans: [records, paris] },
  {
    ...testWorkflow,
    name: 'a',
    plans: [{ kind: 'interval', name: 'often', every: '15m', everyMs: 900_000, catchUp: 'all' }],
  },
  { ...testWorkflow, name: 'c', plans: [] },
]
const clock = { now: () => Date.parse('2026-03-28T12:00:00Z') }
const planApi = () => testApi({ manifest: () => ({ ...testManifest, workflows }), clock })

describe('plans', () => {
  it('are listed in pages, each with its next tick', async () => {
    const { app } = await planApi()
    const first = (await app.inject('/api/v1/plans?limit=2')).json()
    expect(first.items).toMatchObject([
      {
        workflow: 'a',
        name: 'often',
        description: 'each 15m; catch-up all',
        next: [{ time: '2026-03-28T12:15:00.000Z' }],
      },
      { workflow: 'b', name: 'nightly', paused: false, since: null, next: [{ local: '2026-03-29T03:00:00+02:00' }] },
    ])
    const second = (await app.inject(`/api/v1/plans?limit=2&cursor=${first.nextCursor}`)).json()
    expect(second).toMatchObject({ items: [{ workflow: 'b', name: 'records', next: [] }], nextCursor: null })
  })

  it('of a workflow show where they stand, their next ticks, and the parameters of runs by hand', async () => {
    const { app, db } = await planApi()
    await ensureTopic(db, 'urls', 2)
    await beginPlans(db, [{ workflow: 'b', plan: 'nightly' }])
    await beginTopicPlans(db, [{ workflow: 'b', plan: 'records', topic: 'urls' }])
    const { items, params } = (await app.inject('/api/v1/workflows/b/plans?next=3')).json()
    expect(items).toMatchObject([
      {
        name: 'records',
        description: 'for each record of urls, in batches of 5 or after 10 s',
        taken: { 0: 0, 1: 0 },
        since: null,
      },
      { name: 'nightly', taken: null, since: expect.stringMatching(/Z$/) },
    ])
    // The clocks go from 02:00 to 03:00 on the 29th.
    expect(items[1].next).toEqual([
      { time: '2026-03-29T01:00:00.000Z', local: '2026-03-29T03:00:00+02:00' },
      { time: '2026-03-30T00:30:00.000Z', local: '2026-03-30T02:30:00+02:00' },
      { time: '2026-03-31T00:30:00.000Z', local: '2026-03-31T02:30:00+02:00' },
    ])
    expect(params).toMatchObject({ type: 'object', required: ['file'] })
    expect((await app.inject('/api/v1/workflows/zz/plans')).statusCode).toBe(404)
    expect((await app.inject('/api/v1/workflows/b/plans?next=101')).statusCode).toBe(422)
  })
})

describe('the ledger', () => {
  it('is listed newest first, by workflow, plan and outcome, in pages', async () => {
    const { app, db } = await planApi()
    const row = (plan: string, minute: number, outcome: string) => ({
      ...{ workflow: plan === 'often' ? 'a' : 'b', plan, outcome, reason: 'on time', runId: null },
      logicalTime: new Date(Date.UTC(2026, 2, 1, 0, minute)),
    })
    await recordTicks(db, [row('often', 1, 'fired'), row('often', 2, 'skipped')])
    await recordTicks(db, [row('nightly', 3, 'fired'), { ...row('records', 3, 'late'), event: 'urls:0:7' }])
    const list = async (query: string) => {
      const { items, nextCursor } = (await app.inject(`/api/v1/plans/ticks?${query}`)).json()
      return [items.map(({ plan, outcome }: { plan: string; outcome: string }) => `${plan} ${outcome}`), nextCursor]
    }
    expect(await list('')).toEqual([['records late', 'nightly fired', 'often skipped', 'often fired'], null])
    expect(await list('workflow=a')).toEqual([['often skipped', 'often fired'], null])
    expect(await list('workflow=b&plan=records')).toEqual([['records late'], null])
    expect(await list('outcome=fired')).toEqual([['nightly fired', 'often fired'], null])
    const [page, cursor] = await list('workflow=a&limit=1')
    expect(page).toEqual(['often skipped'])
    expect(await list(`workflow=a&limit=1&cursor=${cursor}`)).toEqual([['often fired'], null])
    expect((await app.inject('/api/v1/plans/ticks?outcome=lost')).statusCode).toBe(422)
    expect((await app.inject('/api/v1/plans/ticks?cursor=abc')).statusCode).toBe(400)
  })
})
