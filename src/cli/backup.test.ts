/** `sluice backup` and `sluice restore`, as they are typed. */
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { cliSays } from '../../test/test-cli.ts'
import { openFiles } from '../objects/files.ts'
import { tryLock } from '../postgres/kernel-lock.ts'
import { claimObjects, referToObjects } from '../store/objects.ts'
import { ensureTopic } from '../store/topics.ts'

let folder: string
let source: TestDatabase
let target: TestDatabase
let object: string
const file = () => join(folder, 'one.backup')
const store = () => openFiles(join(folder, 'source/objects'))

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-cli-backup-'))
  source = await testDatabase()
  target = await testDatabase({ migrated: false })
  await ensureTopic(source.db, 'urls', 2)
  const put = await store().put(Buffer.from('bytes'), (info) => claimObjects(source.db, 'x', [info], 60_000))
  object = put.sha256
  const reference = { sha256: object, kind: 'test', id: '1' }
  await source.db.transaction((session) => referToObjects(session, 'x', [reference]))
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await source.drop()
  await target.drop()
  await rm(folder, { recursive: true })
})

async function sluice(url: string, home: string, ...argv: string[]) {
  vi.stubEnv('SLUICE_DATABASE_URL', url)
  return cliSays([...argv, '--data', join(folder, home)])
}

it('says that there is nothing to back up, and makes nothing', async () => {
  const none = { code: 2, err: expect.stringContaining('There is no Sluice in') }
  expect(await sluice(target.url, 'empty', 'backup', file())).toMatchObject(none)
  expect(await sluice('', 'empty', 'backup', file())).toMatchObject(none)
  expect(await readdir(folder)).toEqual(['source'])
})

it('takes a backup, never over another file', async () => {
  const taken = await sluice(source.url, 'source', 'backup', file(), '--json')
  expect([taken.code, JSON.parse(taken.out)]).toMatchObject([0, { objects: 1, missing: [], damaged: [] }])
  const again = await sluice(source.url, 'source', 'backup', file())
  expect(again).toMatchObject({ code: 1, err: expect.stringContaining('is there already') })
})

it('ends with 1 and names what was not sound when it was taken', async () => {
  await store().remove(object)
  const lacking = await sluice(source.url, 'source', 'backup', join(folder, 'lacking.backup'))
  expect(lacking).toMatchObject({ code: 1, err: expect.stringContaining(`object ${object} is not in the store`) })
})

it('restores nothing from a file that is not sound, nor beside a Sluice that runs', async () => {
  const cut = join(folder, 'cut.backup')
  await sluice(source.url, 'source', 'backup', cut)
  await truncate(cut, 500)
  expect(await sluice(target.url, 'fresh', 'restore', cut, '--json')).toMatchObject({
    code: 1,
    err: expect.stringContaining('"code":"BACKUP_INVALID"'),
  })
  const missing = await sluice(target.url, 'fresh', 'restore', join(folder, 'none'))
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('cannot be read') })
  expect(await readdir(folder)).not.toContain('fresh')
  const unlock = tryLock(join(folder, 'source/supervisor.lock'), 'exclusive')!
  const running = await sluice(target.url, 'source', 'restore', file())
  unlock()
  expect(running).toMatchObject({ code: 1, err: expect.stringContaining('stop it first') })
})

it('restores into an empty database and home, once', async () => {
  await writeFile(join(folder, 'other'), '')
  const done = await sluice(target.url, 'fresh', 'restore', file(), '--json')
  expect([done.code, JSON.parse(done.out)]).toMatchObject([0, { objects: 1, missing: [], damaged: [] }])
  expect(String(await openFiles(join(folder, 'fresh/objects')).read(object))).toBe('bytes')
  const again = await sluice(target.url, 'fresh', 'restore', file())
  expect(again).toMatchObject({ code: 1, err: expect.stringContaining('has a Sluice in it already') })
})
