import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import type { Manifest } from '../core/manifest.ts'
import { type Database, statement } from '../ports/database.ts'
import { deployVersion } from '../store/versions.ts'
import { FirePlans } from './fire-plans.ts'

const start = Date.parse('2026-03-01T00:00:30Z')
const minute = 60_000

let test: TestDatabase
let now: number
const plans: FirePlans[] = []
const notes: string[] = []
beforeEach(async () => {
  test = await testDatabase()
  now = start
})
afterEach(async () => {
  await Promise.all(plans.splice(0).map((plan) => plan.stop()))
  await test.drop()
  notes.length = 0
})

function manifestOf(catchUp: 'all' | 'last' | 'none', pattern = '*/10 * * * *'): Manifest {
  const plan = { name: `cron:${pattern}`, kind: 'cron', pattern, timezone: 'UTC', catchUp } as const
  const workflow = { name: 'w', file: 'w.ts', params: {}, plans: [plan], stages: [], nodes: [] }
  const rest = { entries: [], topics: [], streams: [], endpoints: [], commands: [], faults: [] }
  return { format: 1, hash: `hash-${catchUp}`, workflows: [workflow], ...rest }
}

const setCursor = statement('test.set-cursor', 'update sluice.plan_cursors set since = $1')
const cursor = statement<{ since: Date }>('test.cursor', 'select since from sluice.plan_cursors')
const ticks = statement<{ logical_time: Date; outcome: string; reason: string; run_id: string | null }>(
  'test.ticks',
  'select logical_time, outcome, reason, run_id from sluice.ticks order by logical_time',
)
const runs = statement<{ id: string; logical_time: Date; plan: string; state: string }>(
  'test.plan-runs',
  'select id, logical_time, plan, state from sluice.runs order by logical_time',
)
const pause = statement('test.pause', 'update sluice.workflows set paused = $1')

async function firing(manifest: Manifest, db: Database = test.db): Promise<FirePlans> {
  const plan = new FirePlans({ db, clock: { now: () => now }, random: Math.random, note: (line) => notes.push(line) })
  plans.push(plan)
  await plan.follow(manifest)
  return plan
}

/** As if an engine had known the plan until `at`. */
async function knownSince(manifest: Manifest, at: number): Promise<void> {
  await deployVersion(test.db, manifest)
  await (await firing(manifest)).stop()
  await test.db.execute(setCursor, [new Date(at)])
}

const outcomes = async () =>
  (await test.db.query(ticks)).map((tick) => `${tick.logical_time.toISOString().slice(11, 16)} ${tick.outcome}`)
const reached = (at: number) => until('the ticks', async () => (await test.db.query(cursor))[0]!.since.getTime() >= at)
const tenMinutes = 10 * minute
const today = Date.parse('2026-03-01T00:00:00Z')

describe('after a time without an engine', () => {
  const expected = {
    all: ['00:10 caught_up', '00:20 caught_up', '00:30 late'],
    last: ['00:10 skipped', '00:20 skipped', '00:30 late'],
    none: ['00:10 skipped', '00:20 skipped', '00:30 skipped'],
  }
  for (const policy of ['all', 'last', 'none'] as const) {
    it(`every tick has a row, with catch-up ${policy}`, async () => {
      const manifest = manifestOf(policy)
      await knownSince(manifest, start)
      now = start + 35 * minute
      await firing(manifest)
      await reached(today + 3 * tenMinutes)
      expect(await outcomes()).toEqual(expected[policy])
      const rows = await test.db.query(ticks)
      const made = await test.db.query(runs)
      expect(made.map((run) => run.id)).toEqual(rows.flatMap((row) => row.run_id ?? []))
      expect(made.every((run) => run.state === 'queued' && run.plan === 'cron:*/10 * * * *')).toBe(true)
    })
  }

  it('a tick in time is fired, and the next one waited for', async () => {
    const manifest = manifestOf('none')
    await knownSince(manifest, start)
    now = today + tenMinutes + 5_000
    await firing(manifest)
    await reached(today + tenMinutes)
    expect(await outcomes()).toEqual(['00:10 fired'])
  })

  it('more ticks than fit one transaction are all recorded', async () => {
    const manifest = manifestOf('last', '* * * * *')
    await knownSince(manifest, start)
    now = start + 1_203 * minute
    await firing(manifest)
    await reached(today + 1_203 * minute)
    const rows = await test.db.query(ticks)
    expect(rows).toHaveLength(1_203)
    expect(rows.filter((row) => row.run_id !== null)).toHaveLength(1)
  })
})

it('a plan that is new starts now', async () => {
  const manifest = manifestOf('all')
  await deployVersion(test.db, manifest)
  await firing(manifest)
  expect(await test.db.query(ticks)).toEqual([])
  expect(await test.db.query(cursor)).toHaveLength(1)
})

it('two engines at once fire each tick once', async () => {
  const manifest = manifestOf('all', '* * * * *')
  await knownSince(manifest, start)
  now = start + 200 * minute
  await Promise.all([firing(manifest), firing(manifest), firing(manifest)])
  await reached(today + 200 * minute)
  const rows = await test.db.query(ticks)
  expect(rows).toHaveLength(200)
  expect((await test.db.query(runs)).map((run) => run.id)).toEqual(rows.map((row) => row.run_id))
})

it('a paused workflow leaves skipped ticks, and no run', async () => {
  const manifest = manifestOf('all')
  await knownSince(manifest, start)
  await test.db.execute(pause, [true])
  now = start + 25 * minute
  const plan = await firing(manifest)
  await reached(today + 2 * tenMinutes)
  const rows = await test.db.query(ticks)
  expect(rows.map(({ outcome, reason, run_id }) => ({ outcome, reason, run_id }))).toEqual(
    Array.from({ length: 2 }, () => ({
      outcome: 'skipped',
      reason: expect.stringMatching('^the workflow is paused; missed by'),
      run_id: null,
    })),
  )
  await plan.stop()
  await test.db.execute(pause, [false])
  now += tenMinutes
  await firing(manifest)
  await reached(today + 3 * tenMinutes)
  expect((await outcomes()).at(-1)).toMatch('00:30 late')
})

it('a failure leaves the cursor where it was, and all is tried again', async () => {
  const manifest = manifestOf('all')
  await knownSince(manifest, start)
  now = start + 25 * minute
  let failures = 0
  const failing: Database = {
    ...test.db,
    transaction: (work) =>
      test.db.transaction(async (session) => {
        const result = await work(session)
        failures += 1
        if (failures === 1) throw new Error(`no luck ${randomUUID()}`)
        return result
      }),
  }
  await firing(manifest, failing)
  await until('the failure', () => notes.length > 0)
  expect((await test.db.query(cursor))[0]!.since.getTime()).toBe(start)
  expect(await test.db.query(runs)).toEqual([])
  await reached(today + 2 * tenMinutes)
  expect(await outcomes()).toEqual(['00:10 caught_up', '00:20 late'])
  expect(await test.db.query(runs)).toHaveLength(2)
})

/** What a database is asked for in its transactions. */
function counting(): { db: Database; asked: string[]; transactions: () => number } {
  const asked: string[] = []
  let transactions = 0
  const db: Database = {
    ...test.db,
    transaction: (work) => {
      transactions += 1
      return test.db.transaction((session) =>
        work({
          ...session,
          query: (sql, values) => {
            asked.push(sql.name)
            return session.query(sql, values)
          },
          execute: (sql, values) => {
            asked.push(sql.name)
            return session.execute(sql, values)
          },
        }),
      )
    },
  }
  return { db, asked, transactions: () => transactions }
}

it('a thousand plans that are due in the same minute take three statements in one transaction', async () => {
  const one = manifestOf('last', '0 1 * * *')
  const workflows = Array.from({ length: 1_000 }, (_, index) => ({ ...one.workflows[0]!, name: `w${index}` }))
  const manifest = { ...one, workflows }
  await knownSince(manifest, start)
  now = today + 60 * minute + 1_000
  const { db, asked, transactions } = counting()
  await firing(manifest, db)
  await until('all runs', async () => (await test.db.query(runs)).length === 1_000)
  expect((await test.db.query(ticks)).every(({ outcome }) => outcome === 'fired')).toBe(true)
  expect([asked, transactions()]).toEqual([['plans.take', 'runs.insert', 'plans.tick'], 1])
})

const withPlan = (manifest: Manifest, plan: object, params: object = {}): Manifest => ({
  ...manifest,
  workflows: [{ ...manifest.workflows[0]!, params, plans: [plan as Manifest['workflows'][number]['plans'][number]] }],
})
const runParams = statement<{ params: unknown }>(
  'test.plan-params',
  'select params from sluice.runs order by logical_time',
)

it('intervals fire at each of their ticks, with parameters of the tick', async () => {
  const plan = { kind: 'interval', name: 'i', every: '10m', everyMs: tenMinutes, start: today + minute, catchUp: 'all' }
  const params = { type: 'object', properties: { from: { type: 'string' }, to: { type: 'string' } } }
  const manifest = withPlan(
    manifestOf('all'),
    { ...plan, params: { from: { $tick: 'start' }, to: { $tick: 'end' } } },
    params,
  )
  await knownSince(manifest, start)
  now = today + 12 * minute
  await firing(manifest)
  await reached(today + 11 * minute)
  expect(await outcomes()).toEqual(['00:01 caught_up', '00:11 fired'])
  expect((await test.db.query(runParams))[1]!.params).toEqual({
    from: '2026-03-01T00:01:00.000Z',
    to: '2026-03-01T00:11:00.000Z',
  })
})

it('a tick whose parameters do not fit is skipped and says why', async () => {
  const [plan] = manifestOf('last').workflows[0]!.plans
  const params = { type: 'object', properties: { day: { type: 'integer' } } }
  const manifest = withPlan(manifestOf('last'), { ...plan, params: { day: { $tick: 'date' } } }, params)
  await knownSince(manifest, start)
  now = today + tenMinutes
  await firing(manifest)
  await reached(today + tenMinutes)
  expect(await test.db.query(ticks)).toMatchObject([
    {
      outcome: 'skipped',
      run_id: null,
      reason: expect.stringMatching(/do not fit: \/params\/day: Invalid input: expected/),
    },
  ])
})

const insertForTick = statement(
  'test.run-of-tick',
  `insert into sluice.runs (id, workflow, version, plan, logical_time, params) values ($1, 'w', $2, 'cron:*/10 * * * *', $3, '{}')`,
)

it('a tick whose run somebody has started already starts no other', async () => {
  const manifest = manifestOf('all')
  await knownSince(manifest, start)
  await test.db.execute(insertForTick, [randomUUID(), manifest.hash, new Date(today + tenMinutes)])
  now = today + tenMinutes
  await firing(manifest)
  await reached(today + tenMinutes)
  expect(await test.db.query(ticks)).toMatchObject([
    { outcome: 'skipped', run_id: null, reason: 'there is a run of this time already' },
  ])
  expect(await test.db.query(runs)).toHaveLength(1)
})

const hold = statement('test.hold-cursors', 'select from sluice.plan_cursors for update')

it('a plan that another engine holds is asked for again, and not a minute later', async () => {
  const manifest = manifestOf('none')
  await knownSince(manifest, start)
  now = today + tenMinutes
  const { db, asked } = counting()
  await test.db.transaction(async (session) => {
    await session.query(hold)
    await firing(manifest, db)
    await until('it to be asked for', () => asked.includes('plans.take'))
  })
  await reached(today + tenMinutes)
  expect(await outcomes()).toEqual(['00:10 fired'])
})
