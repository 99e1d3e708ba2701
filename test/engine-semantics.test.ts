/** What workflows can say, run by engines with real runners: every test is a line of docs/semantics.md. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { statement } from '../src/ports/database.ts'
import { putInbox } from '../src/store/inbox.ts'
import { setPaused } from '../src/store/workflows.ts'
import { EngineWorld, type RunningEngine, until } from './engine-world.ts'

let world: EngineWorld
let engine: RunningEngine
beforeAll(async () => {
  world = await EngineWorld.open('semantics-project')
  engine = await world.engine({ settings: { graceMs: 1_000 } })
})
afterEach(async () => {
  expect(await world.breaches()).toEqual([])
})
afterAll(() => world.close())

const resultRow = statement<{ result: string | null; error: string | null }>(
  'test.result',
  'select result, error from sluice.runs where id = $1',
)
const childRows = statement<{ id: string; state: string; parent_map_index: number }>(
  'test.children',
  'select id, state, parent_map_index from sluice.runs where parent_run_id = $1 order by id',
)
const starts = statement<{ node: number }>(
  'test.starts',
  `select node from sluice.transitions where run_id = $1 and to_state = 'running' and node >= 0 order by seq`,
)

async function result(id: string): Promise<unknown> {
  const [row] = await world.db.query(resultRow, [id])
  return row?.result === null ? undefined : JSON.parse(row!.result)
}

async function errorOf(id: string): Promise<string | null> {
  return (await world.db.query(resultRow, [id]))[0]!.error
}

/** States by the ids of the tasks; of mapped ones by `id[index]`. */
async function states(id: string, workflow: string): Promise<Record<string, string>> {
  const nodes = world.version.manifest.workflows.find(({ name }) => name === workflow)!.nodes
  const rows = await world.tasks(id)
  return Object.fromEntries(
    rows.map(({ node, map_index, state }) => [nodes[node]!.id + (map_index < 0 ? '' : `[${map_index}]`), state]),
  )
}

const is = async (id: string, workflow: string, task: string, state: string) => {
  await until(`${task} to be ${state}`, async () => (await states(id, workflow))[task] === state)
}

describe('a branch', () => {
  it('runs the arm it chose, skips the other whatever its rules, and is joined', async () => {
    const id = await world.start('choose', { arm: 'left', go: false })
    expect(await world.ended(id)).toBe('success')
    expect(await states(id, 'choose')).toEqual({
      ...{ branch: 'success', left: 'success', right: 'skipped', 'right-always': 'skipped', join: 'success' },
      ...{ flag: 'success', 'short-circuit': 'success', inside: 'skipped' },
    })
  })

  it('goes on into a short circuit that is true, and fails for a value that names no arm', async () => {
    const id = await world.start('choose', { arm: 'middle', go: true })
    expect(await world.ended(id)).toBe('failed')
    expect(await states(id, 'choose')).toMatchObject({
      ...{ branch: 'failed', left: 'upstream_failed', join: 'upstream_failed', 'right-always': 'success' },
      ...{ inside: 'success' },
    })
    const [branch] = await world.tasks(id)
    expect(branch!.error).toBe('DEFINITION_INVALID: it chose "middle", and has only left, right')
  })
})

describe('a run of another workflow', () => {
  it('gives its result, one for each item in order', async () => {
    const id = await world.start('outer', { count: 3 })
    expect(await world.ended(id)).toBe('success')
    expect(await result(id)).toEqual({
      last: 20,
      many: [
        { doubled: 0, n: 0 },
        { doubled: 2, n: 1 },
        { doubled: 4, n: 2 },
      ],
    })
    expect(await world.db.query(childRows, [id])).toHaveLength(4)
  })

  it('that fails fails its task', async () => {
    const id = await world.start('outer', { count: 0, fails: true })
    expect(await world.ended(id)).toBe('failed')
    const [one] = await world.tasks(id)
    expect(one).toMatchObject({
      state: 'failed',
      error: expect.stringMatching(/^RUN_FAILED: run \S+ failed: failed: fail$/),
    })
  })

  it('is cancelled with it', async () => {
    await setPaused(world.db, 'inner', false)
    const id = await world.start('outer', { count: 200 })
    await until('a child', async () => (await world.db.query(childRows, [id])).length > 0)
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    const children = await world.db.query(childRows, [id])
    expect(children.every(({ state }) => state === 'cancelled' || state === 'success')).toBe(true)
  })

  it('outlives its engine', async () => {
    const id = await world.start('outer', { count: 40 })
    await until('a child', async () => (await world.db.query(childRows, [id])).length > 2)
    await engine.crash()
    engine = await world.engine({ leaseMs: 2_000, settings: { graceMs: 1_000 } })
    await until('its runs to be free', async () => (await world.run(id)).node_id === engine.nodeId)
    expect(await world.ended(id)).toBe('success')
    expect(((await result(id)) as { many: unknown[] }).many).toHaveLength(40)
  })
})

it('a body for each item of a list, in a body for each item of a list, gives all results in order', async () => {
  const id = await world.start('nested', { count: 3, label: 'four' })
  expect(await world.ended(id)).toBe('success')
  expect(await result(id)).toEqual([
    { name: 'x', length: 1, inside: [0], prefix: 4 },
    { name: 'xx', length: 2, inside: [0, 2], prefix: 4 },
    { name: 'xxx', length: 3, inside: [0, 2, 4], prefix: 4 },
  ])
})

describe('a wait', () => {
  it('for a time, a while, and what a sensor finds holds no runner', async () => {
    const file = join(world.dir, 'there')
    const at = new Date(Date.now() + 700).toISOString()
    const id = await world.start('timers', { until: at, file })
    await is(id, 'timers', 'time', 'deferred')
    await is(id, 'timers', 'while', 'success')
    await is(id, 'timers', 'there', 'deferred')
    await writeFile(file, '')
    expect(await world.ended(id)).toBe('success')
    expect(await result(id)).toBe('found')
    const [time, , there] = await world.tasks(id)
    expect(time).toMatchObject({ state: 'success', attempt: 1 })
    expect(Date.parse((JSON.parse(time!.result!) as { at: string }).at)).toBeGreaterThanOrEqual(Date.parse(at))
    expect(there!.attempt).toBeGreaterThan(1)
    expect(there!.losses).toBe(0)
  })

  it('inside of an attempt goes on behind what it had done', async () => {
    const id = await world.start('naps')
    expect(await world.ended(id)).toBe('success')
    const [task] = await world.tasks(id)
    expect(task).toMatchObject({ attempt: 2, result: '12' })
  })

  it('goes on after its engine was killed', async () => {
    const id = await world.start('timers', {
      until: new Date(Date.now() + 1_500).toISOString(),
      file: join(world.dir, 'there'),
    })
    await is(id, 'timers', 'time', 'deferred')
    await engine.crash()
    engine = await world.engine({ leaseMs: 2_000, settings: { graceMs: 1_000 } })
    expect(await world.ended(id)).toBe('success')
  })
})

describe('an approval', () => {
  it('waits for its answer; one that nobody answers ends as it says', async () => {
    const id = await world.start('asks', { what: 'rows' })
    await is(id, 'asks', 'publish', 'deferred')
    await is(id, 'asks', 'late', 'success')
    await is(id, 'asks', 'never', 'failed')
    const answer = {
      ...{ approved: true, by: 'ada', note: null, at: '2026-01-01T00:00:00Z' },
      ...{ form: { rows: 7 }, onRefuse: 'skip' },
    }
    const task = { node: 0, mapIndex: -1, attempt: 1 }
    await putInbox(world.db, { runId: id, kind: 'resume', key: `answer ${id}`, task, body: JSON.stringify(answer) })
    expect(await world.ended(id)).toBe('failed')
    expect(await states(id, 'asks')).toMatchObject({ publish: 'success', 'after-never': 'upstream_failed' })
  })
})

describe('what was set up', () => {
  it.each([
    { why: 'all went well', params: { fails: false, hangs: false }, run: 'success' },
    { why: 'the work failed', params: { fails: true, hangs: false }, run: 'failed' },
  ])('is torn down when $why', async ({ params, run }) => {
    const id = await world.start('sets', params)
    expect(await world.ended(id)).toBe(run)
    expect(await states(id, 'sets')).toMatchObject({ open: 'success', close: 'success' })
  })

  it('is torn down when the run is cancelled', async () => {
    const id = await world.start('sets', { fails: false, hangs: true })
    await is(id, 'sets', 'hang', 'running')
    await world.cancel(id)
    expect(await world.ended(id)).toBe('cancelled')
    expect(await states(id, 'sets')).toMatchObject({ hang: 'cancelled', close: 'success' })
  })
})

describe('a time limit', () => {
  it('of a run stops its tasks, and fails it', async () => {
    const id = await world.start('limited')
    expect(await world.ended(id)).toBe('failed')
    expect(await errorOf(id)).toBe('TIMEOUT: the run took longer than its limit of 1000 ms')
    expect(await states(id, 'limited')).toEqual({ hang: 'cancelled' })
  })

  it('of a task covers all its attempts', async () => {
    const id = await world.start('tired')
    expect(await world.ended(id)).toBe('failed')
    const [task] = await world.tasks(id)
    expect(task!.error).toBe('TIMEOUT: the time limit of the task has passed')
    expect(task!.attempt).toBeLessThan(100)
  })
})

it('a policy for one error is not that for others', async () => {
  const id = await world.start('policies')
  expect(await world.ended(id)).toBe('failed')
  expect((await world.tasks(id)).map(({ attempt }) => attempt)).toEqual([3, 1])
})

it('an attempt can skip its task; groups name tasks and are waited for', async () => {
  const id = await world.start('skips')
  expect(await world.ended(id)).toBe('success')
  expect(await states(id, 'skips')).toEqual({
    ...{ leave: 'skipped', behind: 'skipped', 'load.a': 'success', 'load.b': 'success' },
    ...{ 'then.c': 'skipped', end: 'success' },
  })
})

it('ready tasks start by their priority', async () => {
  const id = await world.start('urgent')
  expect(await world.ended(id)).toBe('success')
  expect((await world.db.query(starts, [id])).map(({ node }) => node)).toEqual([3, 1, 0, 2])
})

it('runs of a higher priority are taken and started first', async () => {
  await engine.stop()
  const file = join(world.dir, 'line')
  const ids = [await world.start('ordinary', { file, text: 'a' })]
  ids.push(await world.start('ordinary', { file, text: 'b' }), await world.start('first', { file, text: 'c' }))
  // One place: what starts first is seen by its file.
  engine = await world.engine({ settings: { graceMs: 1_000, runners: 1, capacity: 1 } })
  for (const id of ids) expect(await world.ended(id)).toBe('success')
  expect(await readFile(file, 'utf8')).toBe('cab')
})

it('nothing of a paused workflow starts, until it goes on', async () => {
  await setPaused(world.db, 'skips', true)
  const id = await world.start('skips')
  const other = await world.start('urgent')
  expect(await world.ended(other)).toBe('success')
  expect((await world.run(id)).state).toBe('queued')
  await setPaused(world.db, 'skips', false)
  expect(await world.ended(id)).toBe('success')
})
