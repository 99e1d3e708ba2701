/** What a new project consists of: text by path. `npm test` in it passes as it stands. */

export interface TemplateParts {
  readonly name: string
  /** Exact versions of the packages that it needs. */
  readonly versions: { readonly sluice: string; readonly typescript: string; readonly nodeTypes: string }
}

export function projectFiles({ name, versions }: TemplateParts): ReadonlyMap<string, string> {
  return new Map([
    ['package.json', packageJson(name, versions)],
    ['tsconfig.json', tsconfig],
    ['.gitignore', 'node_modules/\n.sluice/\n'],
    ['README.md', readme(name)],
    ['sluice.config.ts', config],
    ['workflows/hello.ts', hello],
    ['test/hello.test.ts', helloTest],
  ])
}

function packageJson(name: string, { sluice, typescript, nodeTypes }: TemplateParts['versions']): string {
  const text = {
    name,
    version: '0.0.0',
    private: true,
    type: 'module',
    engines: { node: '>=24' },
    scripts: {
      dev: 'sluice dev',
      check: 'sluice check && tsc',
      test: 'sluice check && sluice test',
    },
    dependencies: { sluice },
    devDependencies: { '@types/node': nodeTypes, typescript },
  }
  return `${JSON.stringify(text, null, 2)}\n`
}

const tsconfig = `${JSON.stringify(
  {
    compilerOptions: {
      target: 'esnext',
      module: 'nodenext',
      lib: ['esnext'],
      types: ['node'],
      strict: true,
      noUncheckedIndexedAccess: true,
      erasableSyntaxOnly: true,
      verbatimModuleSyntax: true,
      allowImportingTsExtensions: true,
      skipLibCheck: true,
      noEmit: true,
    },
    include: ['workflows', 'test', '*.config.ts'],
  },
  null,
  2,
)}\n`

const config = `import { defineConfig } from 'sluice'

// Which files define workflows, and the connections that they use by name.
export default defineConfig({
  connections: {},
})
`

const hello = `import { action, workflow, z } from 'sluice'

export const greeting = (name: string) => \`Hello, \${name}!\`

const greet = action('greet', {
  input: z.object({ name: z.string() }),
  output: z.object({ text: z.string() }),
  run({ input, log }) {
    const text = greeting(input.name)
    log.info(text)
    return { text }
  },
})

const measure = action('measure', {
  input: z.object({ text: z.string() }),
  output: z.object({ letters: z.number() }),
  run: ({ input }) => ({ letters: input.text.length }),
})

export default workflow('hello', {
  params: z.object({ name: z.string().default('world') }),
  define({ params }) {
    const greeted = greet({ name: params.name })
    return measure({ text: greeted.text })
  },
})
`

const helloTest = `import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulate } from 'sluice/testing'
import hello, { greeting } from '../workflows/hello.ts'

test('it greets by name', () => {
  assert.equal(greeting('Ada'), 'Hello, Ada!')
})

// The workflow as it is, in virtual time: without a server, and without a database.
test('the workflow greets, and measures the greeting', async () => {
  await using world = await simulate([hello])
  const run = await world.start(hello, { name: 'Ada' })
  assert.equal(run.state, 'success')
  assert.deepEqual(run.result, { letters: 11 })
  assert.deepEqual(run.log.map(({ message }) => message), ['Hello, Ada!'])
})

test('whoever gives no name greets the world', async () => {
  await using world = await simulate([hello])
  const run = await world.start(hello)
  assert.deepEqual(run.task('greet')?.result, { text: 'Hello, world!' })
})
`

const readme = (name: string) => `# ${name}

\`\`\`
npm install
npm test           # checks the definitions and runs the tests
npm run dev        # everything, on this machine: http://localhost:8000
\`\`\`

While it runs, in another terminal:

\`\`\`
npx sluice run hello -p name=Ada --wait
npx sluice runs
\`\`\`

Without a server: \`npx sluice test hello -p name=Ada\` plays one run in virtual time and shows what came of it.

- \`workflows/\` holds what is defined, one file or many. A change is taken up while \`npm run dev\` runs; a file that is wrong
  stays as it last was until it is mended, and \`npx sluice check\` says what is wrong.
- \`test/\` holds tests: \`npx sluice test\` runs them.
- \`.sluice/\` holds the data of this machine, and is not for git.
`
