import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import type { ChosenVerdict } from '../core/backfill.ts'
import { newRunId } from '../core/ids.ts'
import { statement } from '../ports/database.ts'
import {
  cancelBackfill,
  forgetBackfills,
  insertBackfill,
  lockBackfill,
  makeClaimable,
  pauseBackfill,
  submitChunk,
  takeSubmitting,
} from './backfills.ts'
import { findBackfill, listBackfills, readFigures } from './reading/backfills.ts'

let own: TestDatabase
const begin = Date.UTC(2026, 2, 1)
const hour = 3_600_000

beforeAll(async () => {
  own = await testDatabase({ max: 6 })
  await own.db.script(`insert into sluice.versions (hash, manifest) values ('v1', '{}');
    insert into sluice.workflows (name) values ('daily')`)
})
afterAll(() => own.drop())
beforeEach(() =>
  own.db.script(
    'truncate sluice.runs, sluice.backfills, sluice.ticks, sluice.inbox, sluice.transitions, sluice.plan_cursors',
  ),
)

let made = 0
function newId(): string {
  made += 1
  return newRunId(begin + made, () => 0.5)
}

async function newBackfill(maxActive = 2, ticks = 10): Promise<string> {
  const id = newId()
  await insertBackfill(own.db, {
    ...{
      id,
      workflow: 'daily',
      plan: 'nightly',
      version: 'v1',
      from: new Date(begin),
      to: new Date(begin + ticks * hour),
    },
    ...{ reasons: ['missing'], newestFirst: false, maxActive, params: '{}', requestedBy: 'ada', note: 'why', ticks },
  })
  return id
}

/** Submits so many runs from a tick on. */
async function submit(
  id: string,
  count: number,
  options: { from?: number; last?: boolean; reason?: ChosenVerdict } = {},
) {
  const { from = 0, last = true, reason = 'missing' } = options
  const runs = Array.from({ length: count }, (_, index) => ({
    ...{ id: newId(), logicalTime: new Date(begin + (from + index) * hour), reason, params: '{"n":1}' },
  }))
  await submitChunk(own.db, {
    ...{
      backfillId: id,
      plan: `nightly#${id}`,
      tickPlan: 'nightly',
      workflow: 'daily',
      version: 'v1',
      requestedBy: 'ada',
    },
    ...{ runs, examined: count, position: runs.at(-1)?.logicalTime ?? null, last },
  })
  return runs.map((run) => run.id)
}

const claimable = () => own.db.transaction(makeClaimable)
const act = (id: string, work: (session: Parameters<typeof lockBackfill>[0]) => Promise<unknown>) =>
  own.db.transaction(async (session) => {
    await lockBackfill(session, id)
    return work(session)
  })
const heldRows = statement<{ id: string }>('test.held', 'select id from sluice.runs where held order by id')
const held = async () => (await own.db.query(heldRows)).map(({ id }) => id)
const setState = statement(
  'test.set-state',
  `update sluice.runs set state = $2, node_id = case when $2 = 'running' then gen_random_uuid() end, seq = seq + 1 where id = any ($1::uuid[])`,
)
const runRows = statement<{ id: string; state: string; seq: number; error: string | null }>(
  'test.runs',
  'select id, state, seq, error from sluice.runs order by id',
)
const messages = statement<{ run_id: string; key: string }>(
  'test.inbox',
  'select run_id, key from sluice.inbox order by run_id',
)

test('a chunk is its runs, its ticks and its position, in one statement', async () => {
  const id = await newBackfill()
  await own.db.script(`insert into sluice.ticks (workflow, plan, logical_time, outcome, reason, run_id) values
    ('daily', 'nightly', '2026-03-01T00:00:00Z', 'skipped', 'the workflow is paused', null),
    ('daily', 'nightly', '2026-03-01T01:00:00Z', 'fired', 'on time', '00000000-0000-7000-8000-000000000001')`)
  const runs = await submit(id, 3, { last: false })
  await submit(id, 1, { from: 3, reason: 'failed' })
  const ticks = await own.db.query(
    statement<object>('test.ticks', 'select outcome, reason, run_id from sluice.ticks order by logical_time'),
  )
  const ours = { outcome: 'caught_up', reason: `backfill ${id} by ada` }
  expect(ticks).toEqual([
    { ...ours, run_id: runs[0] },
    { outcome: 'fired', reason: 'on time', run_id: '00000000-0000-7000-8000-000000000001' },
    { ...ours, run_id: runs[2] },
  ])
  expect(await findBackfill(own.db, id)).toMatchObject({
    state: 'running',
    examined: 4,
    ticks: 10,
    by: 'ada',
    note: 'why',
  })
  expect((await readFigures(own.db, [id])).get(id)).toEqual({
    ...{ total: 4, states: { queued: 4 }, reasons: { missing: 3, failed: 1 } },
  })
  const rows = await own.db.query(
    statement<object>('test.lanes', 'select distinct lane, plan, version, params::text from sluice.runs'),
  )
  expect(rows).toEqual([{ lane: 'backfill', plan: `nightly#${id}`, version: 'v1', params: '{"n":1}' }])
})

test('as many held runs are claimable as there are places, the first first, and each end gives its place on', async () => {
  const id = await newBackfill(2)
  const runs = await submit(id, 5)
  expect(await held()).toEqual(runs)
  expect((await claimable()).active.toSorted()).toEqual(runs.slice(0, 2))
  expect(await held()).toEqual(runs.slice(2))
  await claimable()
  expect(await held()).toEqual(runs.slice(2))
  await own.db.execute(setState, [runs.slice(0, 2), 'running'])
  await claimable()
  expect(await held()).toEqual(runs.slice(2))
  await own.db.execute(setState, [[runs[0]], 'success'])
  await claimable()
  expect(await held()).toEqual(runs.slice(3))
  for (const run of runs) await own.db.execute(setState, [[run], 'failed'])
  await own.db.script('update sluice.runs set held = false')
  await claimable()
  expect((await findBackfill(own.db, id))?.state).toBe('done')
  expect((await claimable()).active).toEqual([])
})

test('engines are told of runs that are let go, and of nothing else', async () => {
  const told: string[] = []
  const stop = await own.db.listen('sluice_runs', () => told.push('runs'))
  const last = Promise.withResolvers<void>()
  const stopLast = await own.db.listen('sluice_backfills', () => last.resolve())
  await submit(await newBackfill(1), 2)
  await claimable()
  await claimable()
  const id = await newBackfill(1)
  await last.promise
  await act(id, (session) => pauseBackfill(session, id, true))
  await own.db.transaction((session) => session.script(`notify sluice_runs, 'end'`))
  await expect.poll(() => told.length, { timeout: 20_000 }).toBe(2)
  await stop()
  await stopLast()
})

test('several who let runs go at once do not pass the limit', async () => {
  const id = await newBackfill(3)
  const runs = await submit(id, 20)
  await Promise.all(Array.from({ length: 6 }, claimable))
  expect(await held()).toEqual(runs.slice(3))
})

test('each backfill has its own places', async () => {
  const [one, other] = [await newBackfill(1), await newBackfill(2)]
  const ones = await submit(one, 3)
  const others = await submit(other, 3, { from: 5 })
  await claimable()
  expect(await held()).toEqual([...ones.slice(1), ...others.slice(2)])
})

test('paused, none is let go, and what nobody has taken yet waits again', async () => {
  const id = await newBackfill(2)
  const runs = await submit(id, 4)
  await claimable()
  await own.db.execute(setState, [[runs[0]], 'running'])
  await act(id, (session) => pauseBackfill(session, id, true))
  await claimable()
  expect(await held()).toEqual(runs.slice(1))
  await act(id, (session) => pauseBackfill(session, id, false))
  await claimable()
  expect(await held()).toEqual(runs.slice(2))
})

test('a held run that somebody cancels by itself is let go to its owner, also while paused', async () => {
  const id = await newBackfill(1)
  const runs = await submit(id, 3)
  await act(id, (session) => pauseBackfill(session, id, true))
  await own.db.script(
    `insert into sluice.inbox (run_id, kind, key) values ('${runs[2]}', 'cancel', 'cancel ${runs[2]}')`,
  )
  await claimable()
  expect(await held()).toEqual(runs.slice(0, 2))
})

test('cancel ends what nobody took, tells the owners of the rest, and makes no more', async () => {
  const id = await newBackfill(3)
  const runs = await submit(id, 6, { last: false })
  await claimable()
  await own.db.execute(setState, [[runs[0]], 'success'])
  await own.db.execute(setState, [[runs[1]], 'running'])
  expect(await act(id, (session) => cancelBackfill(session, id, 'because'))).toEqual({ ended: 4, told: 1 })
  const states = (await own.db.query(runRows)).map(({ state, seq, error }) => [state, seq, error])
  expect(states).toEqual([
    ['success', 1, null],
    ['running', 1, null],
    ...Array.from({ length: 4 }, () => ['cancelled', 1, 'because']),
  ])
  expect(await own.db.query(messages)).toEqual([{ run_id: runs[1], key: `cancel ${runs[1]}` }])
  const log = await own.db.query(
    statement<object>(
      'test.log-of-runs',
      'select from_state, to_state, seq, node from sluice.transitions order by run_id',
    ),
  )
  expect(log).toEqual(
    Array.from({ length: 4 }, () => ({ from_state: 'queued', to_state: 'cancelled', seq: 1, node: -1 })),
  )
  expect(await takeSubmitting(own.db, [])).toBeUndefined()
  await claimable()
  expect(await held()).toEqual([])
  expect(await findBackfill(own.db, id)).toMatchObject({ state: 'cancelled', endedAt: null, error: 'because' })
  await own.db.execute(setState, [[runs[1]], 'cancelled'])
  await claimable()
  expect((await findBackfill(own.db, id))?.endedAt).toBeInstanceOf(Date)
  expect((await readFigures(own.db, [id])).get(id)?.states).toEqual({ success: 1, cancelled: 5 })
})

test('what somebody took although it was held, as an older engine would, is told, and what has ended so stays', async () => {
  const id = await newBackfill(1)
  const runs = await submit(id, 4)
  await own.db.execute(setState, [[runs[0]], 'success'])
  await own.db.execute(setState, [[runs[1]], 'running'])
  expect(await act(id, (session) => cancelBackfill(session, id, 'because', 1))).toEqual({ ended: 1, told: 1 })
  await claimable()
  expect((await own.db.query(runRows)).map(({ state }) => state)).toEqual([
    'success',
    'running',
    'cancelled',
    'cancelled',
  ])
  expect(await own.db.query(messages)).toEqual([{ run_id: runs[1], key: `cancel ${runs[1]}` }])
})

test('of more runs than one statement ends the engines end the rest, none of which can be taken', async () => {
  const id = await newBackfill(1)
  const runs = await submit(id, 5)
  expect(await act(id, (session) => cancelBackfill(session, id, 'because', 2))).toEqual({ ended: 2, told: 0 })
  expect(await held()).toEqual(runs.slice(2))
  await claimable()
  expect((await own.db.query(runRows)).map(({ state, error }) => [state, error])).toEqual(
    Array.from({ length: 5 }, () => ['cancelled', 'because']),
  )
  expect((await findBackfill(own.db, id))?.endedAt).toBeInstanceOf(Date)
})

test('a run that an engine takes while its backfill is being cancelled gets its message', async () => {
  const id = await newBackfill(1)
  const [run] = await submit(id, 1)
  await claimable()
  let cancelling: Promise<unknown> | undefined
  await own.db.transaction(async (engine) => {
    await engine.execute(setState, [[run], 'running'])
    cancelling = act(id, (session) => cancelBackfill(session, id, 'because'))
    await blocked()
  })
  expect(await cancelling).toEqual({ ended: 0, told: 1 })
  expect(await own.db.query(messages)).toEqual([{ run_id: run, key: `cancel ${run}` }])
})

test('a chunk that commits while its backfill is being cancelled is cancelled, too', async () => {
  const id = await newBackfill(1)
  let cancelling: Promise<unknown> | undefined
  await own.db.transaction(async (session) => {
    expect((await takeSubmitting(session, []))?.id).toBe(id)
    cancelling = act(id, (other) => cancelBackfill(other, id, 'because'))
    await blocked()
    await submitChunk(session, {
      ...{
        backfillId: id,
        plan: `nightly#${id}`,
        tickPlan: 'nightly',
        workflow: 'daily',
        version: 'v1',
        requestedBy: 'a',
      },
      ...{ runs: [{ id: newId(), logicalTime: new Date(begin), reason: 'ok', params: '{}' }], examined: 1 },
      ...{ position: new Date(begin), last: false },
    })
  })
  expect(await cancelling).toEqual({ ended: 1, told: 0 })
  expect((await findBackfill(own.db, id))?.state).toBe('cancelled')
})

test('two engines take two backfills, and wait for each other within one workflow', async () => {
  const [one, other] = [await newBackfill(), await newBackfill()]
  let second: Promise<unknown> | undefined
  await own.db.transaction(async (session) => {
    expect((await takeSubmitting(session, []))?.id).toBe(one)
    second = own.db.transaction(async (another) => (await takeSubmitting(another, []))?.id)
    await blocked()
  })
  expect(await second).toBe(other)
})

test('the list is newest first, and what is over and has no runs is forgotten', async () => {
  const [one, other] = [await newBackfill(), await newBackfill()]
  expect((await listBackfills(own.db, { limit: 5 })).map(({ id }) => id)).toEqual([other, one])
  expect(await listBackfills(own.db, { limit: 5, before: other, workflow: 'daily' })).toHaveLength(1)
  expect(await listBackfills(own.db, { limit: 5, workflow: 'else' })).toEqual([])
  await submit(one, 1)
  await submit(other, 0)
  await claimable()
  expect(await forgetBackfills(own.db, new Date(Date.now() + hour))).toBe(1)
  expect((await listBackfills(own.db, { limit: 5 })).map(({ id }) => id)).toEqual([one])
})

const waiting = statement<{ waits: boolean }>(
  'test.waiting',
  `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') as waits`,
)

/** Until a statement waits for a lock. */
async function blocked(): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await own.db.query(waiting))[0]!.waits) {
    if (performance.now() > deadline) throw new Error('nothing waits for a lock')
  }
}
