import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, open, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { describeObjectStore } from '../../test/object-store-conformance.ts'
import { openFiles } from './files.ts'

const noClaim = async () => {}
const sha256Of = (text: string) => createHash('sha256').update(text).digest('hex')

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-objects-'))
})
afterAll(async () => {
  await rm(root, { recursive: true, force: true })
})

const newFolder = () => mkdtemp(join(root, 'store-'))

describeObjectStore('files', async () => openFiles(join(await newFolder(), 'not-made-yet')))

describe('files', () => {
  let folder: string
  beforeEach(async () => {
    folder = await newFolder()
  })
  afterEach(() => {
    vi.restoreAllMocks()
  })

  const pathOf = (sha256: string) => join(folder, sha256.slice(0, 2), sha256)
  const filesIn = async (path: string) =>
    (await readdir(path, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())

  it('keeps an object read-only at ab/<sha256>', async () => {
    const { sha256 } = await openFiles(folder).put(Buffer.from('kept'), noClaim)
    const found = await stat(pathOf(sha256))
    expect(found.size).toBe(4)
    expect(found.mode & 0o337).toBe(0)
  })

  it('does not rewrite what is there', async () => {
    const store = openFiles(folder)
    const { sha256 } = await store.put(Buffer.from('once'), noClaim)
    const before = await stat(pathOf(sha256))
    await store.put(Buffer.from('once'), noClaim)
    expect((await stat(pathOf(sha256))).ino).toBe(before.ino)
    expect(await filesIn(folder)).toHaveLength(1)
  })

  it('replaces a file that was cut short', async () => {
    const sha256 = sha256Of('whole')
    await mkdir(join(folder, sha256.slice(0, 2)), { recursive: true })
    await writeFile(pathOf(sha256), 'who')
    await openFiles(folder).put(Buffer.from('whole'), noClaim)
    expect((await openFiles(folder).read(sha256)).toString()).toBe('whole')
  })

  it('says OBJECT_CORRUPT when the bytes are not those of the name', async () => {
    const store = openFiles(folder)
    const { sha256 } = await store.put(Buffer.from('right'), noClaim)
    await chmod(pathOf(sha256), 0o600)
    await writeFile(pathOf(sha256), 'wrong')
    await expect(store.read(sha256)).rejects.toMatchObject({ code: 'OBJECT_CORRUPT' })
  })

  it('heals what is damaged when the right bytes are put again', async () => {
    const store = openFiles(folder)
    const right = Buffer.from('right')
    const { sha256 } = await store.put(right, noClaim)
    const damages = [
      () => writeFile(pathOf(sha256), 'wrong'),
      () => writeFile(pathOf(sha256), 'rig'),
      () => writeFile(pathOf(sha256), 'right and more'),
      () => rm(pathOf(sha256)),
    ]
    for (const source of [() => right, () => Readable.from([Buffer.from('ri'), Buffer.from('ght')])]) {
      for (const damage of damages) {
        await chmod(pathOf(sha256), 0o600)
        await damage()
        await store.put(source(), noClaim)
        expect((await store.read(sha256)).toString()).toBe('right')
      }
    }
  })

  it.each(['ENOSPC', 'EDQUOT'])('turns %s into STORAGE_FULL and leaves nothing behind', async (code) => {
    const handle = await open(join(folder, 'to-find-the-class'), 'w')
    const fileHandle = Object.getPrototypeOf(handle) as { writeFile: () => Promise<void>; sync: () => Promise<void> }
    await handle.close()
    await rm(join(folder, 'to-find-the-class'))
    const full = Object.assign(new Error(`${code}: no space left on device`), { code })
    const store = openFiles(folder)

    vi.spyOn(fileHandle, 'writeFile').mockRejectedValueOnce(full)
    await expect(store.put(Buffer.from('a'), noClaim)).rejects.toMatchObject({ code: 'STORAGE_FULL', cause: full })
    vi.spyOn(fileHandle, 'sync').mockRejectedValueOnce(full)
    await expect(store.put(Buffer.from('a'), noClaim)).rejects.toMatchObject({ code: 'STORAGE_FULL', retryable: true })
    expect(await filesIn(folder)).toEqual([])
  })

  it('removes what interrupted puts left behind, once it is old enough', async () => {
    const clock = { now: () => Date.UTC(2026, 0, 1) }
    const store = openFiles(folder, { clock })
    await mkdir(join(folder, 'tmp'))
    const leave = async (name: string, ageMs: number) => {
      await writeFile(join(folder, 'tmp', name), 'half')
      const seconds = (clock.now() - ageMs) / 1_000
      await utimes(join(folder, 'tmp', name), seconds, seconds)
    }
    await leave('old', 3_600_001)
    await leave('young', 3_599_999)
    expect(await store.removeStale(3_600_000)).toBe(1)
    expect(await readdir(join(folder, 'tmp'))).toEqual(['young'])
  })

  it('lists objects only, not strangers and temporary files', async () => {
    const store = openFiles(folder)
    const { sha256 } = await store.put(Buffer.from('mine'), noClaim)
    await writeFile(join(folder, 'tmp', sha256), 'a temporary file')
    await writeFile(join(folder, sha256.slice(0, 2), 'README'), 'a stranger')
    const listed: string[] = []
    for await (const name of store.list()) listed.push(name)
    expect(listed).toEqual([sha256])
  })
})
