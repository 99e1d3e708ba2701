import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { migrate, platformMigrations } from './migrate.ts'

const schemasStatement = statement<{ schema: string; scope: string }>(
  'test.app-schemas',
  'select schema, scope from sluice.app_schemas order by schema',
)

describe('the migrations of apps', () => {
  let test: TestDatabase
  let folder: string
  let files = 0
  beforeEach(async () => {
    files = 0
    test = await testDatabase()
    folder = await mkdtemp(join(tmpdir(), 'sluice-app-'))
  })
  afterEach(async () => {
    await test.drop()
    await rm(folder, { recursive: true, force: true })
  })
  const add = (sql: string) => {
    files += 1
    return writeFile(join(folder, `000${files}-some.sql`), sql)
  }
  const run = (scope = 'shop') => migrate(test.db, { folders: [platformMigrations, { scope, folder }] })
  const schemas = () => test.db.query(schemasStatement)

  it('run once, in order, and the schemas that they make are theirs', async () => {
    await add('create schema shop; create table shop.a (n int)')
    await add(
      'create schema shop_more; create table shop.b (n int references shop.c); create table shop_more.d (n int)'.replace(
        ' references shop.c',
        '',
      ),
    )
    expect((await run()).map(({ scope, name }) => `${scope}/${name}`)).toEqual([
      'shop/0001-some.sql',
      'shop/0002-some.sql',
    ])
    expect(await run()).toEqual([])
    expect(await schemas()).toEqual([
      { schema: 'shop', scope: 'shop' },
      { schema: 'shop_more', scope: 'shop' },
    ])
  })

  it('take a schema that was made for them and is empty', async () => {
    await test.db.script('create schema given')
    await add('create table given.a (n int)')
    await run()
    expect(await schemas()).toEqual([{ schema: 'given', scope: 'shop' }])
  })

  it.each([
    ['create table sluice.mine (n int)', /0001-some.sql: it changes sluice.mine, which is the platform's/],
    ['drop table sluice.app_login', /it changes sluice.app_login, which is the platform's/],
    ['create table public.mine (n int)', /it makes public.mine, which is not its own: begin with create schema shop/],
    ['create table theirs.more (n int)', /it makes theirs.more, which is not its own/],
  ])('are refused, and leave nothing, when they say: %s', async (sql, message) => {
    await test.db.script('create schema theirs; create table theirs.there (n int)')
    await add(`create schema shop; ${sql}`)
    await expect(run()).rejects.toMatchObject({ code: 'MIGRATION_FAILED', message: expect.stringMatching(message) })
    expect(await schemas()).toEqual([])
  })

  it('are refused in the schema of another app', async () => {
    await add('create schema shop')
    await run()
    const other = await mkdtemp(join(folder, 'other-'))
    await writeFile(join(other, '0001-more.sql'), 'create table shop.more (n int)')
    const both = [platformMigrations, { scope: 'shop', folder }, { scope: 'other', folder: other }]
    await expect(migrate(test.db, { folders: both })).rejects.toThrow(
      /other\/0001-more.sql: it makes shop.more, a schema of the app shop/,
    )
  })

  it('may make partitions and views of an extension, and drop what is theirs', async () => {
    await add(`create schema shop; create table shop.days (day date) partition by range (day);
      create table shop.days_1 partition of shop.days for values from ('2026-01-01') to ('2026-02-01'); create table shop.gone (n int)`)
    await add('drop table shop.gone')
    await run()
    expect(await schemas()).toEqual([{ schema: 'shop', scope: 'shop' }])
  })
})
