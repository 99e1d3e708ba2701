import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import type { Manifest } from '../core/manifest.ts'
import { statement } from '../ports/database.ts'
import { deployVersion } from '../store/versions.ts'
import { WatchFiles } from './watch-files.ts'

let test: TestDatabase
let dir: string
let offset: number
const watchers: WatchFiles[] = []
let looks = 0
let notes: string[] = []
const clock = {
  now: () => {
    looks += 1
    return Date.now() + offset
  },
}
beforeEach(async () => {
  test = await testDatabase()
  dir = await mkdtemp(join(tmpdir(), 'sluice-watch-'))
  offset = 0
  notes = []
  await deployVersion(test.db, manifest(50))
})
afterEach(async () => {
  await Promise.all(watchers.splice(0).map((watcher) => watcher.stop()))
  await test.drop()
  await rm(dir, { recursive: true, force: true })
})

function manifest(restMs: number, glob = 'in/*.txt'): Manifest {
  const plan = { name: `files:${glob}`, kind: 'file-arrival', glob, restMs } as const
  const workflow = { name: 'w', file: 'w.ts', params: {}, plans: [plan], stages: [], nodes: [] }
  const rest = { entries: [], topics: [], streams: [], endpoints: [], commands: [], faults: [] }
  return { format: 1, hash: 'hash', workflows: [workflow], ...rest }
}

const runs = statement<{ file: string; id: string }>(
  'test.file-runs',
  `select params ->> 'file' as file, id from sluice.runs order by id`,
)
const ticks = statement<{ outcome: string; reason: string; run_id: string | null }>(
  'test.file-ticks',
  'select outcome, reason, run_id from sluice.ticks order by logical_time',
)
const pause = statement('test.pause-files', 'update sluice.workflows set paused = true')

async function watch(restMs = 50, glob?: string): Promise<WatchFiles> {
  const watcher = new WatchFiles({
    db: test.db,
    projectDir: dir,
    clock,
    random: Math.random,
    note: (line) => notes.push(line),
  })
  watchers.push(watcher)
  await watcher.follow(manifest(restMs, glob))
  return watcher
}
const files = async () => (await test.db.query(runs)).map((run) => run.file)
const count = (wanted: number) => until(`${wanted} runs`, async () => (await files()).length >= wanted)
const put = async (name: string, text: string) => {
  await mkdir(join(dir, 'in'), { recursive: true })
  await writeFile(join(dir, 'in', name), text)
}
/** Long ago: it rests already. */
const aged = async (name: string, at = 1_000) => utimes(join(dir, 'in', name), at, at)
/** Comes after what is looked for: when it has started a run, what came before it was looked at too. */
const marker = async (after: number) => {
  const name = `~${randomUUID()}.txt`
  await put(name, '')
  await count(after + 1)
  return name
}

it('a file that appears, and one that changes, starts a run with its path', async () => {
  await put('a.txt', 'one')
  await watch()
  await count(1)
  await put('b.txt', 'two')
  await count(2)
  await put('a.txt', 'three')
  await count(3)
  expect(await files()).toEqual(['in/a.txt', 'in/b.txt', 'in/a.txt'])
  const rows = await test.db.query(ticks)
  expect(rows.map((row) => row.outcome)).toEqual(['fired', 'fired', 'fired'])
  expect(rows.map((row) => row.run_id)).toEqual((await test.db.query(runs)).map((run) => run.id))
})

it('many files at once each start one run and leave one tick', async () => {
  for (let n = 0; n < 50; n += 1) {
    await put(`${n}.txt`, `${n}`)
    await aged(`${n}.txt`)
  }
  await watch()
  await count(50)
  expect(new Set(await files()).size).toBe(50)
  expect(await test.db.query(ticks)).toHaveLength(50)
})

it('a file that goes on changing waits for its rest, but no longer than 10 s', async () => {
  await mkdir(join(dir, 'in'))
  const write = () => appendFileSync(join(dir, 'in/a.txt'), 'x')
  write()
  const writing = setInterval(write, 10)
  await watch(60_000)
  for (const wanted of [1, 2]) {
    const seen = looks
    await until('two looks', () => looks >= seen + 2)
    expect(await files()).toHaveLength(wanted - 1)
    offset += 11_000
    await count(wanted)
  }
  clearInterval(writing)
})

it('two engines start one run', async () => {
  await put('a.txt', 'one')
  await Promise.all([watch(), watch(), watch()])
  await count(1)
  await put('b.txt', 'two')
  await count(2)
  const last = await marker(2)
  expect((await files()).sort()).toEqual(['in/a.txt', 'in/b.txt', `in/${last}`])
})

it('a restart starts none for what has not changed, and one for what has', async () => {
  await put('a.txt', 'one')
  await put('b.txt', 'one')
  const first = await watch()
  await count(2)
  await first.stop()
  await put('b.txt', 'changed')
  await watch()
  await count(3)
  const last = await marker(3)
  expect((await files()).slice(2)).toEqual(['in/b.txt', `in/${last}`])
})

it('a file that vanishes before it has rested starts none', async () => {
  await put('a.txt', 'one')
  const watcher = await watch(300)
  await rm(join(dir, 'in/a.txt'))
  await put('b.txt', 'two')
  await count(1)
  await watcher.stop()
  expect(await files()).toEqual(['in/b.txt'])
})

it('a folder that is made later is found by the sweep', async () => {
  await watch()
  await put('a.txt', 'one')
  await count(1)
})

it('a file that matches nothing, and a folder that does, start none', async () => {
  await mkdir(join(dir, 'in/folder.txt'), { recursive: true })
  await put('a.csv', 'one')
  await watch()
  await marker(0)
  expect(await files()).toHaveLength(1)
})

it('a folder, a pipe, a socket, a device and a link to nothing start none, and each is noted once', async () => {
  await mkdir(join(dir, 'in/folder.txt'), { recursive: true })
  execFileSync('sh', ['-c', 'mkfifo "$0"', join(dir, 'in/pipe.txt')])
  const server = createServer().listen(join(dir, 'in/socket.txt'))
  onTestFinished(() => {
    server.close()
  })
  await symlink('/dev/zero', join(dir, 'in/device.txt'))
  await symlink('nowhere', join(dir, 'in/dangling.txt'))
  await watch()
  const first = await marker(0)
  expect(await files()).toEqual([`in/${first}`])
  await marker(1)
  expect(notes).toEqual([
    '"in/dangling.txt" starts nothing: it cannot be looked at (ENOENT)',
    ...['device', 'folder', 'pipe', 'socket'].map((name) => `"in/${name}.txt" starts nothing: it is no file`),
  ])
})

it('any name that a file can have is one, but for hidden ones', async () => {
  const names = [
    '-x.txt',
    'a b.txt',
    'line\nbreak.txt',
    'a..txt',
    '\u00e9.txt',
    'e\u0301.txt',
    '[a].txt',
    '$(x).txt',
    '\ud83d\ude00.txt',
  ]
  const longest = `${'n'.repeat(251)}.txt`
  for (const name of ['.hidden.txt', ...names, longest]) await put(name, 'x')
  await watch()
  await count(names.length + 1)
  expect((await files()).sort()).toEqual([...names, longest].map((name) => `in/${name}`).sort())
})

it('a name that is not UTF-8 starts none and is noted', async () => {
  await put('a.txt', 'x')
  const path = Buffer.concat([Buffer.from(`${dir}/in/`), Buffer.from([0xff, 0xfe]), Buffer.from('.txt')])
  await writeFile(path, 'x')
  await watch()
  await count(1)
  expect(await files()).toEqual(['in/a.txt'])
  expect(notes).toEqual(['"in/\ufffd\ufffd.txt" starts nothing: it cannot be looked at (ENOENT)'])
})

it('a file that takes the place of another of its size and age is a change', async () => {
  await put('a.txt', 'one')
  await aged('a.txt')
  await watch()
  await count(1)
  await writeFile(join(dir, 'next'), 'two')
  await utimes(join(dir, 'next'), 1_000, 1_000)
  await rename(join(dir, 'next'), join(dir, 'in/a.txt'))
  await count(2)
  expect(await files()).toEqual(['in/a.txt', 'in/a.txt'])
})

it('a file that cannot start a run holds up no other', async () => {
  // No index holds such a path.
  const folders = Array.from({ length: 28 }, (_, n) => createHash('sha512').update(`${n}`).digest('hex'))
  await mkdir(join(dir, 'in', ...folders), { recursive: true })
  await put(join(...folders, 'a.txt'), 'x')
  await put('z.txt', 'x')
  await watch(50, 'in/**/*.txt')
  await count(1)
  expect(await files()).toEqual(['in/z.txt'])
  await until('the note', () => notes.length > 0)
  expect(notes[0]).toContain('could not start a run: ')
  expect(await test.db.query(ticks)).toHaveLength(1)
})

it('a paused workflow leaves a skipped tick for the file', async () => {
  await test.db.execute(pause)
  await put('a.txt', 'one')
  await watch()
  await until('the tick', async () => (await test.db.query(ticks)).length === 1)
  expect(await test.db.query(ticks)).toEqual([
    { outcome: 'skipped', reason: 'the workflow is paused; in/a.txt has 3 bytes', run_id: null },
  ])
  expect(await files()).toEqual([])
})

it('a file whose path is no parameter of the workflow leaves a skipped tick that says why', async () => {
  const strict = { type: 'object', properties: { file: { type: 'string', maxLength: 6 } }, required: ['file'] }
  const made = manifest(50)
  const parts = { db: test.db, projectDir: dir, clock, random: Math.random, note: (line: string) => notes.push(line) }
  const watcher = new WatchFiles(parts)
  watchers.push(watcher)
  await mkdir(join(dir, 'in'))
  await writeFile(join(dir, 'in/long-name.txt'), 'abc')
  await watcher.follow({ ...made, workflows: [{ ...made.workflows[0]!, params: strict }] })
  await until('the tick', async () => (await test.db.query(ticks)).length > 0)
  expect(await test.db.query(ticks)).toEqual([
    {
      outcome: 'skipped',
      reason: expect.stringMatching(/^its parameters do not fit: \/params\/file: .*; in\/long-name\.txt has 3 bytes$/),
      run_id: null,
    },
  ])
  expect(await test.db.query(runs)).toEqual([])
})
