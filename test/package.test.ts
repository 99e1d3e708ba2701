/** The package as it is published: packed, laid into an empty project, and used there without any of the sources. */
import { execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { plainEnvironment } from '../src/app/config.ts'

const run = promisify(execFile)
const repository = fileURLToPath(new URL('..', import.meta.url))
const env = { ...plainEnvironment(), PATH: `${dirname(process.execPath)}:${process.env.PATH}` }

let root: string
let project: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-package-'))
  project = join(root, 'project')
  const modules = join(project, 'node_modules')
  await mkdir(join(modules, '.bin'), { recursive: true })
  await run('npm', ['run', 'build'], { cwd: repository, env })
  const packed = await run('npm', ['pack', '--json', '--pack-destination', root], { cwd: repository, env })
  const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf('[\n'))) as [{ filename: string }]
  await run('tar', ['-xzf', join(root, filename), '-C', root])
  await run('mv', [join(root, 'package'), join(modules, 'sluice')])
  await linkDependencies(modules)
  await symlink('../sluice/bin/sluice.mjs', join(modules, '.bin', 'sluice'))
  await mkdir(join(project, 'workflows'))
  await writeFile(join(project, 'package.json'), '{ "name": "empty", "type": "module", "private": true }\n')
  await writeFile(join(project, 'workflows', 'hello.ts'), hello)
})
afterAll(() => rm(root, { recursive: true, force: true }))

const hello = `import { action, command, workflow, z } from 'sluice'

const greet = action('greet', {
  input: z.object({ name: z.string() }),
  output: z.object({ text: z.string() }),
  run: ({ input }) => ({ text: 'hello ' + input.name }),
})
export default workflow('hello', {
  params: z.object({ name: z.string().default('you') }),
  define({ params }) {
    const greeted = greet({ name: params.name })
    greet({ name: greeted.text })
  },
})
export const shout = command('shout it', {
  summary: 'say it louder',
  args: ['word', '[more]'],
  options: z.object({ times: z.number().int().max(3).default(1) }),
  run({ args, options, print }) {
    print(args.join(' ').toUpperCase().repeat(options.times), { args, ...options })
    return 0
  },
})
`

const wrongTypes = `import { topic, z } from 'sluice'
// @ts-expect-error a key must be text
topic('t', { schema: z.object({ a: z.number() }), key: (record) => record.a })
`

/** What an installation would bring: here the packages are those of the repository. */
async function linkDependencies(modules: string): Promise<void> {
  const from = join(repository, 'node_modules')
  for (const name of await readdir(from)) {
    if (!name.startsWith('.') && name !== 'sluice' && name !== '@sluice')
      await symlink(join(from, name), join(modules, name))
  }
}

async function sluice(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const bin = join(project, 'node_modules', '.bin', 'sluice')
  try {
    return { code: 0, ...(await run(bin, args, { cwd: project, env })) }
  } catch (thrown) {
    return thrown as { code: number; stdout: string; stderr: string }
  }
}

it('holds JavaScript, types and SQL, and no sources', async () => {
  const files = await readdir(join(project, 'node_modules', 'sluice'), { recursive: true })
  expect(files.filter((file) => /(?<!\.d)\.ts$|\.test\./.test(file))).toEqual([])
  expect(files).toEqual(
    expect.arrayContaining(['bin/sluice.mjs', 'dist/cli/main.js', 'dist/sdk/index.d.ts', 'LICENSE']),
  )
  const sql = await readdir(join(repository, 'src', 'store', 'migrations'))
  expect(files).toEqual(expect.arrayContaining(sql.map((name) => `dist/store/migrations/${name}`)))
})

it('answers, checks, and runs the commands of a project', async () => {
  const { version } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as { version: string }
  expect(await sluice('version')).toMatchObject({ code: 0, stdout: `${version}\n` })
  const checked = await sluice('check', '--json')
  expect(checked).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(checked.stdout)).toMatchObject({ faults: [], workflows: 1, commands: 1 })
  expect(await sluice('shout', 'it', 'a', 'b', '--times', '2')).toMatchObject({ code: 0, stdout: 'A BA B\n' })
  expect(await sluice('shout', 'it', 'a', '--times', '4')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--times'),
  })
  await writeFile(join(project, 'workflows', 'wrong.ts'), 'export const a = = 1\n')
  expect(await sluice('check')).toMatchObject({ code: 1, stdout: 'workflows/wrong.ts:1:18 Unexpected "="\n' })
  await rm(join(project, 'workflows', 'wrong.ts'))
})

it('brings its types', async () => {
  const compilerOptions = {
    strict: true,
    noEmit: true,
    module: 'nodenext',
    target: 'esnext',
    skipLibCheck: true,
    types: [],
  }
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*/*.ts'] }))
  await mkdir(join(project, 'types'))
  await writeFile(join(project, 'types', 'wrong.ts'), wrongTypes)
  const tsc = join(repository, 'node_modules', '.bin', 'tsc')
  await expect(run(tsc, ['-p', project], { env }).catch((thrown) => thrown.stdout)).resolves.toMatchObject({
    stdout: '',
  })
})

function untilReady(server: { readonly stderr: Readable }, ended: Promise<number | null>): Promise<void> {
  return new Promise((resolve, reject) => {
    let told = ''
    server.stderr.setEncoding('utf8').on('data', (text: string) => {
      told += text
      if (/ready at http/.test(told)) resolve()
    })
    void ended.then((code) => reject(new Error(`it ended with ${code}: ${told}`)))
  })
}

it('starts, runs a workflow, and stops', async () => {
  const bin = join(project, 'node_modules', '.bin', 'sluice')
  const server = spawn(bin, ['dev', '--port', '0'], { cwd: project, env, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = new Promise<number | null>((resolve) => server.on('exit', resolve))
  try {
    await untilReady(server, ended)
    const finished = await sluice('run', 'hello', '-p', 'name=ada', '--wait', '--json')
    expect(finished).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(finished.stdout)).toMatchObject({
      workflow: 'hello',
      params: { name: 'ada' },
      tasks: { success: 2 },
    })
    expect(await sluice('run', 'hello', '-p', 'nmae=ada')).toMatchObject({
      code: 2,
      stderr: 'sluice: There is no parameter nmae; did you mean name?\n',
    })
    expect(await sluice('stop')).toMatchObject({ code: 0 })
    expect(await ended).toBe(0)
    expect(await sluice('runs')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('Start it with: sluice dev'),
    })
  } finally {
    server.kill('SIGKILL')
  }
})

it('makes a project whose types are right, whose test passes, and whose workflow runs', async () => {
  const bin = join(project, 'node_modules', '.bin', 'sluice')
  const made = join(root, 'made')
  await run(bin, ['init', 'made'], { cwd: root, env })
  await symlink(join(project, 'node_modules'), join(made, 'node_modules'))
  const bins = [join(made, 'node_modules/.bin'), join(repository, 'node_modules/.bin'), env.PATH]
  const npm = (...args: string[]) => run('npm', args, { cwd: made, env: { ...env, PATH: bins.join(delimiter) } })
  expect((await npm('test')).stdout).toMatch(/pass 3\b/)
  const tried = await run(bin, ['test', 'hello', '-p', 'name=Ada', '--json'], { cwd: made, env })
  expect(JSON.parse(tried.stdout)).toMatchObject({ state: 'success', result: { letters: 11 } })
  await npm('run', 'check')
  const server = spawn(bin, ['dev', '--port', '0'], { cwd: made, env, stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = new Promise<number | null>((resolve) => server.on('exit', resolve))
  try {
    await untilReady(server, ended)
    const finished = await run(bin, ['run', 'hello', '-p', 'name=ada', '--wait', '--json'], { cwd: made, env })
    expect(JSON.parse(finished.stdout)).toMatchObject({ state: 'success', tasks: { success: 2 } })
    await run(bin, ['stop'], { cwd: made, env })
    expect(await ended).toBe(0)
  } finally {
    server.kill('SIGKILL')
  }
})
