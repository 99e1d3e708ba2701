/** Backfills on real engines: their own lane, pause, cancel as one act, an engine that dies. */
import { readdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { newRunId } from '../src/core/ids.ts'
import { statement } from '../src/ports/database.ts'
import { cancelBackfill, insertBackfill, lockBackfill, pauseBackfill } from '../src/store/backfills.ts'
import { findBackfill, readFigures } from '../src/store/reading/backfills.ts'
import { EngineWorld, type RunningEngine, until } from './engine-world.ts'

let world: EngineWorld
const running: RunningEngine[] = []
beforeAll(async () => {
  world = await EngineWorld.open('backfill-project')
})
afterEach(() => Promise.all(running.splice(0).map((one) => one.stop())))
afterAll(() => world.close())

let notes: readonly string[] = []
async function engine(options = {}) {
  const made = await world.engine({ settings: { runners: 2 }, ...options })
  notes = made.notes
  running.push(made)
  return made
}

let made = 0
/** Each backfill has years of its own. */
let nextYear = 1970
interface Wish {
  readonly years: number
  readonly maxActive: number
  readonly name?: string
}
async function backfill({ years, maxActive, name }: Wish): Promise<string> {
  made += 1
  const from = nextYear
  nextYear += years
  const id = newRunId(1_770_000_000_000 + made, () => 0.5)
  const params = JSON.stringify(name === undefined ? {} : { dir: world.dir, name })
  await insertBackfill(world.db, {
    ...{ id, workflow: 'yearly', plan: 'new-year', version: world.version.manifest.hash, reasons: ['missing'] },
    ...{ from: new Date(Date.UTC(from)), to: new Date(Date.UTC(from + years)), newestFirst: false, maxActive, params },
    ...{ requestedBy: 'ada', note: null, ticks: years },
  })
  return id
}

const figures = async (id: string) => {
  const { total, states } = (await readFigures(world.db, [id])).get(id)!
  return { total, ...states }
}
const begun = (name: string) =>
  readdirSync(world.dir).filter((file) => file.startsWith(`${name}.`) && file.endsWith('.begun'))
const begin = (name: string, count: number) =>
  until(
    () => `${count} runs to begin: ${begun(name).length}; ${notes.join('; ')}`,
    () => begun(name).length === count,
  )
const over = (id: string) =>
  until(
    async () => `the end of the backfill: ${JSON.stringify([await findBackfill(world.db, id), await figures(id)])}`,
    async () => (await findBackfill(world.db, id))?.endedAt !== null,
  )
const act = (id: string, work: typeof pauseBackfill, value: boolean) =>
  world.db.transaction(async (session) => {
    await lockBackfill(session, id)
    await work(session, id, value)
  })
const cancel = (id: string) =>
  world.db.transaction(async (session) => {
    await lockBackfill(session, id)
    return cancelBackfill(session, id, 'enough')
  })
const mostAtOnce = statement<{ most: number }>(
  'test.most-at-once',
  `select max(depth)::int as most from (
     select sum(step) over (order by at, seq) as depth from (
       select t.at, t.seq, case when t.to_state = 'running' then 1 else -1 end as step
       from sluice.transitions t join sluice.runs r on r.id = t.run_id
       where t.node = -1 and r.backfill_id = $1 and (t.to_state = 'running' or t.from_state = 'running')) as steps) as depths`,
)

test('runs no more at once than its places, and a regular run does not wait for any of them', async () => {
  await engine()
  const id = await backfill({ years: 6, maxActive: 2, name: 'lane' })
  await begin('lane', 2)
  expect(await world.ended(await world.start('yearly', { dir: '', name: 'regular' }))).toBe('success')
  expect(begun('lane')).toHaveLength(2)
  await world.go('lane')
  await over(id)
  expect(await figures(id)).toEqual({ total: 6, success: 6 })
  expect(await findBackfill(world.db, id)).toMatchObject({ state: 'done' })
  expect((await world.db.query(mostAtOnce, [id]))[0]!.most).toBeLessThanOrEqual(2)
  expect(await world.breaches({ atRest: true })).toEqual([])
})

test('paused, it starts no further run, those that run end; then it goes on', async () => {
  await engine()
  const id = await backfill({ years: 5, maxActive: 2, name: 'paused' })
  await begin('paused', 2)
  await act(id, pauseBackfill, true)
  await world.go('paused')
  await until('the end of those two', async () => (await figures(id)).success === 2)
  // Another backfill has its turn meanwhile, from its first run to its last: nothing of the paused one would be later.
  const other = await backfill({ years: 5, maxActive: 2 })
  await over(other)
  expect(await figures(id)).toEqual({ total: 5, success: 2, queued: 3 })
  await act(id, pauseBackfill, false)
  await over(id)
  expect(await figures(id)).toEqual({ total: 5, success: 5 })
  expect(await world.breaches({ atRest: true })).toEqual([])
})

test('cancelled, what runs is stopped and what waits never begins, and the counts are exact', async () => {
  await engine()
  const id = await backfill({ years: 12, maxActive: 3, name: 'cancelled' })
  await begin('cancelled', 3)
  expect(await cancel(id)).toEqual({ ended: 9, told: 3 })
  await over(id)
  expect(await figures(id)).toEqual({ total: 12, cancelled: 12 })
  expect(begun('cancelled')).toHaveLength(3)
  expect(await findBackfill(world.db, id)).toMatchObject({ state: 'cancelled', error: 'enough' })
  expect(await world.breaches({ atRest: true })).toEqual([])
})

test('cancelled while paused, and cancelled by itself while paused, a run ends', async () => {
  await engine()
  const id = await backfill({ years: 4, maxActive: 1, name: 'both' })
  await begin('both', 1)
  await act(id, pauseBackfill, true)
  const held = statement<{ id: string }>('test.some-held', 'select id from sluice.runs where held order by id limit 1')
  const [one] = await world.db.query(held)
  await world.cancel(one!.id)
  expect(await world.ended(one!.id)).toBe('cancelled')
  expect(await figures(id)).toEqual({ total: 4, running: 1, queued: 2, cancelled: 1 })
  await cancel(id)
  await over(id)
  expect(await figures(id)).toEqual({ total: 4, cancelled: 4 })
  expect(begun('both')).toHaveLength(1)
})

test('an engine that dies leaves its places to those who take its runs over', async () => {
  const first = await engine({ leaseMs: 1_500 })
  const id = await backfill({ years: 6, maxActive: 2, name: 'dies' })
  await begin('dies', 2)
  await first.crash()
  await world.go('dies')
  await engine({ leaseMs: 1_500 })
  await over(id)
  expect(await figures(id)).toEqual({ total: 6, success: 6 })
  expect((await world.db.query(mostAtOnce, [id]))[0]!.most).toBeLessThanOrEqual(2)
})
