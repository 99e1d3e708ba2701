import { defineConfig } from 'vitest/config'

// These also reach the tests' node as --conditions: with 'import' among them require() would be given ES modules.
const conditions = ['sluice-source', 'node']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['src/**/*.test.ts', 'apps/**/*.test.ts', 'test/**/*.test.ts', 'bench/**/*.test.ts'],
    globalSetup: ['test/global-setup.ts'],
    reporters: ['default', './test/count-reporter.ts'],
    pool: 'forks',
    maxWorkers: 2,
    execArgv: ['--conditions=sluice-source'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Decisions are tested to their branches. `npm test` turns this on; it prints nothing unless it is below.
    coverage: {
      provider: 'v8',
      include: ['src/core/**/*.ts'],
      reporter: [],
      reportsDirectory: 'node_modules/.vitest-coverage',
      thresholds: { branches: 95 },
    },
  },
})
