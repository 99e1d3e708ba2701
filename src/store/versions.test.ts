import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { newRunId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { statement } from '../ports/database.ts'
import { deleteUnusedVersions } from './retention.ts'
import { insertNewRuns } from './runs.ts'
import { currentVersion, deployedVersion, deployVersion, knownVersions, readVersion } from './versions.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test.drop())

const hashOf = (letter: string) => letter.repeat(64)
const manifest = (letter: string, more: Partial<Manifest> = {}): Manifest => ({
  ...{ format: 1, hash: hashOf(letter), entries: [], faults: [] },
  ...{ workflows: [], topics: [], streams: [], endpoints: [], commands: [] },
  ...more,
})
const age = statement(
  'test.age',
  'update sluice.versions set used_at = used_at - $2::interval where hash = any($1::text[])',
)
const backfill = statement(
  'test.backfill',
  `insert into sluice.backfills (id, workflow, plan, version, from_time, to_time, reasons, newest_first, max_active, params, requested_by, ticks)
   values (gen_random_uuid(), 'w', 'p', $1, now(), now(), '{}', false, 1, '{}', 'ada', 1)`,
)
const endBackfills = statement('test.end-backfills', `update sluice.backfills set state = 'done', ended_at = now()`)
const finish = statement('test.finish', `update sluice.runs set state = 'success', finished_at = now()`)
const forget = statement('test.forget', 'delete from sluice.runs')

const run = (version: string) => ({
  id: newRunId(Date.now(), Math.random),
  ...{
    workflow: 'w',
    version,
    plan: 'manual',
    logicalTime: null,
    params: '{}',
    idempotencyKey: null,
    requestHash: null,
  },
})

it('what is deployed is read with its faults of now, whatever they were when it was first deployed', async () => {
  expect([await currentVersion(test.db), await deployedVersion(test.db)]).toEqual([undefined, undefined])
  const kept = (since: object) => [{ file: 'a.ts', version: hashOf('0'), faults: [], ...since }]
  await deployVersion(test.db, manifest('a', { faults: [{ where: 'a.ts:1:1', message: 'x' }], kept: kept({}) }))
  await deployVersion(test.db, manifest('a'))
  expect(await currentVersion(test.db)).toEqual({ ...manifest('a'), kept: [] })
  await deployVersion(test.db, manifest('a', { kept: kept({}) }))
  expect((await currentVersion(test.db))?.kept).toEqual(kept({ since: expect.stringMatching(/Z$/) }))
  expect(await deployedVersion(test.db)).toBe(hashOf('a'))
})

it('a version is kept while it is deployed, was so lately, or anything that is kept names it', async () => {
  const { db } = test
  for (const letter of ['1', '2', '3', '4']) await deployVersion(db, manifest(letter))
  await insertNewRuns(db, [run(hashOf('1'))])
  await db.execute(backfill, [hashOf('2')])
  const all = ['1', '2', '3', '4'].map(hashOf)
  const removed = async () => (await deleteUnusedVersions(db, new Date(Date.now() - 3_600_000))).sort()
  await db.execute(age, [[...all, hashOf('a')], '2 hours'])
  // It was first deployed long ago and replaced just now: somebody may still be about to start a run of it.
  await deployVersion(db, manifest('5'))
  expect(await removed()).toEqual([hashOf('3'), hashOf('a')])
  await db.execute(finish)
  await db.execute(endBackfills)
  expect(await removed()).toEqual([hashOf('2')])
  await db.execute(age, [all, '2 hours'])
  await db.execute(forget)
  expect(await removed()).toEqual([hashOf('1'), hashOf('4')])
  await db.execute(age, [[hashOf('5')], '2 years'])
  expect(await removed()).toEqual([])
  expect(await knownVersions(db, [...all, hashOf('5')])).toEqual(new Set([hashOf('5')]))
  expect(await readVersion(db, hashOf('1'))).toBeUndefined()
})
