import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { openDatabase } from '../postgres/pool.ts'
import { migrate } from './migrate.ts'
import {
  type AppliedMigration,
  type MigrationFile,
  numberOf,
  pendingMigrations,
  refuseOldServer,
} from './migration-plan.ts'

let empty: TestDatabase
let folder: string
beforeAll(async () => {
  empty = await testDatabase({ migrated: false })
  folder = await mkdtemp(join(tmpdir(), 'sluice-migrations-'))
})
afterAll(async () => {
  await empty.drop()
  await rm(folder, { recursive: true })
})

const app = () => ({ folders: [{ scope: 'shop', folder }] })
const write = (name: string, sql: string) => writeFile(join(folder, name), sql)
const names = (applied: readonly AppliedMigration[]) =>
  applied.filter(({ scope }) => scope === 'shop').map(({ name }) => name)
const countItems = statement<{ n: number }>('test.count-items', 'SELECT count(*) AS n FROM shop_items')

test('runs files once and in order, and what is new later', async () => {
  await write('0001-items.sql', 'CREATE TABLE shop_items (id int); INSERT INTO shop_items VALUES (1);')
  await write('0002-more.sql', 'INSERT INTO shop_items VALUES (2);')
  expect(names(await migrate(empty.db, app()))).toEqual(['0001-items.sql', '0002-more.sql'])
  expect(await migrate(empty.db, app())).toEqual([])
  await write('0003-third.sql', 'INSERT INTO shop_items VALUES (3);\r\n')
  expect(names(await migrate(empty.db, app()))).toEqual(['0003-third.sql'])
  await write('0003-third.sql', 'INSERT INTO shop_items VALUES (3);\n')
  expect(await migrate(empty.db, app())).toEqual([])
  expect(await empty.db.query(countItems)).toEqual([{ n: 3 }])
})

test('two at once apply each file once between them', async () => {
  await write('0004-slow.sql', 'SELECT pg_sleep(0.05); INSERT INTO shop_items VALUES (4);')
  await write('0005-fifth.sql', 'INSERT INTO shop_items VALUES (5);')
  const both = await Promise.all([migrate(empty.db, app()), migrate(empty.db, app()), migrate(empty.db, app())])
  expect(names(both.flat()).sort()).toEqual(['0004-slow.sql', '0005-fifth.sql'])
  expect(await empty.db.query(countItems)).toEqual([{ n: 5 }])
})

test('a failing file leaves nothing and is named with its line', async () => {
  await write('0006-wrong.sql', 'INSERT INTO shop_items VALUES (6);\nSELECT nonsense;')
  await expect(migrate(empty.db, app())).rejects.toMatchObject({
    code: 'MIGRATION_FAILED',
    message: expect.stringContaining('shop/0006-wrong.sql:2: '),
  })
  expect(await empty.db.query(countItems)).toEqual([{ n: 5 }])
  await write('0006-wrong.sql', 'INSERT INTO shop_items VALUES (6);')
  expect(names(await migrate(empty.db, app()))).toEqual(['0006-wrong.sql'])
})

test('a lock of others ends the wait', async () => {
  await write('0007-alter.sql', 'ALTER TABLE shop_items ADD name text;')
  await empty.db.transaction(async (session) => {
    await session.query(countItems)
    await expect(migrate(empty.db, { ...app(), lockTimeoutMs: 20 })).rejects.toMatchObject({
      code: 'MIGRATION_FAILED',
      message: expect.stringContaining('lock timeout'),
    })
  })
  expect(names(await migrate(empty.db, app()))).toEqual(['0007-alter.sql'])
})

test('a changed file and a newer database are refused', async () => {
  await write('0001-items.sql', 'CREATE TABLE shop_items (id bigint);')
  await expect(migrate(empty.db, app())).rejects.toMatchObject({
    code: 'MIGRATION_FAILED',
    message: expect.stringContaining('shop/0001-items.sql was changed'),
  })
  await write('0001-items.sql', 'CREATE TABLE shop_items (id int); INSERT INTO shop_items VALUES (1);')
  await rm(join(folder, '0007-alter.sql'))
  await expect(migrate(empty.db, app())).rejects.toMatchObject({
    code: 'MIGRATION_FAILED',
    message: expect.stringContaining('newer than this Sluice: it has shop/0007-alter.sql'),
  })
})

const file = (number: number, scope = 'a'): MigrationFile => ({
  scope,
  number,
  name: `${String(number).padStart(4, '0')}-x.sql`,
  sha256: `hash ${number}`,
  sql: '',
})

test('gaps, doubles and wrong names are errors', () => {
  expect(() => pendingMigrations([file(1), file(3)], [])).toThrow('a/0003-x.sql: migration 2 is missing')
  expect(() => pendingMigrations([file(2)], [])).toThrow('migration 1 is missing')
  expect(() => pendingMigrations([file(1), file(2), file(2)], [])).toThrow('two migrations of this number')
  expect(() => pendingMigrations([file(1), file(2)], [file(2)])).toThrow('but not migration 1')
  expect(() => numberOf('a', '1-x.sql')).toThrow('named like 0001-some-words.sql')
  expect(() => numberOf('a', '0000-x.sql')).toThrow('counted from 0001')
})

test('scopes are counted apart, and a scope that is not here is left alone', () => {
  const pending = pendingMigrations([file(1, 'b'), file(2), file(1)], [file(1), file(1, 'gone')])
  expect(pending).toEqual([file(1, 'b'), file(2)])
})

test('a server before 15 is refused', () => {
  refuseOldServer({ number: 150_000, version: '15.0' })
  expect(() => refuseOldServer({ number: 140_017, version: '14.17' })).toThrow(
    expect.objectContaining({ code: 'DATABASE_UNSUPPORTED', message: expect.stringContaining('14.17') }),
  )
})

test('a short time limit of the pool does not end a migration', async () => {
  const hasty = openDatabase({ ...empty.options, max: 1, statementTimeoutMs: 30 })
  const patient = await mkdtemp(join(tmpdir(), 'sluice-migrations-'))
  await writeFile(join(patient, '0001-slow.sql'), 'SELECT pg_sleep(0.06);')
  expect(await migrate(hasty, { folders: [{ scope: 'patient', folder: patient }] })).toHaveLength(1)
  await hasty.close()
  await rm(patient, { recursive: true })
})
