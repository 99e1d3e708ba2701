/** A catalog half-way, backed up while it runs, its folder destroyed, restored, and run on to the end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { glob, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openFiles } from '../src/objects/files.ts'
import { startEmbedded } from '../src/postgres/embedded.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { breaches } from './invariants/check.ts'
import { type Project, projectOf, type RunningSluice, sluice, startSluice, until } from './sluice-process.ts'

const app = join(import.meta.dirname, '../apps/images')
const sample = join(app, 'sample/urls.txt')

interface Totals {
  readonly received: number
  readonly pending: number
  readonly written: number
  readonly dead: number
}

let origin: ChildProcess
let project: Project
let server: RunningSluice | undefined

beforeAll(async () => {
  origin = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(app, 'origin/main.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = await once(origin.stdout!, 'data')
  const { url } = JSON.parse(String(line)) as { url: string }
  const web = { kind: 'fetch', timeout: '60s', rewrite: [{ from: 'https://picsum.photos', to: url }] }
  project = await projectOf('images', { SLUICE_CONNECTION_WEB: JSON.stringify(web) })
  server = await startSluice(project)
})
afterAll(async () => {
  await server?.stop()
  origin?.kill()
  await project?.remove()
})

/** What the checker finds in the database and the files. */
async function broken(atRest: boolean) {
  const embedded = await startEmbedded({ home: project.home })
  const db = openDatabase({ url: embedded.url, applicationName: 'sluice test', max: 2 })
  try {
    const objects = openFiles(join(project.home, 'objects'))
    return await breaches(db, { atRest, objects, home: project.home })
  } finally {
    await db.close()
    await embedded.stop()
  }
}

/** The plan of another workflow may fire meanwhile. */
const catalogRuns = ['runs', '--workflow', 'catalog']

const totals = async () => (await server!.get<{ totals: Totals }>('/api/v1/streams/images')).totals

it('ends with the same sum, the same pictures, and its log', { timeout: 180_000 }, async () => {
  await sluice(project, 'catalog', 'add', sample, '--name', 'sample')
  await until(totals, ({ received, written }) => received === 650 && written > 20)
  const file = join(project.folder, 'half.backup')
  const taken = await sluice<{ rows: number; objects: number; missing: string[] }>(project, 'backup', file)
  expect(taken).toMatchObject({ missing: [], damaged: [], versionsMissing: [] })
  const runs = await sluice<{ items: { id: string; state: string }[] }>(project, ...catalogRuns)
  await server!.stop()
  await rm(project.home, { recursive: true })

  const restored = await sluice<{ rows: number; objects: number }>(project, 'restore', file)
  expect(restored).toMatchObject({ rows: taken.rows, objects: taken.objects })
  expect(await broken(false)).toEqual([])
  server = await startSluice(project)
  const early = await totals()
  expect(early).toMatchObject({ received: 650 })
  expect(await until(totals, ({ pending }) => pending === 0, 120_000)).toMatchObject({
    ...{ received: 650, written: 500, duplicate: 99, rejected: 51, filtered: 0, dead: 0 },
    rejectedByReason: { 'http error': 51 },
  })
  const { items } = await sluice<{ items: { id: string; state: string }[] }>(project, ...catalogRuns)
  expect(items.map(({ id }) => id)).toEqual(runs.items.map(({ id }) => id))
  const log = await server.get<{ items: unknown[] }>(`/api/v1/runs/${items[0]!.id}/logs`)
  expect(log.items.length).toBeGreaterThan(0)
  let objects = 0
  for await (const path of glob('[0-9a-f][0-9a-f]/*', { cwd: join(project.home, 'objects') })) {
    const bytes = await readFile(join(project.home, 'objects', path))
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(path.split('/').at(-1))
    objects += 1
  }
  // The pictures and the catalog.
  expect(objects).toBe(501)
  expect(await broken(true)).toEqual([])
})
