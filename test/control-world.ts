/** Runs under the hands of people, for tests: real engines, and the API over the same database, anew for each test. */
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import type { Manifest } from '../src/core/manifest.ts'
import { statement } from '../src/ports/database.ts'
import { deployVersion } from '../src/store/versions.ts'
import { EngineWorld } from './engine-world.ts'
import { openTestApi, type TestApi } from './test-api.ts'

export let world: EngineWorld
/** Where the files are that tell tasks what to do; see test/programs/control-project. */
export let dir: string
let api: TestApi

/** To be called once in a file of tests. */
export function inControlWorld(): void {
  beforeEach(async () => {
    world = await EngineWorld.open('control-project')
    api = await openTestApi(world.db, { manifest: () => world.version.manifest })
    dir = join(world.dir, 'files')
    await mkdir(dir)
  })
  afterEach(async () => {
    await api.close()
    await world.close()
  })
}

/** Makes it the version that takes new runs. */
export async function deploy(manifest: Manifest): Promise<void> {
  await deployVersion(world.db, manifest)
  await api.close()
  api = await openTestApi(world.db, { manifest: () => manifest })
}

/** What must always hold (test/invariants), after each test of a group. */
export const alwaysHolds = () =>
  afterEach(async () => {
    expect(await world.breaches()).toEqual([])
  })

export const says = (name: string, text: string) => writeFile(join(dir, name), text)
/** What has run, in order, each with its attempt. */
export const ran = () => (existsSync(join(dir, 'log')) ? readFileSync(join(dir, 'log'), 'utf8').trim().split('\n') : [])
export const forgetLog = () => rm(join(dir, 'log'), { force: true })
export const start = (workflow: string, more: object = {}) => world.start(workflow, { dir, ...more })

export async function post(path: string, body?: object, headers: Record<string, string> = {}) {
  const answer = await api.app.inject({
    ...{ method: 'POST', url: `/api/v1/${path}`, headers },
    ...(body === undefined ? {} : { payload: body }),
  })
  return { status: answer.statusCode, body: answer.json() }
}
export const get = async (path: string) => (await api.app.inject(`/api/v1/${path}`)).json()
export const clear = (id: string, body: object = {}, headers: Record<string, string> = {}) =>
  post(`runs/${id}/clear`, body, headers)
export const statesOf = async (id: string) => {
  const { items } = await get(`runs/${id}/tasks?limit=1000`)
  return Object.fromEntries(
    items.map((task: { name: string; index: number | null; state: string }) => [
      task.index === null ? task.name : `${task.name}[${task.index}]`,
      task.state,
    ]),
  )
}
export const logOf = async (id: string) =>
  (await get(`runs/${id}/transitions?limit=1000`)).items.map(
    (row: { task: string | null; from: string; to: string; detail: string | null }) =>
      `${row.task ?? 'run'} ${row.from} ${row.to}${row.detail === null ? '' : ` ${row.detail}`}`,
  )
export const wishes = statement('test.wishes', 'select kind, key from sluice.inbox')
export const lapse = statement(
  'test.lapse_all',
  `update sluice.nodes set lease_until = sluice.sluice_now() - interval '1 second'`,
)
