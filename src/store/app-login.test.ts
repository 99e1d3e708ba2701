import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { statement } from '../ports/database.ts'
import { openDatabase, type PooledDatabase } from '../postgres/pool.ts'
import { appRole, prepareApps, readAppLogin } from './app-login.ts'
import { migrate, platformMigrations } from './migrate.ts'

const ask = <Row>(text: string) => statement<Row>(`test.${randomBytes(4).toString('hex')}`, text)
const password = () => randomBytes(24).toString('base64url')

describe('the login of apps', () => {
  let test: TestDatabase
  let folder: string
  let apps: PooledDatabase | undefined
  beforeEach(async () => {
    test = await testDatabase()
    folder = await mkdtemp(join(tmpdir(), 'sluice-login-'))
  })
  afterEach(async () => {
    await apps?.close()
    apps = undefined
    await test.drop()
    await rm(folder, { recursive: true, force: true })
  })
  const migrateWith = async (number: number, sql: string) => {
    await writeFile(join(folder, `000${number}-shop.sql`), sql)
    await migrate(test.db, { folders: [platformMigrations, { scope: 'shop', folder }] })
    return prepareApps(test.db, password())
  }
  const openAsApps = async () => {
    const login = await readAppLogin(test.db)
    const url = test.url.replace(/\/\/[^/]*@/, `//${login!.role}:${login!.password}@`)
    apps = openDatabase({ url, applicationName: 'apps', max: 2 })
    return apps
  }
  const stateOf = (work: Promise<unknown>) =>
    work.then(
      () => 'done',
      (thrown: unknown) => (thrown as { code?: string }).code,
    )

  it('reads and writes the tables of apps, those of later migrations and those that are made meanwhile, and nothing else', async () => {
    expect(
      await migrateWith(
        1,
        'create schema shop; create table shop.a (n int generated always as identity, m int); create view shop.v as select m from shop.a',
      ),
    ).toBe('made')
    const db = await openAsApps()
    const tries = async (text: string) => stateOf(db.query(ask(text)))
    expect(await tries('insert into shop.a (m) values (1), (2)')).toBe('done')
    expect(await tries('update shop.a set m = 3')).toBe('done')
    expect(await tries('delete from shop.a where m = 1')).toBe('done')
    expect(await db.query(ask('select m from shop.v'))).toEqual([{ m: 3 }, { m: 3 }])
    expect(
      await migrateWith(2, 'create table shop.b (n serial); create schema shop2; create table shop2.c (n int)'),
    ).toBe('there')
    expect(await tries('insert into shop.b default values')).toBe('done')
    expect(await tries('select * from shop2.c')).toBe('done')
    await test.db.script('create table shop.meanwhile (n serial)')
    expect(await tries('insert into shop.meanwhile default values')).toBe('done')
    for (const text of [
      'select * from sluice.runs',
      'select * from sluice.app_login',
      'select sluice.sluice_now()',
      `select sluice.make_app_login('x')`,
      'insert into sluice.topics (name, partitions) values ($$x$$, 1)',
      'create schema mine',
      'create table shop.mine (n int)',
      'truncate shop.a',
      'drop table shop.a',
      'alter table shop.a add column x int',
      `select pg_read_file('postmaster.pid')`,
      `copy shop.a to program 'cat'`,
      'create role other',
      'set role postgres',
    ]) {
      const role = test.url.match(/\/\/([^:@/]*)/)?.[1] ?? 'sluice'
      expect([text, await tries(text.replace('role postgres', `role ${role}`))]).toEqual([
        text,
        expect.stringMatching(/^42501$/),
      ])
    }
  })

  it('has its limits from the server', async () => {
    await migrateWith(1, 'create schema shop')
    const db = await openAsApps()
    const settings = ask<{ time: string; idle: string }>(
      `select current_setting('statement_timeout') as time, current_setting('idle_in_transaction_session_timeout') as idle`,
    )
    const [given] = await db.query(settings)
    expect(given?.time).toBe('1min')
    const most = ask<{ most: number }>('select rolconnlimit as most from pg_roles where rolname = current_user')
    expect(await db.query(most)).toEqual([{ most: 40 }])
  })

  it('is made once, also by many at once, and writes nothing when nothing is to be done', async () => {
    await migrateWith(1, 'create schema shop; create table shop.a (n int)')
    const before = await readAppLogin(test.db)
    expect(await Promise.all([1, 2, 3].map(() => prepareApps(test.db, password())))).toEqual([
      'there',
      'there',
      'there',
    ])
    expect(await readAppLogin(test.db)).toEqual(before)
    const acl = ask<{ version: string }>(`select xmin::text as version from pg_class where oid = 'shop.a'::regclass`)
    const [version] = await test.db.query(acl)
    await prepareApps(test.db, password())
    expect(await test.db.query(acl)).toEqual([version])
  })

  it('is taken back when the tables were restored, and left alone when others made it', async () => {
    await migrateWith(1, 'create schema shop; create table shop.a (n int)')
    await test.db.script('delete from sluice.app_login')
    expect(await prepareApps(test.db, password())).toBe('made')
    expect(await stateOf((await openAsApps()).query(ask('select * from shop.a')))).toBe('done')
    const role = await appRole(test.db)
    await test.db.script(`delete from sluice.app_login; comment on role ${role} is 'made by an administrator'`)
    expect(await prepareApps(test.db, password())).toBe('given')
    expect(await readAppLogin(test.db)).toBeUndefined()
  })

  it('is refused where the platform may make no roles, and given its rights when an administrator has made it', async () => {
    const owner = `owner_${randomBytes(4).toString('hex')}`
    const database = (await test.db.query(ask<{ name: string }>('select current_database() as name')))[0]!.name
    await test.db.script(`create role ${owner} login password 'owner' nocreaterole`)
    await test.db.script(`alter database ${database} owner to ${owner}`)
    await test.db.script('drop schema sluice cascade')
    const url = test.url.replace(/\/\/[^/]*@/, `//${owner}:owner@`)
    const db = openDatabase({ url, applicationName: 'owner', max: 1 })
    try {
      await writeFile(join(folder, '0001-shop.sql'), 'create schema shop; create table shop.a (n int)')
      await migrate(db, { folders: [platformMigrations, { scope: 'shop', folder }] })
      expect(await prepareApps(db, password())).toBe('refused')
      expect(await readAppLogin(db)).toBeUndefined()
      const role = await appRole(db)
      await test.db.script(`create role ${role} login password 'given'`)
      expect(await prepareApps(db, password())).toBe('given')
      apps = openDatabase({ url: test.url.replace(/\/\/[^/]*@/, `//${role}:given@`), applicationName: 'apps', max: 1 })
      expect(await stateOf(apps.query(ask('insert into shop.a values (1)')))).toBe('done')
      expect(await stateOf(apps.query(ask('select * from sluice.runs')))).toBe('42501')
    } finally {
      await db.close()
      await apps?.close()
      await test.db.script(`drop owned by ${owner} cascade`)
      await test.db.script(`alter database ${database} owner to current_user`)
      await test.db.script(`drop role ${owner}`)
    }
  })
})
