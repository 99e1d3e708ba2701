import { afterEach, beforeEach, expect, it } from 'vitest'
import type { NodeLimits } from '../../src/sdk/pool.ts'
import { setLimit } from '../../src/store/limits.ts'
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

type Word = readonly [ms: number, from: string, to: string, detail?: string]

async function says(run: string, index: number, ...words: readonly Word[]): Promise<void> {
  const seq = `(select coalesce(max(seq), 0) + 1 from sluice.transitions where run_id = '${run}')`
  const row = ([ms, from, to, detail = '']: Word) =>
    `insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state, detail)
     values ('${run}', ${seq}, to_timestamp(1700000000 + ${ms} / 1000.0), 0, ${index}, 1, '${from}', '${to}', '${detail}');`
  await test.db.script(words.map(row).join(''))
}

const begins = (run: string, ms: number, index = -1) => says(run, index, [ms, 'none', 'running'])
const ends = (run: string, ms: number, detail = '', index = -1) => says(run, index, [ms, 'running', 'success', detail])
/** `[from, to]` in milliseconds; the task ends as `detail` says. */
async function attempt(run: string, [from, to]: readonly [number, number], detail = '', index = -1): Promise<void> {
  await begins(run, from, index)
  await ends(run, to, detail, index)
}

const pool: NodeLimits = { pool: { name: 'etl', of: 2, slots: 1 } }

it('finds a pool of which more was held than there is, and nothing where it was full', async () => {
  await deploy(pool)
  const runs = [await insertRun(test.db), await insertRun(test.db), await insertRun(test.db)] as const
  await attempt(runs[0], [0, 100])
  await attempt(runs[1], [50, 300])
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

it('counts an attempt whose end is not told yet up to the last word of its run, and judges again when it is', async () => {
  await deploy(pool)
  const [one, other, next] = [await insertRun(test.db), await insertRun(test.db), await insertRun(test.db)]
  await begins(one, 0)
  await begins(other, 10)
  await attempt(next, [20, 30])
  // Its engine may have ended one of them, and not have written that.
  expect(await found()).toEqual([])
  await ends(other, 40)
  await ends(one, 50, 'RUNNER_LOST: its engine ended')
  expect(await found()).toEqual([])
  await begins(one, 60)
  await attempt(next, [70, 80])
  await attempt(other, [70, 80])
  await ends(one, 90)
  expect(await found()).toEqual([expect.stringContaining('pool:etl has 2 and 3 were held')])
})

it('finds at once what a run holds too much of by itself', async () => {
  await deploy(pool)
  const run = await insertRun(test.db)
  for (const index of [0, 1, 2]) await begins(run, 0, index)
  expect(await found()).toEqual([expect.stringContaining('pool:etl has 2 and 3 were held')])
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
