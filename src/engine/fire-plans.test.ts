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
    Array.from({ length: 2 }, () => ({ outcome: 'skipped', reason: 'the workflow is paused', run_id: null })),
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
