import { type FSWatcher, watch } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { until } from '../../test/engine-world.ts'
import { FollowFiles } from './follow-files.ts'

let dir: string
let following: FollowFiles | undefined
let watcher: FSWatcher
const heard = new Set<string | null>()
let changes: number
let under: number
const notes: string[] = []
let gate: Promise<void>
let built: { definitions: readonly string[]; inputs: readonly string[] }
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sluice-follow-'))
  ;[changes, under, gate] = [0, 0, Promise.resolve()]
  notes.length = 0
  heard.clear()
  watcher = watch(dir, (_, name) => heard.add(name))
  built = { definitions: ['workflows/*.ts'], inputs: [] }
})
afterEach(async () => {
  await following?.stop()
  watcher.close()
  await rm(dir, { recursive: true, force: true })
})

/** Gives once what happened before is done with. */
async function follow(togetherMs?: number): Promise<void> {
  following = new FollowFiles({
    ...(togetherMs === undefined ? {} : { togetherMs }),
    projectDir: dir,
    built: () => built,
    note: (line) => notes.push(line),
    async onChange() {
      under += 1
      expect(under).toBe(1)
      await gate
      changes += 1
      under -= 1
    },
  })
  await settled()
}

const write = async (path: string, text = '') => {
  await mkdir(join(dir, path, '..'), { recursive: true })
  await writeFile(join(dir, path), text)
}

/** Until all that was written is heard: of one process, what happens in files is told in its order. */
async function allHeard(): Promise<void> {
  const mark = `${heard.size}.mark`
  await writeFile(join(dir, mark), '')
  await until('the mark to be heard', () => heard.has(mark))
}

/** Until all that was written is heard, and taken. */
async function settled(): Promise<number> {
  await allHeard()
  await until('changes to be taken', () => following!.isQuiet)
  return changes
}

const more = async (work: () => Promise<unknown>): Promise<number> => {
  const before = changes
  await work()
  await until('a change', () => changes > before)
  return (await settled()) - before
}

it('looks once after the start, since a file may have changed before it was watched', async () => {
  await write('workflows/a.ts')
  await follow()
  expect(changes).toBe(1)
})

it('many edits while one is taken are one more, however long they take', async () => {
  await write('workflows/a.ts')
  await follow(1)
  const open = Promise.withResolvers<void>()
  gate = open.promise
  const before = changes
  await write('workflows/a.ts', '1')
  await until('the first to be taken', () => under === 1)
  for (let n = 0; n < 200; n += 1) await write('workflows/a.ts', `${n}`)
  await allHeard()
  await until('them to be gathered', () => !following!.isGathering)
  open.resolve()
  expect(await settled()).toBe(before + 2)
})

it.each([
  ['a definition', 'workflows/b.ts'],
  ['SQL that a definition imports', 'lib/query.sql'],
  ['YAML', 'workflows/c.yaml'],
  ['the settings', 'sluice.config.ts'],
])('hears of %s', async (_, path) => {
  await write(path)
  built = { ...built, inputs: [path] }
  await follow()
  expect(await more(() => write(path, 'more'))).toBeGreaterThan(0)
})

it('hears of a folder that appears, that is replaced, and of what a fault misses', async () => {
  built = { definitions: ['flows/**/*.ts'], inputs: ['lib/deep/missing.ts'] }
  await follow()
  await more(() => write('flows/new/a.ts'))
  await more(() => write('flows/new/deeper/b.ts'))
  await more(() => write('flows/new/deeper/b.ts', 'more'))
  await more(() => write('lib/deep/missing.ts'))
  await more(() => write('lib/deep/missing.ts', 'more'))
  // As a checkout does: the same name, another folder.
  await more(() => rename(join(dir, 'flows'), join(dir, 'away')))
  await more(() => write('flows/new/a.ts'))
  await more(() => write('flows/new/a.ts', 'more'))
  expect(notes).toEqual([])
})

it('tells why a change is not taken, and goes on', async () => {
  await write('workflows/a.ts')
  await follow()
  gate = Promise.reject(new Error('no room'))
  gate.catch(() => {})
  await write('workflows/a.ts', '1')
  await until('the note', () => notes.length > 0)
  expect(notes).toEqual(['the change is not taken: no room'])
  ;[gate, under] = [Promise.resolve(), 0]
  await more(() => write('workflows/a.ts', '2'))
})
