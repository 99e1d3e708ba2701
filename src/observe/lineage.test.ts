/** Notes in groups, datasets published soon and only after a success, whatever the database does. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import { insertRun, insertTask, testManifest } from '../../test/test-api.ts'
import { type Database, statement } from '../ports/database.ts'
import { type LineageNote, writeDataset } from '../store/lineage.ts'
import type { AttemptKey } from '../store/tasks.ts'
import { deployVersion } from '../store/versions.ts'
import { LineageWriter } from './lineage.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase({ max: 8 })
  await deployVersion(test.db, testManifest)
})
afterAll(() => test.drop())

const begin = statement('test.begin', 'update sluice.tasks set token = $2 where run_id = $1')
const end = statement('test.end', 'update sluice.tasks set state = $2, token = null where run_id = $1')
const notes = statement<{ count: number }>('test.notes', 'select count(*) from sluice.lineage where run_id = $1')
const versions = statement<{ count: number }>(
  'test.versions',
  'select count(*) from sluice.dataset_versions where dataset = $1',
)
const waiting = statement<{ count: number }>(
  'test.waiting',
  'select count(*) from sluice.dataset_writes where dataset = $1',
)
const environment = statement<{ environment: string }>(
  'test.environment',
  'select environment from sluice.run_environments where run_id = $1',
)

/** A database that fails what it is told to, and counts statements. */
function watched(fails: (name: string) => boolean = () => false) {
  const asked = new Map<string, number>()
  const ask = (name: string) => {
    asked.set(name, (asked.get(name) ?? 0) + 1)
    if (fails(name)) throw Object.assign(new Error('no connection'), { code: '57P01' })
  }
  const db: Database = {
    ...test.db,
    async query(sql, values) {
      ask(sql.name)
      return test.db.query(sql, values)
    },
    async execute(sql, values) {
      ask(sql.name)
      return test.db.execute(sql, values)
    },
  }
  return { db, asked }
}
function open(db: Database): LineageWriter {
  const writer = new LineageWriter(db, '{"node":"1"}', () => {})
  onTestFinished(() => writer.stop())
  return writer
}

let tokens = 0
async function attempt(): Promise<AttemptKey> {
  const runId = await insertRun(test.db)
  await insertTask(test.db, runId, [0, -1], 'running')
  tokens += 1
  const key = { runId, node: 0, mapIndex: -1, token: tokens }
  await test.db.execute(begin, [runId, key.token])
  return key
}
const write = (key: AttemptKey, dataset: string) =>
  writeDataset(test.db, 'test', key, {
    ...{ dataset, doc: null, position: 0, hash: null, objects: [], rows: null, metadata: null },
  })
const count = async (sql: typeof notes, value: string) => (await test.db.query(sql, [value]))[0]!.count
const note: LineageNote = { kind: 'read', what: 'topic', name: 'urls', version: 1, hash: null }

it('notes of attempts that end together go in few statements, and each hears of its own', async () => {
  const { db, asked } = watched()
  const writer = open(db)
  const keys = await Promise.all(Array.from({ length: 40 }, attempt))
  const dead = { ...keys[0]!, token: 999_999 }
  const told = await Promise.allSettled([...keys, dead].map((key) => writer.note(key, [note])))
  expect(told.slice(0, -1).every(({ status }) => status === 'fulfilled')).toBe(true)
  expect(told.at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'FENCED' } })
  expect(asked.get('lineage.note')).toBeLessThanOrEqual(2)
  for (const { runId } of keys) expect(await count(notes, runId)).toBe(1)
})

it('a group that fails is told to each of it, and the next one goes on', async () => {
  let away = true
  const { db } = watched((name) => away && name === 'lineage.note')
  const writer = open(db)
  const [one, two] = [await attempt(), await attempt()]
  const told = await Promise.allSettled([writer.note(one, [note]), writer.note(two, [note])])
  expect(told.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  away = false
  await writer.note(one, [note])
  expect(await count(notes, one.runId)).toBe(1)
})

it('a version is published when the success is committed after the end was told, also while the database fails', async () => {
  let failures = 3
  const dataset = `d${randomUUID().slice(0, 8)}`
  const { db } = watched((name) => name === 'lineage.publish' && failures-- > 0)
  const writer = open(db)
  const key = await attempt()
  await write(key, dataset)
  writer.wroteDataset(key)
  writer.attemptEnded(key)
  await until('it to have been looked for', () => failures < -1)
  expect(await count(versions, dataset)).toBe(0)
  await test.db.execute(end, [key.runId, 'success'])
  await until('it to be published', async () => (await count(versions, dataset)) === 1)
})

it('what an attempt wrote that failed is forgotten, and nothing is published', async () => {
  const dataset = `d${randomUUID().slice(0, 8)}`
  const writer = open(test.db)
  const key = await attempt()
  await write(key, dataset)
  writer.wroteDataset(key)
  await test.db.execute(end, [key.runId, 'failed'])
  writer.attemptEnded(key)
  await until('it to be forgotten', async () => (await count(waiting, dataset)) === 0)
  expect(await count(versions, dataset)).toBe(0)
})

it('a process that starts publishes what another one left behind', async () => {
  const dataset = `d${randomUUID().slice(0, 8)}`
  const key = await attempt()
  await write(key, dataset)
  await test.db.execute(end, [key.runId, 'success'])
  const writer = open(test.db)
  writer.start()
  await until('it to be published', async () => (await count(versions, dataset)) === 1)
})

it('a run is noted once with what it is executed in, and again when that failed', async () => {
  let failures = 1
  const { db, asked } = watched((name) => name === 'lineage.note_environment' && failures-- > 0)
  const writer = open(db)
  const key = await attempt()
  writer.attemptEnded(key)
  await until('it to fail', () => failures < 1)
  await until('it to be noted', async () => {
    writer.attemptEnded(key)
    return (await test.db.query(environment, [key.runId])).length > 0
  })
  writer.attemptEnded(key)
  await writer.stop()
  expect(await test.db.query(environment, [key.runId])).toEqual([{ environment: '{"node":"1"}' }])
  expect(asked.get('lineage.note_environment')).toBe(2)
})
