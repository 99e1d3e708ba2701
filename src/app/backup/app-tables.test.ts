/** The tables of apps in a backup, and back in an empty database. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../../test/database.ts'
import { openFiles } from '../../objects/files.ts'
import { type Database, statement } from '../../ports/database.ts'
import { openDatabase } from '../../postgres/pool.ts'
import { readAppLogin } from '../../store/app-login.ts'
import { type MigrationFolder, platformMigrations } from '../../store/migrate.ts'
import { migrateAll } from '../app-migrations.ts'
import { restoreBackup } from './restore.ts'
import { takeBackup } from './take.ts'
import { verifyBackup } from './verify.ts'

const signal = new AbortController().signal
const shop = `
  create schema shop;
  create table shop.kinds (kind text primary key, above text references shop.kinds);
  insert into shop.kinds values ('fruit', null), ('apple', 'fruit');
  create table shop.orders (
    seq bigint generated always as identity, day date not null, kind text references shop.kinds, note text, twice int generated always as (2) stored
  ) partition by range (day);
  create table shop.orders_other partition of shop.orders default;
  create table shop.audit (n serial, what text);
  create sequence shop.numbers;
  create function shop.note() returns trigger language plpgsql as $$ begin insert into shop.audit (what) values (new.note); return new; end $$;
  create trigger noting after insert on shop.orders for each row execute function shop.note();`
const meanwhile = `
  create table shop.orders_2026 partition of shop.orders for values from ('2026-01-01') to ('2027-01-01') partition by list (kind);
  create table shop.orders_2026_apple partition of shop.orders_2026 for values in ('apple');
  create table shop.orders_2026_rest partition of shop.orders_2026 default;
  insert into shop.orders (day, kind, note) values ('2026-02-03', 'apple', E'tab\\there \\\\ é 😀'), ('2026-02-04', null, null), ('2020-01-01', 'fruit', 'old');
  insert into shop.kinds values ('pear', 'fruit');
  delete from shop.kinds where false;
  select nextval('shop.numbers') from generate_series(1, 41);`
const contents = statement<{ rows: unknown }>(
  'test.shop-contents',
  `
  select json_build_object(
    'kinds', (select json_agg(k order by kind) from shop.kinds k), 'orders', (select json_agg(o order by seq) from shop.orders o),
    'parts', (select json_agg(distinct tableoid::regclass::text) from shop.orders), 'audit', (select json_agg(a order by n) from shop.audit a),
    'next', nextval('shop.numbers'), 'trigger', (select tgenabled from pg_trigger where tgname = 'noting' and tgrelid = 'shop.orders'::regclass)
  ) as rows`,
)

describe('a backup', () => {
  let folder: string
  let source: TestDatabase
  let folders: readonly MigrationFolder[]
  const pool = (test: TestDatabase) => openDatabase({ ...test.options, max: 2, idleInTransactionMs: 0 })
  const take = async (file: string) => {
    const database = pool(source)
    const places = { store: openFiles(join(folder, 'objects')), versionsFolder: join(folder, 'versions') }
    await takeBackup({ ...{ database, file, signal, now: new Date() }, ...places, onProgress: () => {} }).finally(() =>
      database.close(),
    )
  }
  const restore = async (file: string, into: TestDatabase, known = folders) => {
    const database: Database = pool(into)
    const places = { store: openFiles(join(folder, 'new')), versionsFolder: join(folder, 'new-versions') }
    const sound = await verifyBackup(file, () => {})
    await restoreBackup({
      ...{ file, database, signal, folders: known },
      ...sound,
      ...places,
      onRead: () => {},
    }).finally(() => database.close())
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sluice-app-backup-'))
    await mkdir(join(folder, 'shop'))
    await writeFile(join(folder, 'shop/0001-shop.sql'), shop)
    folders = [platformMigrations, { scope: 'app', folder: join(folder, 'shop') }]
    source = await testDatabase()
    await migrateAll(source.db, folders)
    await source.db.script(meanwhile)
  })
  afterAll(async () => {
    await source.drop()
    await rm(folder, { recursive: true, force: true })
  })

  it('has the tables of apps: rows, partitions that came later, sequences, and nothing twice', async () => {
    const file = join(folder, 'sound.backup')
    await take(file)
    const before = await source.db.query(contents)
    const into = await testDatabase({ migrated: false })
    try {
      await restore(file, into)
      const after = await into.db.query(contents)
      expect(after).toEqual(before)
      expect(JSON.stringify(after)).toContain('orders_2026_apple')
      const login = await readAppLogin(into.db)
      expect(login?.password).toHaveLength(32)
      expect(login?.password).not.toBe((await readAppLogin(source.db))?.password)
    } finally {
      await into.drop()
    }
  })

  it('is refused without the app that made its tables, before anything is there', async () => {
    const file = join(folder, 'other.backup')
    await take(file)
    const into = await testDatabase({ migrated: false })
    try {
      await expect(restore(file, into, [platformMigrations])).rejects.toThrow(/app\/0001-shop.sql is not known here/)
      await into.db.script('create schema shop; create table shop.mine (n int)')
      await expect(restore(file, into)).rejects.toMatchObject({ code: 'CONFLICT' })
    } finally {
      await into.drop()
    }
  })

  it('says which tables refer to one another in a circle', async () => {
    await source.db.script(`create table shop.a (n int primary key); create table shop.b (n int primary key references shop.a);
      alter table shop.a add foreign key (n) references shop.b`)
    await expect(take(join(folder, 'circle.backup'))).rejects.toThrow(/in a circle cannot be backed up: shop.a, shop.b/)
    await source.db.script('drop table shop.a, shop.b')
  })
})
