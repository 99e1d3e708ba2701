/** A disk that is full, or fails: what is said, that nothing is torn, and that work goes on when there is room. */
import { execFile } from 'node:child_process'
import {
  chmod,
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { documents, type Stream, stream, topic, z } from 'sluice'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openFiles } from '../../src/objects/files.ts'
import { roomIn } from '../../src/objects/room.ts'
import { statement } from '../../src/ports/database.ts'
import { startEmbedded } from '../../src/postgres/embedded.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { documentObjects } from '../../src/store/document-bytes.ts'
import { totals } from '../../src/store/ledger.ts'
import { EngineWorld, until } from '../engine-world.ts'
import { breaches } from '../invariants/check.ts'
import { plainCapabilities, StreamWorld } from '../stream-world.ts'
import { fill, makeRoom, mayMount, mountSmall, remount } from './small-disk.ts'

const mountable = mayMount ? '' : ' [needs the right to mount a small disk]'
const noClaim = async () => {}
const kilobytes = (count: number, seed: number) => Buffer.alloc(count * 1_024, `${seed} `)

let folder: string
let undo: (() => void | Promise<void>)[] = []
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-disk-'))
})
afterEach(async () => {
  for (const step of undo.reverse()) await step()
  undo = []
  await rm(folder, { recursive: true, force: true })
})

const filesBelow = async (path: string) =>
  (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && entry.name !== 'ballast')
    .map((entry) => entry.name)

describe.skipIf(!mayMount)(`a full disk${mountable}`, () => {
  it('of the object store is STORAGE_FULL; what was stored is whole, and nothing half is left', async () => {
    undo.push(mountSmall(folder, 4))
    const store = openFiles(folder)
    const stored: string[] = []
    const full = await (async () => {
      for (let seed = 0; ; seed += 1) stored.push((await store.put(kilobytes(300, seed), noClaim)).sha256)
    })().catch((thrown: unknown) => thrown)
    expect(full).toMatchObject({ code: 'STORAGE_FULL', retryable: true, isAttempt: false, retryAfterMs: 15_000 })
    async function* pieces() {
      for (let seed = 0; seed < 100; seed += 1) yield kilobytes(100, seed)
    }
    await expect(store.put(pieces(), noClaim)).rejects.toMatchObject({ code: 'STORAGE_FULL' })
    expect((await filesBelow(folder)).sort()).toEqual([...stored].sort())
    for (const sha256 of stored) expect(await store.read(sha256)).toHaveLength(300 * 1_024)
    expect(await roomIn(folder)).toMatchObject({ ok: false, detail: expect.stringContaining('STORAGE_FULL') })
    await store.remove(stored[0]!)
    await store.put(kilobytes(300, 1_000), noClaim)
  })

  it('makes attempts wait: none is blamed on its author, and they end well when there is room', {
    timeout: 60_000,
  }, async () => {
    const world = await EngineWorld.open()
    undo.push(() => world.close())
    const objects = join(world.dir, 'home/objects')
    await mkdir(objects, { recursive: true })
    undo.push(mountSmall(objects, 4))
    await fill(objects)
    await world.engine()
    const id = await world.start('weighs', { bytes: 1_000_000 })
    // While it waits: the next attempt begins without an error.
    const lost = /^RUNNER_LOST: STORAGE_FULL: The object could not be written/
    await until('an attempt to be lost to the disk', async () => lost.test((await world.tasks(id))[0]?.error ?? ''))
    expect((await world.tasks(id))[0]?.losses).toBeGreaterThan(0)
    await makeRoom(objects)
    expect(await world.ended(id)).toBe('success')
    expect(await breaches(world.db, { atRest: true, objects: openFiles(objects) })).toEqual([])
  })

  it('makes records wait: no attempt is counted, none is rejected or dead', { timeout: 60_000 }, async () => {
    undo.push(mountSmall(folder, 4))
    await fill(folder)
    const world = await StreamWorld.open()
    undo.push(() => world.close())
    const store = openFiles(folder)
    const objects = documentObjects(world.db, store, 'test')
    const pictures = topic('pictures', { schema: z.object({ n: z.number() }), partitions: 1 })
    const definition = stream('pictures', {
      from: pictures,
      id: (record) => String(record.n),
      retry: { attempts: 1 },
      steps: (records) =>
        records.step(async (record) => ({
          id: `row-${record.n}`,
          object: (await objects.put(kilobytes(200, record.n))).sha256,
        })),
      to: documents('pictures', { key: 'id' }),
    }) as unknown as Stream
    const [shard] = await world.openShards(definition, { objects, capabilities: plainCapabilities })
    await world.publishValues('pictures', [{ n: 1 }, { n: 2 }, { n: 3 }])
    shard!.wake()
    await until('the records to wait', async () => (await world.waiting('pictures')).length === 3)
    expect(await world.waiting('pictures')).toMatchObject(Array(3).fill({ state: 'retry', attempts: 0 }))
    expect(await filesBelow(folder)).toEqual([])
    await makeRoom(folder)
    // Instead of the 15 s for which they rest.
    shard!.drop()
    await shard!.closed
    await world.db.execute(statement('test.due-now', 'update sluice.stream_waiting set due_at = sluice.sluice_now()'))
    await world.runToRest(definition, { objects, capabilities: plainCapabilities })
    expect(await totals(world.db, 'pictures')).toMatchObject({ written: 3, rejected: 0, dead: 0, pending: 0 })
    for (const { body } of await world.documents('pictures'))
      expect(await store.read(String(body.object))).toHaveLength(204_800)
  })

  it('that became read-only is STORAGE_FAILED, and readiness says so', async () => {
    undo.push(mountSmall(folder, 4))
    const store = openFiles(folder)
    await store.put(Buffer.from('before'), noClaim)
    remount(folder, 'ro')
    const failure = await store.put(Buffer.from('a picture'), noClaim).catch((thrown: unknown) => thrown)
    expect(failure).toMatchObject({ code: 'STORAGE_FAILED', message: expect.stringContaining('EROFS') })
    expect(await roomIn(folder)).toEqual({ ok: false, detail: 'cannot be written: EROFS' })
    remount(folder, 'rw')
    await store.put(Buffer.from('a picture'), noClaim)
  })

  it('keeps a database from being made, with a short text and nothing left over', { timeout: 60_000 }, async () => {
    undo.push(mountSmall(folder, 16))
    await expect(startEmbedded({ home: folder })).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      message: expect.stringMatching(/^There is no room for a new database in \S+: it takes 60 MB and grows/),
    })
    expect((await filesBelow(folder)).sort()).toEqual(['openers.lock', 'starting.lock'])
  })

  it('of the database is STORAGE_FULL; it starts again when there is room, with all that was acknowledged', {
    timeout: 120_000,
  }, async () => {
    undo.push(mountSmall(folder, 200))
    const said: string[] = []
    const settings = { max_wal_size: '32MB', min_wal_size: '32MB' }
    const server = await startEmbedded({ home: folder, settings, keepUp: true, log: (line) => said.push(line) })
    undo.push(() => server.stop())
    const db = openDatabase({ url: server.url, applicationName: 'full', max: 2, connectTimeoutMs: 2_000 })
    undo.push(() => db.close())
    await db.script('create table kept (id int primary key, text text)')
    const insert = statement('test.insert', `insert into kept values ($1, repeat(md5($1::int::text), 3000))`)
    let acknowledged = 0
    const write = () =>
      db.execute(insert, [acknowledged + 1]).then(() => {
        acknowledged += 1
      })
    for (let count = 0; count < 20; count += 1) await write()
    await fill(folder)
    const failure = await (async () => {
      for (;;) await write()
    })().catch((thrown: unknown) => thrown)
    expect(['STORAGE_FULL', 'DATABASE_UNREACHABLE']).toContain((failure as { code: string }).code)
    // It cannot come up on the full disk, and says so once.
    process.kill(server.pid, 'SIGKILL')
    await until('it to say why', () => said.some((line) => line.includes('cannot be started again')))
    expect(said.filter((line) => line.includes('there is no room left on its disk'))).toHaveLength(1)
    await makeRoom(folder)
    await until('it to be back', () =>
      write().then(
        () => true,
        () => false,
      ),
    )
    const kept = statement<{ count: number }>('test.kept', 'select count(*)::int as count from kept where id <= $1')
    expect(await db.query(kept, [acknowledged])).toEqual([{ count: acknowledged }])
  })
})

describe('files of the object store', () => {
  it('that are cut short, changed or gone are never passed on as sound', async () => {
    const store = openFiles(folder)
    const { sha256 } = await store.put(Buffer.from('a picture'), noClaim)
    const path = join(folder, sha256.slice(0, 2), sha256)
    await chmod(path, 0o600)
    await writeFile(path, 'a pict')
    await expect(store.read(sha256)).rejects.toMatchObject({ code: 'OBJECT_CORRUPT', retryable: false })
    await expect(buffer(await store.open(sha256))).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' })
    await rm(path)
    await expect(store.read(sha256)).rejects.toMatchObject({ code: 'OBJECT_NOT_FOUND' })
    await store.put(Buffer.from('a picture'), noClaim)
    expect((await store.read(sha256)).toString()).toBe('a picture')
  })

  it.each(['a file where its folder was', 'a folder where the file was'])('say what is wrong: %s', async (what) => {
    const store = openFiles(folder)
    const { sha256 } = await store.put(Buffer.from('a picture'), noClaim)
    const leaf = join(folder, sha256.slice(0, 2))
    await rename(what.startsWith('a file') ? leaf : join(leaf, sha256), join(folder, 'moved'))
    if (what.startsWith('a file')) await writeFile(leaf, 'in the way')
    else await mkdir(join(leaf, sha256))
    const failed = { code: 'STORAGE_FAILED', retryable: true, isAttempt: false }
    await expect(store.read(sha256)).rejects.toMatchObject(failed)
    await expect(store.put(Buffer.from('a picture'), noClaim)).rejects.toMatchObject(failed)
    expect(await readdir(join(folder, 'tmp'))).toEqual([])
  })

  it('are synced before they are claimed, and their folder before they are told: a crash leaves them whole or unseen', async () => {
    const events: string[] = []
    const handle = await open(join(folder, 'to-find-the-class'), 'w')
    const fileHandle = Object.getPrototypeOf(handle) as FileHandle
    await handle.close()
    const { sync } = fileHandle
    vi.spyOn(fileHandle, 'sync').mockImplementation(function (this: FileHandle) {
      events.push('sync')
      return sync.call(this)
    })
    const store = openFiles(folder)
    await store.put(Buffer.from('makes the folders'), noClaim)
    events.length = 0
    const { sha256 } = await store.put(Buffer.from('a picture'), async (object) => {
      // As a crash here would leave it: all of its bytes, under no name.
      const [name] = await readdir(join(folder, 'tmp'))
      const staged = await readFile(join(folder, 'tmp', name!), 'utf8')
      events.push(`claim, ${staged}, visible: ${(await store.stat(object.sha256)) !== undefined}`)
    })
    // The folder is new, and synced in its parent first.
    expect(events).toEqual(['sync', 'claim, a picture, visible: false', 'sync', 'sync'])
    expect(await store.stat(sha256)).toBeDefined()
    vi.restoreAllMocks()
  })

  it.skipIf(process.getuid?.() !== 0)(
    'that this user may not write are STORAGE_FAILED [needs root, to be another user]',
    async () => {
      const store = openFiles(folder)
      await store.put(Buffer.from('makes the folders'), noClaim)
      await chmod(folder, 0o755)
      process.seteuid!(65_534)
      try {
        const failure = await store.put(Buffer.from('a picture'), noClaim).catch((thrown: unknown) => thrown)
        expect(failure).toMatchObject({ code: 'STORAGE_FAILED', message: expect.stringContaining('EACCES') })
      } finally {
        process.seteuid!(0)
      }
      await store.put(Buffer.from('a picture'), noClaim)
    },
  )

  it('are STORAGE_FAILED when this process has no descriptor left, and go on when it has', async () => {
    const script = `
      import { open } from 'node:fs/promises'
      import { openFiles } from ${JSON.stringify(join(import.meta.dirname, '../../src/objects/files.ts'))}
      const store = openFiles(process.argv[1])
      const put = (text) => store.put(Buffer.from(text), async () => {}).then(() => 'stored', (thrown) => thrown.code + ' ' + /E[A-Z]+/.exec(thrown.message))
      const said = [await put('first')]
      const held = []
      try { for (;;) held.push(await open('/dev/null')) } catch {}
      said.push(await put('second'))
      for (const handle of held) await handle.close()
      said.push(await put('third'))
      console.log(said.join(', '))`
    const command = 'ulimit -n 200; exec "$0" --disable-warning=ExperimentalWarning --input-type=module -e "$1" "$2"'
    const { stdout } = await promisify(execFile)('sh', ['-c', command, process.execPath, script, folder])
    expect(stdout.trim()).toBe('stored, STORAGE_FAILED EMFILE, stored')
  })

  it('that an earlier file stands in the way of are made once it is gone', async () => {
    await writeFile(join(folder, 'tmp'), 'in the way')
    const store = openFiles(folder)
    await expect(store.put(Buffer.from('a'), noClaim)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await rm(join(folder, 'tmp'))
    const { sha256 } = await store.put(Buffer.from('a'), noClaim)
    expect(await readFile(join(folder, sha256.slice(0, 2), sha256), 'utf8')).toBe('a')
  })
})
