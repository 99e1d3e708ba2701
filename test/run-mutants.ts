/**
 * Runs the tests of every mutant but of those whose numbers are given, each as a project of one vitest, and prints what became of them as one line of JSON:
 * by name of the project the numbers of tests that passed and failed, and what kept files from being loaded.
 */
import { join } from 'node:path'
import { createVitest, type TestModule } from 'vitest/node'
import type { Mutant } from './mutant.ts'
import { mutants as all } from './mutants.ts'

export interface Verdict {
  readonly passed: number
  readonly failed: number
  readonly broken: readonly string[]
}

const root = join(import.meta.dirname, '..')
const conditions = ['sluice-source', 'node']

/** The sources as they are: their tests must pass here, or a failure there would prove nothing. */
const files = ({ caughtBy }: Mutant) => caughtBy.filter((name) => name !== 'simulation')
const unchanged = { name: 'unchanged', caughtBy: [...new Set(all.flatMap(files))] }
/** Those that the simulation has noticed are not asked again. */
const noticed = new Set(process.argv.slice(2))
const projects = all
  .map((mutant, index) => ({ name: String(index), caughtBy: files(mutant), mutant }))
  .filter(({ name }) => !noticed.has(name))

function patched(mutant: Mutant) {
  const path = join(root, 'src', mutant.file)
  return {
    name: 'patched',
    enforce: 'pre' as const,
    transform: (code: string, id: string) =>
      id === path ? code.replace(mutant.find, () => mutant.replace) : undefined,
  }
}

const vitest = await createVitest({
  root,
  config: false,
  watch: false,
  reporters: [{}],
  maxWorkers: 2,
  projects: [unchanged, ...projects].map((project) => ({
    plugins: 'mutant' in project ? [patched(project.mutant as Mutant)] : [],
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    test: {
      name: project.name,
      // The cache on disk knows a plugin by its name alone.
      fsModuleCache: false,
      include: project.caughtBy.map((name) => `src/core/${name}.test.ts`),
      pool: 'forks' as const,
      execArgv: ['--conditions=sluice-source'],
      setupFiles: ['test/end-on-failure.ts'],
    },
  })),
})
const { testModules } = await vitest.start()
const verdicts: Record<string, Verdict> = {}
for (const project of [unchanged, ...projects]) {
  verdicts[project.name] = verdictOf(testModules.filter((module) => module.project.name === project.name))
}
await vitest.close()
// Tests that fail are what is wanted; the reader judges.
process.exitCode = 0
process.stdout.write(`${JSON.stringify(verdicts)}\n`)

function verdictOf(modules: readonly TestModule[]): Verdict {
  const tests = modules.flatMap((module) => [...module.children.allTests()])
  const count = (state: string) => tests.filter((test) => test.result().state === state).length
  const broken = modules.flatMap((module) =>
    module.errors().map((error) => `${module.relativeModuleId}: ${error.message}`),
  )
  return { passed: count('passed'), failed: count('failed'), broken }
}
