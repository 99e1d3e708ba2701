/** What must hold of datasets, shown by breaking it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { statement } from '../../src/ports/database.ts'
import { publishDatasets, writeDataset } from '../../src/store/lineage.ts'
import { claimObjects } from '../../src/store/objects.ts'
import { deployVersion } from '../../src/store/versions.ts'
import { type TestDatabase, testDatabase } from '../database.ts'
import { insertRun, insertTask, testManifest } from '../test-api.ts'
import { datasetInvariants } from './datasets.ts'

let test: TestDatabase
let runId: string
const hash = 'a'.repeat(64)
const begin = statement('test.begin', 'update sluice.tasks set token = 7 where run_id = $1')
const succeed = statement(
  'test.succeed',
  `with log as (
     insert into sluice.transitions (run_id, seq, at, node, map_index, attempt, from_state, to_state)
     values ($1, 1, sluice.sluice_now(), 0, -1, 1, 'running', 'success')
   )
   update sluice.tasks set state = 'success', token = null where run_id = $1`,
)
beforeAll(async () => {
  test = await testDatabase()
  await deployVersion(test.db, testManifest)
  runId = await insertRun(test.db)
  await insertTask(test.db, runId, [0, -1], 'running')
  await test.db.execute(begin, [runId])
  await claimObjects(test.db, 'test', [{ sha256: hash, bytes: 1 }], 60_000)
  const write = { dataset: 'prim.orders', doc: null, position: 0, hash, objects: [hash], rows: null, metadata: null }
  await writeDataset(test.db, 'test', { runId, node: 0, mapIndex: -1, token: 7 }, write)
  await test.db.execute(succeed, [runId])
  await publishDatasets(test.db)
})
afterAll(() => test.drop())

/** What is found after a change, which is taken back. */
async function foundAfter(sql: string): Promise<string[]> {
  const found: string[] = []
  const undo = new Error('taken back')
  await test.db
    .transaction(async (session) => {
      await session.script(sql)
      for (const { find } of datasetInvariants) {
        found.push(...(await find({ session, now: test.db, options: {} })))
      }
      throw undo
    })
    .catch((thrown) => {
      if (thrown !== undo) throw thrown
    })
  return found
}

describe('of datasets', () => {
  it('nothing is found where nothing is wrong', async () => {
    expect(await foundAfter('select 1')).toEqual([])
  })

  it.each([
    ['update sluice.datasets set last_version = 2', 'dataset prim.orders is at version 2, and its latest is 1'],
    [
      `insert into sluice.dataset_writes (run_id, node, map_index, attempt, position, dataset, objects)
       select run_id, node, map_index, attempt, position, dataset, '[]' from sluice.dataset_versions`,
      'version 1 of prim.orders waits to be published as well',
    ],
    [`update sluice.transitions set to_state = 'failed'`, 'version 1 of prim.orders is of attempt 1 of node 0 of run'],
    [`delete from sluice.object_refs where referrer_kind = 'dataset'`, `names object ${hash} and has no reference`],
    [`update sluice.dataset_versions set objects = '[]'`, `object ${hash} is kept for`],
    [
      `insert into sluice.run_environments values ('0199c7a8-5f2e-7c31-9d0a-5b8000000000', '{}')`,
      'there is lineage of run 0199c7a8-5f2e-7c31-9d0a-5b8000000000, which is gone',
    ],
  ])('%s is found', async (sql, what) => {
    expect(await foundAfter(sql)).toEqual([expect.stringContaining(what)])
  })
})
