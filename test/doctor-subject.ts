import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import { readConfig } from '../src/app/config.ts'
import { examine } from '../src/cli/doctor/checks.ts'
import type { Finding } from '../src/cli/doctor/finding.ts'
import { type TestDatabase, testDatabase } from './database.ts'

export const hello =
  "import { action, workflow } from 'sluice'\nexport const hello = workflow('hello', { define: () => action('say', { run: () => 1 })() })\n"

export let root: string
export let test: TestDatabase
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-doctor-'))
  test = await testDatabase()
})
afterAll(async () => {
  await test.drop()
  await rm(root, { recursive: true, force: true })
})

/** A project with one sound definition, and a home that is not there yet. */
export async function project(files: Readonly<Record<string, string>> = { 'workflows/hello.ts': hello }) {
  const folder = await mkdtemp(join(root, 'project-'))
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return folder
}

export interface Wishes {
  readonly folder?: string
  readonly home?: string
  readonly url?: string | undefined
  readonly port?: number
  readonly now?: () => number
}

export async function findings(wishes: Wishes = {}, names?: readonly string[]): Promise<Finding[]> {
  const folder = wishes.folder ?? (await project())
  const url = 'url' in wishes ? wishes.url : test.url
  const environment = url === undefined ? {} : { SLUICE_DATABASE_URL: url }
  const place = { projectDir: folder, home: wishes.home ?? join(folder, '.sluice'), port: wishes.port ?? 0 }
  const config = readConfig(environment, place)
  return examine({ config, now: wishes.now ?? Date.now, random: () => 0.5 }, names)
}

/** What one check says, but for what is well. */
export async function faults(check: string, wishes: Wishes = {}): Promise<Finding[]> {
  const all = await findings(wishes, [check])
  for (const { state, why, fix } of all)
    expect([state === 'ok', why === undefined, fix === undefined]).toEqual(Array(3).fill(state === 'ok'))
  return all.filter(({ state }) => state !== 'ok')
}
