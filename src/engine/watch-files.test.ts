import { randomUUID } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
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
  const watcher = new WatchFiles({ db: test.db, projectDir: dir, clock, random: Math.random, note: () => {} })
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

it('a paused workflow leaves a skipped tick for the file', async () => {
  await test.db.execute(pause)
  await put('a.txt', 'one')
  await watch()
  await until('the tick', async () => (await test.db.query(ticks)).length === 1)
  expect(await test.db.query(ticks)).toEqual([
    { outcome: 'skipped', reason: 'the workflow is paused; in/a.txt', run_id: null },
  ])
  expect(await files()).toEqual([])
})
