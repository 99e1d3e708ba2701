/** The tables of apps, as the doctor sees them. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { faults, findings, project } from '../../../test/doctor-subject.ts'
import { migrate, platformMigrations } from '../../store/migrate.ts'

const shop = `
import { stream, table, topic, z } from 'sluice'
const from = topic('orders', { schema: z.object({ id: z.number() }) })
export const keep = stream('keep', {
  from, id: (order) => order.id, steps: (all) => all.step((order) => order),
  to: table('shop.orders', { schema: z.object({ id: z.number() }), key: 'id', recordId: 'record_id' }),
})`
const config = "export default { migrations: { shop: 'tables' } }\n"

it('tells of migrations that are to come, of tables that are not as defined, and of what was changed afterwards', async () => {
  const own = await testDatabase()
  onTestFinished(() => own.drop())
  const { url } = own
  const folder = await project({
    'workflows/shop.ts': shop,
    'sluice.config.ts': config,
    'tables/0001-shop.sql': 'create schema shop; create table shop.orders (id bigint, must int not null);\n',
  })
  expect(await faults('migrations', { folder, url })).toMatchObject([
    { state: 'warn', detail: '1 migrations are not applied', why: 'new since the last start: shop/0001-shop.sql' },
  ])
  expect(await faults('tables', { folder, url })).toMatchObject([
    {
      state: 'fail',
      detail: expect.stringContaining('the table shop.orders: it is not there'),
      why: expect.stringContaining('the stream keep'),
    },
  ])
  const folders = [platformMigrations, { scope: 'shop', folder: join(folder, 'tables') }]
  await migrate(own.db, { folders })
  expect((await faults('tables', { folder, url })).map(({ detail }) => detail)).toEqual([
    'the table shop.orders: it has no column record_id, but id, must',
    'the table shop.orders: its column must must have a value, and is no field of the schema',
    'the table shop.orders: it has no unique index on (id) that is neither partial nor deferrable',
  ])
  await writeFile(
    join(folder, 'tables/0002-mend.sql'),
    'alter table shop.orders add primary key (id), add column record_id text, drop column must;\n',
  )
  await migrate(own.db, { folders })
  expect((await findings({ folder, url })).find(({ check }) => check === 'tables')).toMatchObject({
    state: 'ok',
    detail: '1 tables of streams are as defined',
  })
  await writeFile(join(folder, 'tables/0002-mend.sql'), 'select 1;\n')
  expect(await faults('migrations', { folder, url })).toMatchObject([
    {
      state: 'fail',
      detail: expect.stringContaining('shop/0002-mend.sql was changed after it was applied'),
      why: expect.stringContaining("an app's"),
    },
  ])
})

it('says that a folder of migrations is not there', async () => {
  const folder = await project({ 'sluice.config.ts': config })
  expect(await faults('migrations', { folder })).toMatchObject([
    { state: 'fail', detail: 'sluice.config.ts /migrations/shop: there is no folder tables' },
  ])
})
