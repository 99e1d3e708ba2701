/** Proves the tests of `src/core`: each wrong decision of the list in `mutants.ts` must fail one of them. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { mutants } from './mutants.ts'
import type { Verdict } from './run-mutants.ts'

const root = join(import.meta.dirname, '..')
let verdicts: Readonly<Record<string, Verdict>>

// In a process of its own: one vitest cannot run inside of another.
beforeAll(async () => {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')))
  const args = ['--conditions=sluice-source', join(root, 'test/run-mutants.ts')]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, env, timeout: 300_000 })
  verdicts = JSON.parse(stdout.trim().split('\n').at(-1)!)
}, 310_000)

it('the sources as they are pass the same tests', () => {
  expect(verdicts.unchanged).toMatchObject({ failed: 0, broken: [] })
  expect(verdicts.unchanged!.passed).toBeGreaterThan(mutants.length)
})

describe.each(mutants.map((mutant, index) => ({ ...mutant, index })))('$file: $says', ({ file, find, index }) => {
  it('is one change of the source, and is noticed', () => {
    expect(readFileSync(join(root, 'src/core', file), 'utf8').split(find)).toHaveLength(2)
    // A file that cannot be loaded would prove nothing.
    expect(verdicts[index]!.broken).toEqual([])
    expect(verdicts[index]!.failed).toBeGreaterThan(0)
  })
})
