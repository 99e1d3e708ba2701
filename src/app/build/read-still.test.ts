import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bundle } from './bundle.ts'
import { recordInputs } from './last-build.ts'
import { findDefinitionFiles } from './project-files.ts'
import { type ReadParts, readStill } from './read-still.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sluice-still-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** The real thing, with something that happens between the two readings of the n-th time. */
function parts(between: (time: number) => Promise<unknown>): ReadParts & { times: number } {
  const made = {
    times: 0,
    find: () => findDefinitionFiles(dir, ['*.ts']),
    async bundle(files: readonly string[], again: boolean) {
      if (again) {
        made.times += 1
        await between(made.times)
      }
      return bundle(dir, files, join(dir, 'out'))
    },
    fingerprints: (paths: readonly string[]) => recordInputs(dir, paths),
  }
  return made
}

it('a file that is written, removed or added meanwhile is read again', async () => {
  await writeFile(join(dir, 'a.ts'), 'export const a = 1\n')
  await writeFile(join(dir, 'b.ts'), 'export const b = 1\n')
  const happens = [
    () => writeFile(join(dir, 'a.ts'), 'export const a = 2\n'),
    () => rm(join(dir, 'b.ts')),
    () => writeFile(join(dir, 'c.ts'), 'export const = 1\n'),
  ]
  const world = parts(async (time) => happens[time - 1]?.())
  const { files, bundled } = await readStill(world)
  expect(world.times).toBe(4)
  expect(files).toEqual(['a.ts', 'c.ts'])
  expect(bundled.files.get('a.ts.js')).toContain('a = 2')
  expect([...bundled.broken.keys()]).toEqual(['c.ts'])
})

it('a file that never rests is taken as it was read, with what it was then', async () => {
  await rm(join(dir, 'c.ts'), { force: true })
  const world = parts((time) => writeFile(join(dir, 'a.ts'), `export const a = 'time ${time}'\n`))
  const { inputs, bundled } = await readStill(world)
  expect(world.times).toBe(5)
  expect(bundled.files.get('a.ts.js')).toContain('time 4')
  expect((await recordInputs(dir, ['a.ts']))['a.ts']).not.toBe(inputs['a.ts'])
})

it('what differs though no file changed is refused by its name', async () => {
  const world = parts(async () => {})
  const real = world.bundle
  const odd: ReadParts = {
    ...world,
    async bundle(files, again) {
      const made = await real(files, again)
      return again ? { ...made, files: new Map([...made.files].map(([path, text]) => [path, `${text}x`])) } : made
    },
  }
  await expect(readStill(odd)).rejects.toMatchObject({
    code: 'BUILD_NOT_REPRODUCIBLE',
    message: 'Bundled twice, a.ts.js was not the same',
  })
})
