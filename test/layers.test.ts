import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  ambientBreaches,
  appBreaches,
  builtSqlBreaches,
  environmentBreaches,
  type Files,
  importCycles,
  largestFile,
  layerBreaches,
  longFiles,
  nameBreaches,
  questionedFile,
  sqlBreaches,
} from './rules.ts'
import { readSource } from './source.ts'

const root = join(import.meta.dirname, '..')
const patterns = ['{src,apps,bench,bin}/**/*.{ts,tsx,mjs,sql}', 'package.json', 'apps/*/package.json']
const house: Files = new Map(
  globSync(patterns, { cwd: root, exclude: ['**/node_modules/**', '**/dist/**', '**/.sluice/**'] }).map((path) => [
    path.replaceAll('\\', '/'),
    readFileSync(join(root, path), 'utf8'),
  ]),
)

const files = (entries: Record<string, string>): Files => new Map(Object.entries(entries))

/** A rule holds for the house; it finds nothing in what is right, and in what is wrong exactly the breaches. */
function rule(
  name: string,
  breaches: (files: Files) => string[],
  { right, wrong }: { right: Record<string, string>; wrong: [Record<string, string>, string[]][] },
) {
  describe(name, () => {
    it('holds', () => {
      expect(breaches(house)).toEqual([])
    })
    it('allows what is right', () => {
      expect(breaches(files(right))).toEqual([])
    })
    for (const [fixture, expected] of wrong) {
      it(`finds that ${expected.join(', and that ')}`, () => {
        expect(breaches(files(fixture))).toEqual(expected)
      })
    }
  })
}

it('reads the whole house', () => {
  expect([...house.keys()]).toEqual(expect.arrayContaining(['src/errors.ts', 'src/ports/database.ts', 'package.json']))
})

describe('reading a source', () => {
  it('finds every form of import', () => {
    const text = `
      import a, { type B } from './static.ts'
      import type { C } from './type.ts'
      import './effect.ts'
      export { d } from './export.ts'
      export type { E } from './export-type.ts'
      export * from './all.ts'
      const f = await import('./dynamic.ts')
      const g = import(\`./\${a}.ts\`)
      type H = import('./import-type.ts').H
      const regexp = /[\`'"]\\/\\/ import x from '.\\/regexp.ts'/
      // import './comment.ts'
      const text = "import './text.ts'"
      const late = await import('./late.ts')`
    expect([...readSource('x.ts', text).imports].sort()).toEqual(
      ['all', 'dynamic', 'effect', 'export-type', 'export', 'import-type', 'late', 'static', 'type'].map(
        (name) => `./${name}.ts`,
      ),
    )
  })

  it('says which file cannot be parsed', () => {
    expect(() => readSource('src/bad.ts', 'const = 5')).toThrow(/src\/bad\.ts/)
  })
})

rule('layers', layerBreaches, {
  right: {
    'src/time.ts': `import './errors.ts'`,
    'src/store/runs.ts': `import '../ports/database.ts'; import '../core/x.ts'; import './tasks.ts'; import 'pg'`,
    'src/store/runs.test.ts': `import '../engine/own-runs.ts'; import '../../test/database.ts'`,
  },
  wrong: [
    [
      { 'src/core/decide.ts': `import type { Session } from '../ports/database.ts'` },
      ['src/core/decide.ts (core) imports src/ports/database.ts (ports), which is not below it'],
    ],
    [
      { 'src/engine/recover.ts': `const x = await import('../api/server.ts')` },
      ['src/engine/recover.ts (engine) imports src/api/server.ts (api), which is not below it'],
    ],
    [
      { 'src/store/runs.ts': `export type { A } from '../postgres/pool.ts'` },
      ['src/store/runs.ts (store) imports src/postgres/pool.ts (postgres), which is not below it'],
    ],
    [
      { 'src/app/build.ts': `import '../../apps/images/x.ts'` },
      ['src/app/build.ts imports apps/images/x.ts, which is outside src'],
    ],
    [{ 'src/shared/x.ts': '' }, ['src/shared/x.ts is in no room of the house']],
    [{ 'src/x.ts': '' }, ['src/x.ts is in no room of the house']],
  ],
})

rule('import cycles', importCycles, {
  right: {
    'src/core/a.ts': `import './b.ts'; import './c.ts'`,
    'src/core/b.ts': `import './c.ts'`,
    'src/core/c.ts': '',
  },
  wrong: [
    [
      {
        'src/core/a.ts': `import './b.ts'`,
        'src/core/b.ts': `import type { A } from './c.ts'`,
        'src/core/c.ts': `type A = import('./b.ts').A`,
      },
      ['src/core/b.ts -> src/core/c.ts -> src/core/b.ts'],
    ],
    [{ 'apps/x/a.ts': `import './a.ts'` }, ['apps/x/a.ts -> apps/x/a.ts']],
  ],
})

const sluice = '{"exports": {".": "./src/sdk/index.ts", "./testing": "./src/sdk/testing.ts"}}'

rule('apps as users', appBreaches, {
  right: {
    'package.json': sluice,
    'apps/x/package.json': '{"dependencies": {"sluice": "*", "sharp": "*", "@scope/part": "*"}}',
    'apps/x/deep/a.ts': `import 'sluice'; import 'sluice/testing'; import 'sharp'; import '@scope/part/sub'; import 'node:fs'; import '../b.ts'`,
  },
  wrong: [
    [
      { 'package.json': sluice, 'apps/x/a.ts': `import 'sluice/store'` },
      ['apps/x/a.ts imports sluice/store, which sluice does not publish'],
    ],
    [
      { 'apps/x/a.ts': `import '../../src/errors.ts'; import type { B } from '../y/b.ts'` },
      [
        'apps/x/a.ts imports apps/y/b.ts, which is outside apps/x',
        'apps/x/a.ts imports src/errors.ts, which is outside apps/x',
      ],
    ],
    [
      { 'apps/x/package.json': '{"dependencies": {}}', 'apps/x/a.ts': `import 'pg'` },
      ['apps/x/a.ts imports pg, which is no dependency of apps/x'],
    ],
  ],
})

const readsEnvironment = (path: string) => `${path} reads process.env; only src/app/config.ts does`

rule('the environment', environmentBreaches, {
  right: {
    'src/app/config.ts': 'export const port = process.env.PORT',
    'src/core/a.ts': '// process.env\nconst env = { process: 1 }; env.process',
    'src/core/a.test.ts': 'process.env.X',
    'bench/x.ts': 'process.env.X',
    'apps/x/demo.ts': 'process.env.X',
  },
  wrong: [
    [{ 'src/app/server.ts': 'process.env.PORT' }, [readsEnvironment('src/app/server.ts')]],
    [{ 'src/cli/main.ts': `const x = process['env']` }, [readsEnvironment('src/cli/main.ts')]],
    [{ 'src/engine/a.ts': 'const { env } = process' }, [readsEnvironment('src/engine/a.ts')]],
    [{ 'apps/x/y/a.ts': `import { env } from 'node:process'` }, [readsEnvironment('apps/x/y/a.ts')]],
  ],
})

const usesAmbient = (path: string, call: string) => `${path} uses ${call}; take a Clock or a source of randomness`

rule('time and randomness', ambientBreaches, {
  right: {
    'src/time.ts': 'Date.now()',
    'src/app/engine-main.ts': 'Math.random()',
    'src/core/a.ts': 'new Date(5); Math.max(1, 2)',
    'src/core/a.test.ts': 'Date.now()',
  },
  wrong: [
    [{ 'src/core/a.ts': 'const now = Date.now' }, [usesAmbient('src/core/a.ts', 'Date.now')]],
    [{ 'src/engine/a.ts': 'Math.random()' }, [usesAmbient('src/engine/a.ts', 'Math.random')]],
    [{ 'src/store/a.ts': 'new Date()' }, [usesAmbient('src/store/a.ts', 'new Date()')]],
  ],
})

/** In the text of a file: a part of a template. */
const part = ['$', '{part}'].join('')

rule('whole SQL', builtSqlBreaches, {
  right: {
    'src/store/runs.ts': `\`select 1 from sluice.runs where 'a?' = $1\`; \`no ${part}\``,
    'src/store/table-sql.ts': `\`insert into ${part} values (1)\``,
    'src/connectors/a.ts': `\`select 1 from ${part} where true\``,
  },
  wrong: [
    [
      { 'src/store/a.ts': `\`select id from ${part} where id = 1\`; \`delete from sluice.${part}\`` },
      [
        'src/store/a.ts puts SQL together: delete from sluice.?',
        'src/store/a.ts puts SQL together: select id from ? where id = 1',
      ],
    ],
  ],
})

rule('SQL', sqlBreaches, {
  right: {
    'src/store/runs.ts': `'select 1 from sluice.runs'`,
    'src/connectors/tables.ts': `'insert into orders values (1)'`,
    'src/engine/a.ts': `'select a file'; 'update the set'; 'with care'; 'create a table'`,
  },
  wrong: [
    [
      { 'src/engine/a.ts': '`\n  select id from\n sluice.runs where id = $1`' },
      ['src/engine/a.ts has SQL of the platform: select id from sluice.runs where id = $1'],
    ],
    [
      { 'src/api/a.ts': "query('UPDATE runs SET state = 1'); `DELETE FROM runs`" },
      [
        'src/api/a.ts has SQL of the platform: DELETE FROM runs',
        'src/api/a.ts has SQL of the platform: UPDATE runs SET state = 1',
      ],
    ],
    [
      { 'src/connectors/tables.ts': `'with x as (select 1) insert into sluice.runs select 1'` },
      ['src/connectors/tables.ts has SQL of the platform: with x as (select 1) insert into sluice.runs select 1'],
    ],
  ],
})

rule('names', nameBreaches, {
  right: { 'src/core/run-state.ts': '', 'src/core/common-cause.ts': '', 'test/types/a.ts': '' },
  wrong: [
    [{ 'src/core/utils.ts': '' }, ['src/core/utils.ts names a kind, not a concept']],
    [{ 'apps/x/helpers/a.ts': '', 'apps/x/helpers/b.ts': '' }, ['apps/x/helpers names a kind, not a concept']],
    [{ 'src/types/a.d.ts': '' }, ['src/types names a kind, not a concept']],
    [{ 'src/core/runState.ts': '' }, ['src/core/runState.ts is not in kebab-case']],
  ],
})

rule('size', (of) => longFiles(of, largestFile), {
  right: { 'src/core/a.ts': 'x\n'.repeat(600), 'src/core/b.ts': 'x\n'.repeat(599).concat('x') },
  wrong: [[{ 'src/core/a.ts': 'x\n'.repeat(601) }, ['src/core/a.ts has 601 lines']]],
})

it('questions long files', () => {
  const questioned = longFiles(house, questionedFile)
  if (questioned.length > 0) console.warn(`Over ${questionedFile} lines:\n  ${questioned.join('\n  ')}`)
  expect(longFiles(files({ 'src/core/a.ts': 'x\n'.repeat(401), 'src/b.sql': '\n' }), questionedFile)).toHaveLength(1)
})
