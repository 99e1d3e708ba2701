/** A simulated world and an engine with real runners come to the same: states, attempts, results and errors of every task. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { statement } from '../src/ports/database.ts'
import { type SimulatedWorld, simulate } from '../src/testing/index.ts'
import { EngineWorld } from './engine-world.ts'
import * as semantics from './programs/semantics-project/workflows/semantics.ts'

let engines: EngineWorld
let world: SimulatedWorld | undefined
beforeAll(async () => {
  engines = await EngineWorld.open('semantics-project')
  await engines.engine({ settings: { graceMs: 1_000 } })
})
afterEach(() => world?.close())
afterAll(() => engines.close())

const runRow = statement<{ result: string | null; error: string | null }>(
  'test.simulated_result',
  'select result, error from sluice.runs where id = $1',
)

/** Ids of runs differ, and so do times. */
const plain = (text: string | null) =>
  text?.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME') ?? null

interface Seen {
  readonly state: string
  readonly result: unknown
  readonly error: string | null
  readonly tasks: readonly string[]
}

async function inEngine(workflow: string, params: object): Promise<Seen> {
  const id = await engines.start(workflow, params)
  const state = await engines.ended(id)
  const { nodes } = engines.version.manifest.workflows.find(({ name }) => name === workflow)!
  const [row] = await engines.db.query(runRow, [id])
  const tasks = (await engines.tasks(id)).map(({ node, map_index, state, attempt, error }) =>
    [nodes[node]!.id, map_index, state, attempt, plain(error)].join(' '),
  )
  return {
    ...{ state, error: plain(row!.error), tasks: tasks.sort() },
    result: row!.result === null ? null : JSON.parse(plain(row!.result)!),
  }
}

async function simulated(workflow: string, params: object): Promise<Seen> {
  const all = Object.values(semantics).filter(({ kind }) => kind === 'workflow')
  world = await simulate(all)
  const run = await world.start(workflow, params as Record<string, unknown>)
  await world.advance('1d')
  const tasks = run.tasks.map(({ id, mapIndex, state, attempt, error }) =>
    [id, mapIndex, state, attempt, plain(error)].join(' '),
  )
  const result = run.result === undefined ? null : JSON.parse(plain(JSON.stringify(run.result))!)
  return { state: run.state, result, error: plain(run.error), tasks: tasks.sort() }
}

it.each([
  ['choose', { arm: 'left', go: false }],
  ['choose', { arm: 'right', go: true }],
  ['choose', { arm: 'middle', go: true }],
  ['outer', { count: 3 }],
  ['outer', { count: 0, fails: true }],
  ['inner', { n: 2, fails: true }],
  ['nested', { count: 3, label: 'four' }],
  ['nested', { count: 0, label: '' }],
  ['naps', {}],
  ['sets', { fails: false, hangs: false }],
  ['sets', { fails: true, hangs: false }],
  ['policies', {}],
  ['skips', {}],
  ['urgent', {}],
])('%s %j', async (workflow, params) => {
  expect(await simulated(workflow, params)).toEqual(await inEngine(workflow, params))
})
