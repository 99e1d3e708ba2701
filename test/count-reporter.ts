import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** Ends the output with every skipped test by name and one line alone: `N passed, N failed[, N skipped]`. */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const inState = (state: string) => tests.filter((test) => test.result().state === state)
    const skipped = [...inState('skipped'), ...inState('pending')]
    // A file that cannot be loaded, a set-up that throws: failures without a test.
    const broken = modules.filter((module) => !module.ok() && inModule(inState('failed'), module) === 0).length
    const failed = inState('failed').length + broken + unhandledErrors.length

    const lines = skipped.map((test) => `skipped: ${test.module.relativeModuleId} > ${test.fullName}`)
    const counts = [`${inState('passed').length} passed`, `${failed} failed`]
    if (skipped.length > 0) counts.push(`${skipped.length} skipped`)
    process.stdout.write(`${['', ...lines, counts.join(', ')].join('\n')}\n`)
  }
}

function inModule(tests: readonly TestCase[], module: TestModule): number {
  return tests.filter((test) => test.module === module).length
}
