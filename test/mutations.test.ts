/** Proves the tests of `src/core` and the simulation: each wrong decision of the list in `mutants.ts` must fail one of them. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { mutants } from './mutants.ts'
import type { Verdict } from './run-mutants.ts'

const root = join(import.meta.dirname, '..')
let verdicts: Readonly<Record<string, Verdict>>
let simulated: Readonly<Record<string, string | null>>

/** The last line that a program of this folder prints, which is JSON. */
async function told(program: string, ...args: readonly string[]): Promise<never> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')))
  const flags = ['--conditions=sluice-source', '--disable-warning=ExperimentalWarning', join(root, 'test', program)]
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, ...args], {
    cwd: root,
    env,
    timeout: 600_000,
  })
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as never
}

// In processes of their own: one vitest cannot run inside of another. The simulation is quick, and leaves few to the tests.
beforeAll(async () => {
  simulated = await told('simulate-mutants.ts')
  const noticed = Object.entries(simulated).flatMap(([index, what]) => (what === null ? [] : [index]))
  verdicts = await told('run-mutants.ts', ...noticed)
}, 1_210_000)

it('the sources as they are pass the same tests', () => {
  expect(simulated.unchanged).toBeNull()
  expect(verdicts.unchanged).toMatchObject({ failed: 0, broken: [] })
  expect(verdicts.unchanged!.passed).toBeGreaterThan(mutants.length)
})

describe.each(mutants.map((mutant, index) => ({ ...mutant, index })))('$file: $says', ({ file, find, index }) => {
  it('is one change of the source, and is noticed', () => {
    expect(readFileSync(join(root, 'src', file), 'utf8').split(find)).toHaveLength(2)
    // A file that cannot be loaded would prove nothing.
    expect(simulated[index] ?? '').not.toMatch(/^broken/)
    if (typeof simulated[index] === 'string') return
    expect(verdicts[index]!.broken).toEqual([])
    expect(verdicts[index]!.failed).toBeGreaterThan(0)
  })
})
