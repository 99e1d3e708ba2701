/** `sluice test`, as an author types it: the tests of a project, and one run of a workflow, without server and database. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { projectFiles } from '../src/cli/init/templates.ts'
import { pageFiles } from './page-files.ts'

const repository = join(import.meta.dirname, '..')
let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-kit-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** A project as `sluice init` makes it, with some files besides. */
async function project(name: string, files: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = join(root, name)
  const versions = { sluice: '*', typescript: '*', nodeTypes: '*' }
  for (const [path, text] of [...projectFiles({ name, versions }), ...Object.entries(files)]) {
    await mkdir(join(folder, path, '..'), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  await symlink(join(repository, 'node_modules'), join(folder, 'node_modules'))
  return folder
}

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function sluice(folder: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...more }
  const child = spawn(process.execPath, [join(repository, 'bin/sluice.mjs'), ...args], { cwd: folder, env })
  const told = { out: '', err: '' }
  child.stdout.on('data', (text) => {
    told.out += text
  })
  child.stderr.on('data', (text) => {
    told.err += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...told }))
  })
}

describe('the tests of a project', () => {
  it('pass as sluice init made them', async () => {
    const folder = await project('made')
    const { code, out } = await sluice(folder, ['test'])
    expect(out).toMatch(/pass 3\b/)
    expect(code).toBe(0)
    expect(existsSync(join(folder, '.sluice/postgres'))).toBe(false)
  })

  it('fail with exit code 1 when one fails, in folders below test, too', async () => {
    const failing = `import { test } from 'node:test'\ntest('never', () => { throw new Error('planted' as string) })\n`
    const folder = await project('failing', { 'test/deep/never.test.ts': failing })
    const { code, out } = await sluice(folder, ['test'])
    expect(out).toContain('planted')
    expect(code).toBe(1)
    const asJson = await sluice(folder, ['test', '--json'])
    expect(asJson.code).toBe(1)
    const files = ['test/deep/never.test.ts', 'test/hello.test.ts']
    expect(JSON.parse(asJson.out)).toEqual({ files, passed: false })
    expect(asJson.err).toContain('planted')
  })

  it('are missed with a clear message when there are none', async () => {
    const folder = await project('empty')
    await rm(join(folder, 'test'), { recursive: true })
    const { code, out, err } = await sluice(folder, ['test'])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(
      /^sluice: no file matches test\/\S+ in \S+\/empty; write the first one, such as test\/hello.test.ts/,
    )
  })
})

const more = `
import { action, approve, connection, run, secret, skip, wait, workflow, z } from 'sluice'
const say = action('say', { input: z.object({ text: z.string() }), output: z.string(), run: ({ input, log }) => (log.info(input.text, { n: 1 }), input.text) })
const fails = action('fails', { retry: { attempts: 3, base: '1h', max: '1h' }, run: () => { throw new Error('planted') } })
const nothing = action('nothing', { run: () => { throw skip('nothing came') } })
const token = secret('shop-token')
const tell = action('tell', { output: z.int(), run: async ({ secret: open }) => (await open(token)).length })
const web = connection('web', 'fetch')
const fetchIt = action('fetch-it', { run: async ({ connection: open }) => { await open(web).get('http://127.0.0.1:9/') } })
const stuck = action('stuck', { run: () => new Promise(() => {}) })
export const waits = workflow('waits', { define() { const over = wait.for('40d'); return say({ text: 'over' }, { after: over }) } })
export const broken = workflow('broken', { define: () => { fails(); nothing() } })
export const asks = workflow('asks', { params: z.object({ n: z.int().default(1) }), define({ params }) {
  const given = approve('go on?', { form: z.object({ why: z.string() }), show: { n: params.n }, deadline: '2d' })
  return run(waits, {}, { after: given })
} })
export const secretly = workflow('secretly', { define: () => tell() })
export const outside = workflow('outside', { define: () => fetchIt() })
export const hangs = workflow('hangs', { define: () => stuck() })
`

describe('the page docs/testing.md', () => {
  it('shows files that are a sound project, whose tests pass', async () => {
    const files = pageFiles('testing.md')
    expect(Object.keys(files).filter((path) => path.endsWith('.test.ts'))).toHaveLength(2)
    const folder = await project('page', files)
    const checked = await sluice(folder, ['check', '--json'])
    expect(JSON.parse(checked.out)).toMatchObject({ faults: [], workflows: 4 })
    const { code, out } = await sluice(folder, ['test'])
    expect(out).toMatch(/pass 10\b/)
    expect(code).toBe(0)
  })
})

describe('the page docs/tutorial.md', () => {
  it('shows a project that is sound, with tests that pass', async () => {
    const folder = await project('tutorial', pageFiles('tutorial.md'))
    const checked = await sluice(folder, ['check', '--json'])
    expect(JSON.parse(checked.out)).toMatchObject({ faults: [], workflows: 3, streams: 1 })
    const { code, out } = await sluice(folder, ['test'])
    expect(out).toMatch(/pass 6\b/)
    expect(code).toBe(0)
    const tried = await sluice(folder, ['test', 'closing', '-p', 'atLeast=1', '--at-most', '1h'])
    expect(tried.code).toBe(1)
    expect(tried.out).toMatch(/sales-are-in +deferred/)
  })
})

/** The workflows of docs/from-airflow.md, all of them, in virtual time. */
const sideBySide = `import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { simulate } from 'sluice/testing'
import { consume, produce } from '../workflows/assets.ts'
import branching from '../workflows/branching.ts'
import cluster from '../workflows/cluster.ts'
import etl from '../workflows/etl.ts'
import fileLoad from '../workflows/file-load.ts'
import mapped from '../workflows/mapped.ts'
import report from '../workflows/report.ts'
import robust from '../workflows/robust.ts'
import { fan, oneShop } from '../workflows/shops.ts'
import tutorial from '../workflows/tutorial.ts'

const said = (run) => run.log.map(({ message }) => message)
const states = (run) => Object.fromEntries(run.tasks.map(({ id, state }) => [id, state]))
const play = async (flow, params, result) => {
  await using world = await simulate([flow])
  const run = await world.start(flow, params)
  await world.advance('1h')
  assert.equal(run.state, 'success', run.error)
  if (result !== undefined) assert.deepEqual(run.result, result)
  return run
}
test('1', async () => assert.deepEqual(said(await play(etl)), ['2 orders, 734.48']))
test('2', async () => assert.equal(said(await play(tutorial, { day: '2026-03-28' })).at(-1), '2026-03-28 lyon'))
test('3', () => play(mapped, {}, 18))
test('4', async () => {
  assert.deepEqual(said(await play(branching)), ['arms.small', 'join'])
  assert.deepEqual(said(await play(branching, { rows: 5000 })), ['arms.big', 'arms.index', 'join'])
})
test('5', async () => {
  await using world = await simulate([fileLoad])
  const run = await world.start(fileLoad, { day: '2026-03-28', folder: 'in' })
  assert.equal(run.task('wait-for-file').state, 'deferred')
  await mkdir('in', { recursive: true })
  await writeFile('in/2026-03-28.csv', 'a,b')
  await world.advance('5m')
  assert.deepEqual(said(run), ['in/2026-03-28.csv: 3 bytes'])
})
test('6', async () => {
  const run = await play(cluster)
  assert.equal(run.task('jobs.orders').result, 'orders on cluster-1')
  assert.deepEqual(said(run), ['cluster-1 is gone'])
})
test('7', async () => {
  await using world = await simulate([produce, consume])
  await world.advance('3h')
  assert.deepEqual(world.runs(consume).map(said), [['12 rows'], ['12 rows'], ['12 rows']])
})
test('8', async () => {
  await using world = await simulate([fan, oneShop])
  assert.deepEqual((await world.start(fan)).result, [{ orders: 4 }, { orders: 5 }])
})
test('9', async () => {
  assert.deepEqual(states(await play(robust)), { 'ask-service': 'success', alarm: 'skipped' })
  await using world = await simulate([robust])
  const run = await world.start(robust, { works: false })
  await world.advance('1h')
  assert.equal(run.state, 'failed')
  assert.equal(run.task('ask-service').attempt, 4)
  assert.match(said(run)[0], /has failed$/)
})
test('10', async () => {
  await using world = await simulate([report], { start: '2026-03-27T12:00:00Z' })
  await world.advance('3d')
  assert.deepEqual(world.runs(report).map(({ params, state }) => [params.day, state]), [
    ['2026-03-27', 'failed'],
    ['2026-03-28', 'success'],
    ['2026-03-29', 'success'],
  ])
  const friday = await world.start(report, { day: '2026-03-27' })
  await world.answer(world.approvals[0], { approved: true, by: 'ada' })
  assert.equal(friday.task('send-report').result, '2026-03-27, approved by ada')
})
`

describe('the page docs/from-airflow.md', () => {
  it('shows ten workflows that build and do what their DAGs do', async () => {
    const shown = pageFiles('from-airflow.md')
    expect(Object.keys(shown)).toHaveLength(10)
    const folder = await project('airflow', { ...shown, 'test/side-by-side.test.ts': sideBySide })
    const checked = await sluice(folder, ['check', '--json'])
    expect(JSON.parse(checked.out)).toMatchObject({ faults: [], workflows: 13 })
    const { code, out } = await sluice(folder, ['test'])
    expect(out).toMatch(/pass 13\b/)
    expect(code).toBe(0)
  })
})

describe('one run of a workflow', () => {
  let folder: string
  beforeAll(async () => {
    folder = await project('flows', { 'workflows/more.ts': more })
  })
  const json = async (...args: string[]) => {
    const { code, out, err } = await sluice(folder, ['test', ...args, '--json'], {
      SLUICE_SECRET_SHOP_TOKEN: 'twelve-chars',
    })
    return { code, err, answer: out === '' ? undefined : JSON.parse(out) }
  }

  it('takes parameters, prints tasks, result and log, and leaves no server and no database behind', async () => {
    const { code, out, err } = await sluice(folder, ['test', 'hello', '-p', 'name=Ada'])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(/^workflow {2}hello \(simulated\)\nstate {5}success\nresult {4}\{"letters":11\}\n/)
    expect(out).toMatch(/greet +success +1\nmeasure +success +1\n\ninfo {2}greet: Hello, Ada!\n$/)
    expect(await readdir(join(folder, '.sluice'))).toEqual(['versions'])
  })

  it('lets time pass by itself', async () => {
    const { code, answer } = await json('waits', '--start', '2026-03-01T00:00:00Z')
    expect(code).toBe(0)
    expect(answer).toMatchObject({ state: 'success', result: 'over', finishedAt: '2026-04-10T00:00:00.000Z' })
    expect(answer.log).toEqual([
      { task: 'say', mapIndex: -1, attempt: 1, level: 'info', message: 'over', fields: { n: 1 } },
    ])
    const short = await json('waits', '--at-most', '1d')
    expect(short.code).toBe(1)
    expect(short.answer).toMatchObject({ state: 'running', tasks: [{ name: 'wait', state: 'deferred' }] })
  })

  it('fails with exit code 1 when it fails, after all attempts', async () => {
    const { code, answer } = await json('broken')
    expect(code).toBe(1)
    expect(answer).toMatchObject({ state: 'failed', error: 'failed: fails' })
    expect(answer.tasks).toMatchObject([
      { name: 'fails', state: 'failed', attempt: 3, error: 'ACTION_FAILED: planted' },
      { name: 'nothing', state: 'skipped', error: 'nothing came' },
    ])
  })

  it('says what waits for whom, before its deadline, and takes the answer', async () => {
    const { code, out } = await sluice(folder, ['test', 'asks'])
    expect(code).toBe(1)
    expect(out).toMatch(/state {5}running, and waits/)
    expect(out).toMatch(/go-on +deferred +1 +an answer to "go on\?" until \S+; --approve go-on gives it/)
    const answered = await json('asks', '--approve', 'go-on={"why":"it is time"}')
    expect(answered).toMatchObject({ code: 0, answer: { state: 'success', result: 'over' } })
    expect(answered.answer.started).toMatchObject([{ workflow: 'waits', state: 'success' }])
    expect(await json('asks', '--approve', 'go-on')).toMatchObject({ code: 2, err: expect.stringContaining('/why') })
    expect(await json('asks', '--approve', 'go-on={')).toMatchObject({
      code: 2,
      err: expect.stringContaining('no JSON'),
    })
  })

  it('has the secrets of this machine, and its connections', async () => {
    expect(await json('secretly')).toMatchObject({ code: 0, answer: { result: 12 } })
    const { code, answer } = await json('outside')
    expect(code).toBe(1)
    expect(answer.tasks[0].error).toMatch(/^CONNECTION_UNKNOWN: .*web/)
  })

  it.each([
    [['hullo'], 'There is no workflow hullo; did you mean hello?'],
    [['hello', '-p', 'nmae=Ada'], 'There is no parameter nmae; did you mean name?'],
    [['asks', '-p', 'n=1.5'], 'do not fit: /params/n'],
    [['hello', '--start', 'yesterday'], 'start is "yesterday"; write 2026-01-01T00:00:00Z'],
    [['waits', '--at-most', 'soon'], 'soon'],
    [['-p', 'name=Ada'], 'sluice test WORKFLOW -p name=value'],
  ])('refuses %j, with exit code 2', async (args, message) => {
    const { code, err } = await json(...args)
    expect(err).toContain(message)
    expect(code).toBe(2)
  })

  it('refuses a project with a fault, and says where it is', async () => {
    const wrong = await project('wrong', { 'workflows/wrong.ts': 'export const a = = 1\n' })
    const { code, err } = await sluice(wrong, ['test', 'hello'])
    expect(code).toBe(1)
    expect(err).toContain('workflows/wrong.ts:1:18 Unexpected "="')
  })
})
