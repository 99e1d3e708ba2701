/**
 * Tables of an app as a user has them: made by its migrations at the start, filled by streams, read and changed by actions, steps and endpoints
 * through the connection `warehouse`, which reaches them and nothing of the platform's.
 */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Project, type RunningSluice, sluice, sluiceEnds, startSluice, until } from './sluice-process.ts'

let project: Project
let server: RunningSluice

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-tables-'))
  await cp(join(import.meta.dirname, 'programs/tables-project'), folder, { recursive: true })
  const home = join(folder, '.sluice')
  const environment = { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home }
  project = { folder, home, environment, remove: () => rm(folder, { recursive: true, force: true }) }
  server = await startSluice(project)
})
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

interface Sold {
  readonly sold: readonly { readonly what: string; readonly orders: number; readonly cents: number }[]
}
interface StreamFigures {
  readonly items: readonly { readonly name: string; readonly totals: Record<string, number> }[]
}

it('an action uses the warehouse in a transaction, and is refused in the schema of the platform', async () => {
  const run = await sluice<{ result: unknown }>(project, 'run', 'sell', '-p', 'count=60', '--wait')
  expect(run.result).toEqual({ pear: 41, refused: 'POSTGRES_INVALID 42501' })
})

it('a stream fills the table, an endpoint reads it, and each record has ended as it should', async () => {
  const { items } = await until(
    () => server.get<StreamFigures>('/api/v1/streams'),
    (answer) =>
      answer.items.length === 2 && answer.items.every(({ totals }) => totals.received === 60 && totals.pending === 0),
  )
  const ends = Object.fromEntries(items.map(({ name, totals }) => [name, totals]))
  // Of each three orders one is a brick, which has no price; of those with one, some have the amount 0, which the table refuses.
  const ordered = Array.from({ length: 60 }, (_, n) => ({ id: Math.floor(n / 2), what: n % 3, amount: n % 10 }))
  const fine = ordered.filter(({ what, amount }) => what < 2 && amount > 0)
  const ids = new Set(fine.map(({ id }) => id))
  expect(ends['keep-orders']).toMatchObject({
    rejected: 60 - fine.length,
    written: ids.size,
    duplicate: fine.length - ids.size,
  })
  expect(ends['pass-wishes']).toMatchObject({ written: 60 })
  const { sold } = await server.get<Sold>('/shop/sold')
  expect(sold.map(({ what }) => what)).toEqual(['apple', 'pear'])
  expect(sold.reduce((sum, { orders }) => sum + orders, 0)).toBe(ids.size)
  expect(await server.get('/readyz')).toMatchObject({
    checks: expect.arrayContaining([{ name: 'tables', ok: true, detail: '1 as defined' }]),
  })
})

it('what it applied is applied once; what comes later is applied by sluice migrate', async () => {
  expect(await sluice(project, 'migrate')).toEqual({ applied: [] })
  await writeFile(join(project.folder, 'migrations/0002-later.sql'), 'create table shop.later (n int);\n')
  const { applied } = await sluice<{ applied: { scope: string; name: string }[] }>(project, 'migrate')
  expect(applied).toMatchObject([{ scope: 'shop', name: '0002-later.sql' }])
})

it('sluice migrate names the file and the line that fail, and a folder that is not there', async () => {
  const bad = join(project.folder, 'migrations/0003-bad.sql')
  await writeFile(bad, 'create table shop.half (n int);\n\nselect nowhere;\n')
  await expect(sluiceEnds(project, 'migrate')).rejects.toThrow(/shop\/0003-bad.sql:3: column "nowhere" does not exist/)
  await writeFile(bad, 'create table public.mine (n int);\n')
  await expect(sluiceEnds(project, 'migrate')).rejects.toThrow(
    /shop\/0003-bad.sql: it makes public.mine, which is not its own/,
  )
  await rm(bad)
  const config = join(project.folder, 'sluice.config.ts')
  await writeFile(config, "export default { migrations: { shop: 'migrations', other: 'elsewhere' } }\n")
  await expect(sluiceEnds(project, 'migrate')).rejects.toThrow(/migrations\/other: there is no folder elsewhere/)
  await writeFile(config, "export default { migrations: { shop: 'migrations' } }\n")
})

it('a backup has the tables, and a restore puts them back, for the same streams to go on with', async () => {
  const before = await server.get<Sold>('/shop/sold')
  const file = join(project.folder, 'all.backup')
  await sluice(project, 'backup', file)
  await server.stop()
  await rm(project.home, { recursive: true })
  await sluice(project, 'restore', file)
  server = await startSluice(project)
  expect(await server.get<Sold>('/shop/sold')).toEqual(before)
  const run = await sluice<{ result: unknown }>(project, 'run', 'sell', '-p', 'count=0', '--wait')
  expect(run.result).toEqual({ pear: 42, refused: 'POSTGRES_INVALID 42501' })
})
