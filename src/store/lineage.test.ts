/** Datasets become versions exactly once, without gaps, and only by attempts that succeeded. */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { endRun, insertRun, insertTask, testManifest } from '../../test/test-api.ts'
import { statement } from '../ports/database.ts'
import {
  type DatasetWrite,
  deleteOldDatasetVersions,
  dropVainWrites,
  noteEnvironment,
  noteLineage,
  publishDatasets,
  readVersionOf,
  tasksWithWrites,
  writeDataset,
} from './lineage.ts'
import { claimObjects } from './objects.ts'
import { deleteFinishedRuns } from './retention.ts'
import { type AttemptKey, guardAttempt } from './tasks.ts'
import { deployVersion } from './versions.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase({ max: 8 })
  await deployVersion(test.db, testManifest)
})
afterAll(() => test.drop())

const clean = statement(
  'test.clean-lineage',
  'truncate sluice.datasets, sluice.dataset_writes, sluice.dataset_versions, sluice.lineage',
)
beforeEach(async () => {
  await test.db.execute(clean)
})

const begin = statement(
  'test.begin',
  `update sluice.tasks set token = $4, attempt = $5 where run_id = $1 and node = $2 and map_index = $3`,
)
const finish = statement(
  'test.finish',
  `with log as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state)
     select run_id, 1000 * node + attempt, sluice.sluice_now(), node, map_index, attempt, 'running', $4 from sluice.tasks
     where run_id = $1 and node = $2 and map_index = $3
   )
   update sluice.tasks set state = $4, token = null where run_id = $1 and node = $2 and map_index = $3`,
)
const clear = statement(
  'test.clear',
  `update sluice.tasks set state = 'none' where run_id = $1 and node = $2 and map_index = $3`,
)
const lineage = statement<{
  kind: string
  what: string
  dataset: string
  version: number | null
  hash: string | null
  attempt: number
}>(
  'test.lineage',
  'select kind, what, dataset, version, hash, attempt from sluice.lineage where run_id = $1 order by node, attempt, nth',
)
const versions = statement<{ dataset: string; version: number; hash: string | null; run_id: string }>(
  'test.versions',
  'select dataset, version, hash, run_id from sluice.dataset_versions order by dataset, version',
)
const references = statement<{ count: number }>(
  'test.dataset-references',
  `select count(*) from sluice.object_refs where referrer_kind = 'dataset'`,
)

let tokens = 0
async function attempt(node = 0, runId?: string, number = 1): Promise<AttemptKey> {
  const id = runId ?? (await insertRun(test.db))
  if (number === 1) await insertTask(test.db, id, [node, -1], 'running')
  tokens += 1
  const key = { runId: id, node, mapIndex: -1, token: tokens }
  await test.db.execute(begin, [id, node, -1, key.token, number])
  return key
}
const ends = (key: AttemptKey, state: string) => test.db.execute(finish, [key.runId, key.node, key.mapIndex, state])
const sha = (text: string) => createHash('sha256').update(text).digest('hex')

function write(key: AttemptKey, dataset: string, wishes: Partial<DatasetWrite> = {}): Promise<void> {
  const given = { dataset, doc: null, position: 0, hash: null, objects: [], rows: null, metadata: null, ...wishes }
  return test.db.transaction(async (session) => {
    await guardAttempt(session, key)
    await writeDataset(session, 'test', key, given)
  })
}

describe('what an attempt writes to a dataset', () => {
  it('is a version once it has succeeded, and not before', async () => {
    const key = await attempt()
    await write(key, 'prim.orders', { hash: sha('a'), rows: 7, metadata: '{"day":"2026-03-28"}' })
    expect(await publishDatasets(test.db)).toEqual([])
    expect(await readVersionOf(test.db, 'prim.orders', null)).toBeUndefined()
    expect(await tasksWithWrites(test.db, [key])).toEqual([true])
    await ends(key, 'success')
    expect(await publishDatasets(test.db)).toEqual([{ dataset: 'prim.orders', version: 1 }])
    expect(await publishDatasets(test.db)).toEqual([])
    expect(await tasksWithWrites(test.db, [key])).toEqual([false])
    expect(await readVersionOf(test.db, 'prim.orders', null)).toEqual({
      ...{ version: 1, hash: sha('a'), objects: [], rows: 7, metadata: { day: '2026-03-28' } },
    })
    expect(await test.db.query(lineage, [key.runId])).toEqual([
      { kind: 'write', what: 'dataset', dataset: 'prim.orders', version: 1, hash: sha('a'), attempt: 1 },
    ])
  })

  it.each(['failed', 'up_for_retry', 'cancelled', 'skipped', 'deferred', 'none'])(
    'never is one when it ends %s',
    async (state) => {
      const key = await attempt()
      await write(key, 'prim.orders')
      await ends(key, state)
      expect(await publishDatasets(test.db)).toEqual([])
      expect(await test.db.transaction(dropVainWrites)).toBe(1)
      expect(await tasksWithWrites(test.db, [key])).toEqual([false])
    },
  )

  it('is that of the attempt that succeeded, not of one before it', async () => {
    const first = await attempt()
    await write(first, 'prim.orders', { hash: sha('first') })
    await ends(first, 'up_for_retry')
    const second = await attempt(0, first.runId, 2)
    await test.db.execute(statement('test.run-again', `update sluice.tasks set state = 'running' where run_id = $1`), [
      first.runId,
    ])
    await write(second, 'prim.orders', { hash: sha('second') })
    await ends(second, 'success')
    await publishDatasets(test.db)
    expect(await test.db.query(versions)).toMatchObject([{ version: 1, hash: sha('second') }])
    expect(await test.db.transaction(dropVainWrites)).toBe(1)
  })

  it('was one, though its task was cleared before it was published', async () => {
    const key = await attempt()
    await write(key, 'prim.orders')
    await ends(key, 'success')
    await test.db.execute(clear, [key.runId, key.node, key.mapIndex])
    expect(await test.db.transaction(dropVainWrites)).toBe(0)
    expect(await publishDatasets(test.db)).toEqual([{ dataset: 'prim.orders', version: 1 }])
  })

  it('is refused once the attempt is no longer live', async () => {
    const key = await attempt()
    await expect(write({ ...key, token: key.token + 1_000 }, 'prim.orders')).rejects.toThrow('no longer the live one')
    await ends(key, 'success')
    await expect(write(key, 'prim.orders')).rejects.toThrow('no longer the live one')
    expect(await publishDatasets(test.db)).toEqual([])
  })

  it('counts once, also when it is written again since the answer was lost', async () => {
    const key = await attempt()
    await write(key, 'prim.orders')
    await write(key, 'prim.orders')
    await write(key, 'prim.orders', { position: 1 })
    await ends(key, 'success')
    expect((await publishDatasets(test.db)).map(({ version }) => version)).toEqual([1, 2])
  })

  it('tells the name of the dataset on the channel', async () => {
    const told: string[] = []
    const heard = Promise.withResolvers<void>()
    const stop = await test.db.listen('sluice_datasets', (name) => {
      told.push(name)
      if (told.length === 2) heard.resolve()
    })
    const [one, two] = [await attempt(), await attempt()]
    await write(one, 'prim.orders')
    await write(one, 'prim.orders', { position: 1 })
    await write(two, 'mart.sales')
    await Promise.all([ends(one, 'success'), ends(two, 'success')])
    await publishDatasets(test.db)
    await heard.promise
    await stop()
    expect(told.sort()).toEqual(['mart.sales', 'prim.orders'])
  })

  it('keeps its objects, and a hash that is one of them means it', async () => {
    const key = await attempt()
    const object = { sha256: sha('bytes'), bytes: 5 }
    await expect(write(key, 'prim.orders', { objects: [object.sha256] })).rejects.toThrow('put it again')
    await claimObjects(test.db, 'test', [object], 60_000)
    await write(key, 'prim.orders', { hash: object.sha256, objects: [object.sha256] })
    const other = await attempt()
    await write(other, 'prim.orders', { hash: object.sha256 })
    await write(other, 'prim.orders', { hash: sha('elsewhere'), position: 1 })
    expect((await test.db.query(references))[0]!.count).toBe(2)
    await Promise.all([ends(key, 'success'), ends(other, 'failed')])
    await publishDatasets(test.db)
    expect(await test.db.transaction(dropVainWrites)).toBe(2)
    expect((await test.db.query(references))[0]!.count).toBe(1)
    expect(await readVersionOf(test.db, 'prim.orders', 1)).toMatchObject({ objects: [object.sha256] })
  })

  it('gets versions without gaps, each write once, whatever publishes at once', async () => {
    const plan = fc.array(
      fc.record({
        dataset: fc.constantFrom('a', 'b', 'c'),
        writes: fc.integer({ min: 1, max: 3 }),
        end: fc.constantFrom('success', 'success', 'failed'),
      }),
      { minLength: 1, maxLength: 12 },
    )
    await fc.assert(
      fc.asyncProperty(plan, fc.integer({ min: 1, max: 6 }), async (attempts, publishers) => {
        await test.db.execute(clean)
        const keys = await Promise.all(attempts.map(() => attempt()))
        await Promise.all(
          attempts.map(async ({ dataset, writes, end }, index) => {
            for (let position = 0; position < writes; position += 1) {
              await write(keys[index]!, dataset, { position, hash: sha(`${index} ${position}`) })
            }
            await ends(keys[index]!, end)
            // While others are still writing.
            await publishDatasets(test.db, index % 2 === 0 ? dataset : undefined)
          }),
        )
        await Promise.all(Array.from({ length: publishers }, () => publishDatasets(test.db)))
        await Promise.all(Array.from({ length: 2 }, () => test.db.transaction(dropVainWrites)))
        const found = await test.db.query(versions)
        for (const dataset of ['a', 'b', 'c']) {
          const own = found.filter((version) => version.dataset === dataset)
          expect(own.map(({ version }) => version)).toEqual(own.map((_, index) => index + 1))
        }
        const wanted = attempts.flatMap(({ writes, end }, index) =>
          end === 'success' ? Array.from({ length: writes }, (_, position) => sha(`${index} ${position}`)) : [],
        )
        expect(found.map(({ hash }) => hash).sort()).toEqual(wanted.sort())
        expect(await tasksWithWrites(test.db, keys)).toEqual(keys.map(() => false))
      }),
      { numRuns: 12 },
    )
  })
})

describe('what an attempt read and wrote', () => {
  const read = { kind: 'read', what: 'dataset', name: 'prim.orders', version: 3, hash: sha('x') } as const

  it('is noted of live attempts, many at once, and said of each whether it was', async () => {
    const [one, two, gone] = [await attempt(), await attempt(), await attempt()]
    await ends(gone, 'failed')
    const notes = [read, { ...read, what: 'secret', name: 'api\0', version: null, hash: null } as const]
    expect(
      await noteLineage(test.db, [
        { key: one, notes },
        { key: gone, notes },
        { key: two, notes: [read] },
        { key: { ...one, token: 999_999 }, notes },
      ]),
    ).toEqual([true, false, true, false])
    expect(await test.db.query(lineage, [one.runId])).toMatchObject([
      { what: 'dataset', dataset: 'prim.orders', version: 3 },
      { what: 'secret', dataset: 'api', version: null },
    ])
    expect(await test.db.query(lineage, [two.runId])).toHaveLength(1)
    expect(await test.db.query(lineage, [gone.runId])).toEqual([])
  })

  it('is there once, also when it is noted again since the answer was lost', async () => {
    const key = await attempt()
    await noteLineage(test.db, [{ key, notes: [read] }])
    await noteLineage(test.db, [{ key, notes: [read] }])
    expect(await test.db.query(lineage, [key.runId])).toHaveLength(1)
  })
})

describe('retention', () => {
  const later = () => new Date(Date.now() + 60_000)
  const environments = statement<{ count: number }>(
    'test.environments',
    'select count(*) from sluice.run_environments where run_id = $1',
  )

  it('deletes the lineage with the run, and versions that nobody needs any more', async () => {
    const keys = [await attempt(), await attempt(), await attempt()]
    for (const [index, key] of keys.entries()) {
      await write(key, 'kept.dataset', { hash: sha(`${index}`) })
      await ends(key, 'success')
      await publishDatasets(test.db)
      await noteEnvironment(test.db, [key.runId], '{}')
    }
    const reader = await attempt()
    await noteLineage(test.db, [
      { key: reader, notes: [{ kind: 'read', what: 'dataset', name: 'kept.dataset', version: 2, hash: sha('1') }] },
    ])
    const remove = () => test.db.transaction((session) => deleteOldDatasetVersions(session, later(), 100))
    expect(await remove()).toBe(0)
    for (const { runId } of keys) await endRun(test.db, runId, 'success')
    await deleteFinishedRuns(test.db, later(), 1_000)
    for (const { runId } of keys) {
      expect(await test.db.query(lineage, [runId])).toEqual([])
      expect((await test.db.query(environments, [runId]))[0]!.count).toBe(0)
    }
    expect(await remove()).toBe(1)
    expect((await test.db.query(versions)).map(({ version }) => version)).toEqual([2, 3])
    await endRun(test.db, reader.runId, 'success')
    await deleteFinishedRuns(test.db, later(), 1_000)
    expect(await remove()).toBe(1)
    expect((await test.db.query(versions)).map(({ version }) => version)).toEqual([3])
  })
})
