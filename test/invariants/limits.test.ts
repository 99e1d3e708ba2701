import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { statement } from '../../src/ports/database.ts'
import type { NodeLimits } from '../../src/sdk/pool.ts'
import { setLimit } from '../../src/store/limits.ts'
import { registerNode } from '../../src/store/nodes.ts'
import { deployVersion } from '../../src/store/versions.ts'
import { type TestDatabase, testDatabase } from '../database.ts'
import { insertRun, testManifest, testNode, testWorkflow } from '../test-api.ts'
import { limitInvariants } from './limits.ts'

let test: TestDatabase
beforeEach(async () => {
  test = await testDatabase()
})
afterEach(() => test.drop())

const found = async () =>
  (await Promise.all(limitInvariants.map(({ find }) => find({ session: test.db, now: test.db, options: {} })))).flat()

async function deploy(limits: NodeLimits | undefined, more: object = {}): Promise<void> {
  const node = { ...testNode('load'), ...(limits ? { limits } : {}) }
  await deployVersion(test.db, { ...testManifest, workflows: [{ ...testWorkflow, ...more, nodes: [node] }] })
}

/** `[from, to]` in milliseconds; the task ends as `detail` says. */
async function attempt(run: string, [from, to]: readonly [number, number | null], detail = '', index = -1) {
  const at = (ms: number) => `to_timestamp(1700000000 + ${ms} / 1000.0)`
  const seq = `(select coalesce(max(seq), 0) + 1 from sluice.transitions where run_id = '${run}')`
  const row = (ms: number, was: string, is: string, text: string) =>
    `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     values ('${run}', ${seq}, ${at(ms)}, 0, ${index}, 1, '${was}', '${is}', '${text}');`
  await test.db.script(row(from, 'none', 'running', '') + (to === null ? '' : row(to, 'running', 'success', detail)))
}

const own = statement('test.own-run', 'update sluice.runs set node_id = $2 where id = $1')
async function ownedByALiveEngine(run: string): Promise<void> {
  const id = randomUUID()
  await registerNode(test.db, { id, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000 })
  await test.db.query(own, [run, id])
}

const pool: NodeLimits = { pool: { name: 'etl', of: 2, slots: 1 } }

it('finds a pool of which more was held than there is, and nothing where it was full', async () => {
  await deploy(pool)
  const runs = [await insertRun(test.db), await insertRun(test.db), await insertRun(test.db)] as const
  await attempt(runs[0], [0, 100])
  await attempt(runs[1], [50, null])
  await ownedByALiveEngine(runs[1])
  await attempt(runs[2], [100, 200])
  expect(await found()).toEqual([])
  const late = await insertRun(test.db)
  await attempt(late, [150, 160])
  expect(await found()).toEqual([
    expect.stringContaining(`pool:etl has 2 and 3 were held when task ${late}/0/-1 started`),
  ])
})

it('counts what an attempt needs, and of an attempt whose engine died what its run said before', async () => {
  await deploy({ pool: { name: 'etl', of: 2, slots: 2 } })
  const [dead, other] = [await insertRun(test.db), await insertRun(test.db)]
  await attempt(dead, [0, 1_000], 'RUNNER_LOST: its engine ended')
  await attempt(other, [500, 600])
  expect(await found()).toEqual([])
  await attempt(await insertRun(test.db), [550, 560])
  expect(await found()).toHaveLength(1)
})

it('counts an attempt of a dead engine up to the last word of its run, while nobody has taken the run', async () => {
  await deploy(pool)
  const [dead, alive, next] = [await insertRun(test.db), await insertRun(test.db), await insertRun(test.db)]
  await attempt(dead, [0, null])
  await attempt(alive, [10, null])
  await ownedByALiveEngine(alive)
  await attempt(next, [20, 30])
  expect(await found()).toEqual([])
  await ownedByALiveEngine(dead)
  expect(await found()).toHaveLength(1)
})

it('tells keys apart by what they are about', async () => {
  await deploy({ key: { name: 'file', of: 1, parts: [{ $ref: { from: 'param', path: ['file'] } }] } })
  await attempt(await insertRun(test.db, { params: { file: 'a' } }), [0, 100])
  await attempt(await insertRun(test.db, { params: { file: 'b' } }), [0, 100])
  expect(await found()).toEqual([])
  await attempt(await insertRun(test.db, { params: { file: 'b' } }), [50, 100])
  expect(await found()).toEqual([expect.stringContaining('key:file')])
})

it('finds a rate that was exceeded in any time', async () => {
  await deploy({ rate: { name: 'api', limit: 10, perMs: 1_000, burst: 2 } })
  const run = await insertRun(test.db)
  for (const [index, at] of [0, 0, 100, 200, 1_000, 1_000].entries()) await attempt(run, [at, at + 1], '', index)
  expect(await found()).toEqual([])
  await attempt(run, [1_050, 1_060], '', 10)
  expect(await found()).toEqual([expect.stringContaining('rate:api was exceeded')])
})

it('finds workers over runs, and judges what a person changed from then on', async () => {
  await deploy(undefined, { workers: 1 })
  await attempt(await insertRun(test.db), [0, 100])
  await attempt(await insertRun(test.db), [50, 100])
  expect(await found()).toEqual([expect.stringContaining('workers:catalog has 1 and 2 were held')])
  await setLimit(test.db, { kind: 'workers', name: 'catalog', slots: 0 }, 'ann')
  expect(await found()).toEqual([])
})

it('finds more active runs than there may be', async () => {
  await deploy(undefined, { maxActiveRuns: 1 })
  const ids = [await insertRun(test.db), await insertRun(test.db)]
  const row = (id: string, seq: number, ms: number, was: string, is: string) =>
    `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state)
     values ('${id}', ${seq}, to_timestamp(1700000000 + ${ms} / 1000.0), -1, -1, 1, '${was}', '${is}');`
  await test.db.script(row(ids[0]!, 1, 0, 'queued', 'running') + row(ids[0]!, 2, 100, 'running', 'success'))
  await test.db.script(row(ids[1]!, 1, 100, 'queued', 'running'))
  expect(await found()).toEqual([])
  await test.db.script(`update sluice.transitions set at = at - interval '1 ms' where run_id = '${ids[1]}'`)
  expect(await found()).toEqual([expect.stringContaining('runs:catalog has 1 and 2 were held')])
})
