import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { EngineWorld } from '../../test/engine-world.ts'
import type { Transition } from '../core/run-progress.ts'
import { type Database, statement } from '../ports/database.ts'
import { openDatabase } from '../postgres/pool.ts'
import { readInbox } from './inbox.ts'
import { registerNode } from './nodes.ts'
import { claimRuns, failRun, type OwnedRun, reclaimRun, releaseRuns } from './runs.ts'
import { commitGroup, type RunChange } from './transitions.ts'

let world: EngineWorld
const node = randomUUID()
beforeAll(async () => {
  world = await EngineWorld.open()
  await registerNode(world.db, { id: node, kind: 'engine', host: 'test', pid: 1, leaseMs: 600_000 })
})
afterAll(async () => {
  expect(await world.breaches()).toEqual([])
  await world.close()
})

const claimed = new Map<string, OwnedRun>()
async function newRun(workflow = 'gated'): Promise<OwnedRun> {
  const id = await world.start(workflow, world.place('x'))
  for (const run of await claimRuns(world.db, node, 1_000)) claimed.set(run.id, run)
  return claimed.get(id)!
}

/** Tokens are unique: those of a run count from its own number on. */
const firstToken = (run: OwnedRun) => [...claimed.keys()].indexOf(run.id) * 100
const withTokensOf = (run: OwnedRun, transition: Transition): Transition =>
  transition.token === 0 ? transition : { ...transition, token: transition.token + firstToken(run) }

const plain = { node: 0, mapIndex: -1, attempt: 1, token: 7, losses: 0 } as const
const begins: Transition = { ...plain, from: 'none', to: 'running' }
const succeeds: Transition = { ...plain, from: 'running', to: 'success', result: '1' }
const lost = { losses: 1, error: 'RUNNER_LOST: no' }
const fails: Transition = { ...plain, ...lost, from: 'running', to: 'up_for_retry', retryAt: 1_000 }

const changeOf = (run: OwnedRun, seq: number, ...transitions: Transition[]): RunChange => ({
  runId: run.id,
  epoch: run.epoch,
  seq,
  transitions: transitions.map((transition) => withTokensOf(run, transition)),
  expanded: [],
})
const first = (run: OwnedRun): RunChange => ({ ...changeOf(run, 0, begins), state: { from: 'queued', to: 'running' } })

const everything = statement<{ rows: string }>(
  'test.everything',
  `select (select json_agg(r order by id)::text from sluice.runs r) || (select coalesce(json_agg(t order by run_id, node, map_index)::text, '') from sluice.tasks t)
     || (select coalesce(json_agg(l order by run_id, seq)::text, '') from sluice.transitions l)
     || (select coalesce(json_agg(m)::text, '') from sluice.map_ranges m) as rows`,
)
const snapshot = async () => (await world.db.query(everything))[0]!.rows

describe('a group', () => {
  it('is written whole: rows, log and sequence', async () => {
    const run = await newRun()
    await commitGroup(world.db, node, [first(run)])
    await commitGroup(world.db, node, [{ ...changeOf(run, 2, succeeds), state: { from: 'running', to: 'success' } }])
    expect(await world.run(run.id)).toMatchObject({ state: 'success', seq: 4 })
    expect(await world.tasks(run.id)).toMatchObject([{ state: 'success', attempt: 1, result: '1' }])
  })

  const running = async () => {
    const run = await newRun()
    await commitGroup(world.db, node, [first(run)])
    return run
  }
  const wrong: [string, (run: OwnedRun) => { node?: string; change: RunChange }][] = [
    ['of another node', (run) => ({ node: randomUUID(), change: changeOf(run, 2, succeeds) })],
    ['of an earlier epoch', (run) => ({ change: changeOf({ ...run, epoch: run.epoch - 1 }, 2, succeeds) })],
    ['of a later epoch', (run) => ({ change: changeOf({ ...run, epoch: run.epoch + 1 }, 2, succeeds) })],
    ['with an earlier sequence', (run) => ({ change: changeOf(run, 1, succeeds) })],
    ['with a later sequence', (run) => ({ change: changeOf(run, 3, succeeds) })],
    ['with another token', (run) => ({ change: changeOf(run, 2, { ...succeeds, token: 8 }) })],
    ['that ends what never began', (run) => ({ change: changeOf(run, 2, { ...succeeds, node: 1 }) })],
    ['that starts what runs', (run) => ({ change: changeOf(run, 2, { ...begins, token: 9 }) })],
    [
      'that starts again what is no retry',
      (run) => ({ change: changeOf(run, 2, { ...begins, from: 'up_for_retry', attempt: 2 }) }),
    ],
    [
      'that settles what runs',
      (run) => ({ change: changeOf(run, 2, { ...plain, from: 'none', to: 'skipped', attempt: 0 }) }),
    ],
  ]
  for (const [what, made] of wrong) {
    it(`${what} is refused whole, with the good ones beside it`, async () => {
      const [bad, good] = [await running(), await running()]
      const before = await snapshot()
      const { node: by = node, change } = made(bad)
      await expect(commitGroup(world.db, by, [changeOf(good, 2, succeeds), change])).rejects.toMatchObject({
        code: 'FENCED',
      })
      // Alone it goes by another statement.
      await expect(commitGroup(world.db, by, [change])).rejects.toMatchObject({ code: 'FENCED' })
      expect(await snapshot()).toBe(before)
    })
  }

  it('of a run that has ended is refused', async () => {
    const run = await running()
    await commitGroup(world.db, node, [{ ...changeOf(run, 2, succeeds), state: { from: 'running', to: 'success' } }])
    await expect(commitGroup(world.db, node, [changeOf(run, 4)])).rejects.toMatchObject({ code: 'FENCED' })
  })

  it('keeps any text', async () => {
    const run = await running()
    const text = `"'\\{},NULL\n\r\t\0\u2028\u{1F600}é`
    const error: Transition = { ...plain, from: 'running', to: 'failed', error: text }
    await commitGroup(world.db, node, [
      { ...changeOf(run, 2, error), state: { from: 'running', to: 'failed', error: text } },
    ])
    expect(await world.run(run.id)).toMatchObject({ error: text.replace('\0', '') })
    expect(await world.tasks(run.id)).toMatchObject([{ error: text.replace('\0', '') }])
  })

  it('may fail an attempt and cancel its retry at once', async () => {
    const run = await running()
    const cancelled: Transition = { ...plain, token: 0, from: 'up_for_retry', to: 'cancelled' }
    await commitGroup(world.db, node, [
      { ...changeOf(run, 2, fails, cancelled), state: { from: 'running', to: 'cancelled' } },
    ])
    expect(await world.tasks(run.id)).toMatchObject([{ state: 'cancelled', error: lost.error }])
  })

  it('takes a retry up under its next number alone', async () => {
    const run = await running()
    await commitGroup(world.db, node, [changeOf(run, 2, fails)])
    const again: Transition = { ...begins, from: 'up_for_retry', attempt: 2, token: 8 }
    await expect(commitGroup(world.db, node, [changeOf(run, 3, { ...again, attempt: 3 })])).rejects.toMatchObject({
      code: 'FENCED',
    })
    await commitGroup(world.db, node, [changeOf(run, 3, again)])
    expect(await world.tasks(run.id)).toMatchObject([{ state: 'running', attempt: 2, error: null }])
  })

  it('and another for other runs go at once; of two for one run the second waits and is refused', async () => {
    const runs = [await running(), await running(), await running()] as const
    await Promise.all([
      commitGroup(world.db, node, [changeOf(runs[0], 2, succeeds), changeOf(runs[1], 2, succeeds)]),
      commitGroup(world.db, node, [changeOf(runs[2], 2, succeeds)]),
    ])
    const run = await running()
    const both = await Promise.allSettled([1, 2].map(() => commitGroup(world.db, node, [changeOf(run, 2, succeeds)])))
    expect(both.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('of many runs in opposite orders does not deadlock', async () => {
    const runs: OwnedRun[] = []
    for (let n = 0; n < 40; n += 1) runs.push(await running())
    const [left, right] = [
      runs.map((run) => changeOf(run, 2, fails)),
      runs.toReversed().map((run) => changeOf(run, 2, fails)),
    ]
    const both = await Promise.allSettled([commitGroup(world.db, node, left), commitGroup(world.db, node, right)])
    expect(both.filter((result) => result.status === 'fulfilled')).toHaveLength(1)
    expect(both.find((result) => result.status === 'rejected')).toMatchObject({ reason: { code: 'FENCED' } })
  })
})

/** Runs whose rows say what no engine would write, in a database of their own, of which nothing is known yet to the planner. */
describe('the statements of an owner', () => {
  const hold = statement(
    'test.hold_runs',
    `insert into sluice.runs (id, workflow, version, params, state, node_id)
     select id, 'w', 'v', '{}', 'queued', $2 from unnest($1::uuid[]) as id`,
  )
  const rowsOf = statement(
    'test.rows_of_run',
    `select r.state, r.seq, r.error, r.result, r.started_at is null as fresh, r.finished_at is null as open, (
       select json_agg(to_jsonb(t) - 'run_id' - 'started_at' - 'first_started_at' - 'finished_at'
         || jsonb_build_object('fresh', t.started_at is null, 'open', t.finished_at is null) order by node)
       from sluice.tasks t where t.run_id = r.id) as tasks, (
       select json_agg(to_jsonb(l) - 'run_id' - 'at' order by seq) from sluice.transitions l where l.run_id = r.id) as log
     from sluice.runs r where r.id = $1`,
  )
  const runsRead = statement<{ rows: number }>(
    'test.runs_read',
    `select idx_tup_fetch + seq_tup_read as rows from pg_stat_xact_user_tables where relname = 'runs'`,
  )
  let fresh: TestDatabase
  let db: Database
  beforeAll(async () => {
    fresh = await testDatabase({ max: 1 })
    db = openDatabase({ ...fresh.options, max: 1, lookupsOnly: true })
    await db.script(`insert into sluice.versions (hash, manifest) values ('v', '{}')`)
  })
  afterAll(async () => {
    await db.close()
    await fresh.drop()
  })
  const change = (runId: string, seq: number, ...transitions: Transition[]): RunChange => ({
    ...{ runId, epoch: 0, seq, transitions },
    expanded: [],
  })

  it('read no other runs of the node, however many it holds', async () => {
    const ids = Array.from({ length: 300 }, () => randomUUID())
    const two = ids.slice(0, 2).map((id) => change(id, 0, begins))
    // Planned now, while there is none.
    await expect(commitGroup(db, node, two)).rejects.toMatchObject({ code: 'FENCED' })
    await expect(commitGroup(db, node, two.slice(1))).rejects.toMatchObject({ code: 'FENCED' })
    expect(await readInbox(db, node, 0)).toEqual([])
    await db.query(hold, [ids, node])
    const [reads] = await db.transaction(async (session) => {
      await commitGroup(session as Database, node, two)
      await commitGroup(session as Database, node, [change(ids[2]!, 0, begins)])
      await readInbox(session, node, 0)
      return session.query(runsRead)
    })
    expect(reads!.rows).toBeLessThanOrEqual(10)
  })

  it('write of a run alone what they write of many', async () => {
    const text = `{"it's":"\\"}`
    const again: Transition = { ...begins, from: 'up_for_retry', attempt: 2, token: 8 }
    const hop: Transition[] = [
      { ...succeeds, attempt: 2, token: 8, result: text, losses: 1 },
      { ...begins, node: 1, token: 9 },
    ]
    const last: Transition = { ...plain, node: 1, token: 9, from: 'running', to: 'failed', error: text, losses: 2 }
    const steps: ((runId: string) => RunChange)[] = [
      (id) => ({ ...change(id, 0, begins), state: { from: 'queued', to: 'running' } }),
      (id) => change(id, 2, fails),
      (id) => change(id, 3, again),
      (id) => change(id, 4, ...hop),
      (id) => ({ ...change(id, 6, last), state: { from: 'running', to: 'failed', error: text, result: '[1]' } }),
    ]
    const [alone, one, other] = [randomUUID(), randomUUID(), randomUUID()]
    await db.query(hold, [[alone, one, other], node])
    for (const step of steps) {
      await commitGroup(db, node, [step(alone)])
      await commitGroup(db, node, [step(one), step(other)])
      const [rows] = await db.query(rowsOf, [alone])
      expect([rows]).toEqual(await db.query(rowsOf, [one]))
    }
    expect(await db.query(rowsOf, [alone])).toMatchObject([{ state: 'failed', error: text, result: '[1]', seq: 8 }])
  })
})

describe('ownership', () => {
  it('reading a run again refuses what is under way', async () => {
    const run = await newRun()
    const again = await reclaimRun(world.db, run.id, node)
    expect(again?.epoch).toBe(run.epoch + 1)
    await expect(commitGroup(world.db, node, [first(run)])).rejects.toMatchObject({ code: 'FENCED' })
    await commitGroup(world.db, node, [first(again!)])
  })

  it('a run of a live node is nobody else’s, a released one is', async () => {
    const run = await newRun()
    expect(await claimRuns(world.db, randomUUID(), 1_000)).toEqual([])
    await releaseRuns(world.db, node, [run.id])
    expect((await claimRuns(world.db, randomUUID(), 1_000)).some(({ id }) => id === run.id)).toBe(false)
  })

  it('a run that its owner fails leaves nothing open', async () => {
    const run = await newRun('isolated')
    const mapped = [0, 1, 2].map((mapIndex): Transition => ({ ...begins, mapIndex, token: 10 + mapIndex }))
    const begun = { ...changeOf(run, 0, ...mapped), state: { from: 'queued', to: 'running' } }
    await commitGroup(world.db, node, [{ ...begun, expanded: [{ node: 0, width: 3 }] }])
    await commitGroup(world.db, node, [changeOf(run, 4, { ...fails, mapIndex: 1, token: 11 })])
    const tokens = await failRun(world.db, { ...run, state: 'running' }, node, 'no\0 more')
    expect(tokens.map((token) => token - firstToken(run)).sort()).toEqual([10, 12])
    expect(await world.run(run.id)).toMatchObject({ state: 'failed', error: 'no more' })
    expect(new Set((await world.tasks(run.id)).map((task) => task.state))).toEqual(new Set(['failed']))
    expect(await failRun(world.db, { ...run, state: 'running' }, node, 'again')).toEqual([])
  })
})
