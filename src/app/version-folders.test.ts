import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { build } from './build/build.ts'
import { versionFolders } from './version-folders.ts'

it('knows the code that was not built again since a time, and nothing else, and removes it', async () => {
  const home = await mkdtemp(join(tmpdir(), 'sluice-folders-'))
  onTestFinished(() => rm(home, { recursive: true, force: true }))
  const { versionFolders: list, removeVersion } = versionFolders(home)
  const now = Date.now()
  const hour = 3_600_000
  expect(await list(new Date(now))).toEqual([])
  await mkdir(join(home, 'workflows'))
  await writeFile(join(home, 'workflows/a.ts'), 'export const a = 1\n')
  const { manifest, folder } = await build({ projectDir: home, home })
  const old = new Date(now - 2 * hour)
  const stray = 'f'.repeat(64)
  for (const name of [stray, 'node', '.building-x']) await mkdir(join(home, 'versions', name))
  for (const name of [stray, 'node', '.building-x', manifest.hash]) await utimes(join(home, 'versions', name), old, old)
  expect([...(await list(new Date(now - hour)))].sort()).toEqual([manifest.hash, stray].sort())
  // A build that finds nothing changed uses it again.
  expect((await build({ projectDir: home, home })).folder).toBe(folder)
  expect(await list(new Date(now - hour))).toEqual([stray])
  await removeVersion(stray)
  expect(await readdir(join(home, 'versions'))).not.toContain(stray)
})
