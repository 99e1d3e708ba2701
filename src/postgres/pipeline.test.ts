import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { openDatabase, type PooledDatabase } from './pool.ts'

let test: TestDatabase
let db: PooledDatabase
beforeAll(async () => {
  test = await testDatabase({ migrated: false })
  db = openDatabase({ ...test.options, max: 1 })
  await db.script('create table t (a int primary key, b text)')
})
afterAll(async () => {
  await db.close()
  await test.drop()
})

const insert = statement('test.pipeline-insert', 'insert into t (a, b) values ($1, $2)')
const wrong = statement('test.pipeline-wrong', 'insert into nowhere (a) values ($1)')
const all = statement<{ a: number; b: string | null }>('test.pipeline-all', 'select a, b from t order by a')
const clear = statement('test.pipeline-clear', 'delete from t')
const one = (a: number, b: string | null = 'x') => ({ statement: insert, values: [String(a), b] })
const copy = (rows: string) => ({ copy: 'copy t (a, b) from stdin', rows })

it('does all steps in their order, statements and copies, whether prepared before or not', async () => {
  await db.pipeline([one(1), copy('2\ttwo\n3\t\\N\n'), one(4, null), copy('')])
  await db.pipeline([one(5), one(6)])
  expect(await db.query(all)).toEqual([
    { a: 1, b: 'x' },
    { a: 2, b: 'two' },
    { a: 3, b: null },
    { a: 4, b: null },
    { a: 5, b: 'x' },
    { a: 6, b: 'x' },
  ])
  await db.execute(clear)
})

it.each([
  ['a statement', [one(1), one(1), copy('2\tx\n')], '23505'],
  ['rows of a copy', [one(1), copy('2\tx\nno number\tx\n'), one(3)], '22P02'],
  ['a conflict within a copy', [copy('2\tx\n2\tx\n'), one(3)], '23505'],
  ['what cannot be prepared', [one(1), { statement: wrong, values: ['1'] }, copy('2\tx\n')], '42P01'],
  ['a copy to nowhere', [one(1), { copy: 'copy nowhere from stdin', rows: '1\n' }, one(2)], '42P01'],
] as const)('does nothing when one step fails, and the connection goes on: %s', async (_, steps, code) => {
  await expect(db.pipeline(steps)).rejects.toMatchObject({ code })
  expect(await db.query(all)).toEqual([])
  await db.pipeline([one(7)])
  await expect(db.pipeline(steps)).rejects.toMatchObject({ code })
  expect(await db.query(all)).toEqual([{ a: 7, b: 'x' }])
  await db.execute(clear)
})

it('fails with DATABASE_UNREACHABLE when the connection ends under it, and takes another', async () => {
  const gone = db.pipeline([
    one(1),
    { statement: statement('test.pipeline-end', 'select pg_terminate_backend(pg_backend_pid())'), values: [] },
  ])
  await expect(gone).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' })
  expect(await db.query(all)).toEqual([])
})

it('keeps its turn among the questions of one connection', async () => {
  const answers = await Promise.all([db.pipeline([one(1)]), db.query(all), db.pipeline([one(2)]), db.query(all)])
  expect([answers[1], answers[3]]).toEqual([
    [{ a: 1, b: 'x' }],
    [
      { a: 1, b: 'x' },
      { a: 2, b: 'x' },
    ],
  ])
})
