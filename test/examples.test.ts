/** The gallery: every example is run in virtual time and does exactly what it says; together they are a sound project. */
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { hello } from '../examples/01-hello.ts'
import { parameters } from '../examples/02-parameters.ts'
import { fanOut } from '../examples/03-fan-out.ts'
import { stages } from '../examples/04-stages.ts'
import { rules } from '../examples/05-trigger-rules.ts'
import { branches } from '../examples/06-branch.ts'
import { skips } from '../examples/07-skip.ts'
import { groups } from '../examples/08-groups.ts'
import { setup } from '../examples/09-setup-teardown.ts'
import { retries } from '../examples/10-retries.ts'
import { timeLimits } from '../examples/11-time-limits.ts'
import { durable } from '../examples/12-durable-steps.ts'
import { exports, waits } from '../examples/13-sensor.ts'
import { approval } from '../examples/14-approval.ts'
import { copyAll, copyTable } from '../examples/15-sub-workflow.ts'
import { nested } from '../examples/16-each.ts'
import { dailySales } from '../examples/17-cron.ts'
import { daily, intake, orders, paid } from '../examples/18-events.ts'
import { countLines, programs } from '../examples/19-program.ts'
import { limits } from '../examples/20-limits.ts'
import { build } from '../src/app/build/build.ts'
import { type SimulatedRun, type SimulatedWorld, type SimulateOptions, simulate } from '../src/testing/index.ts'
import { type Project, type RunningSluice, sluice, sluiceEnds, startSluice } from './sluice-process.ts'

const folder = join(import.meta.dirname, '../examples')
const files = readdirSync(folder).filter((name) => /^\d\d-.*\.(ts|yaml)$/.test(name))

let world: SimulatedWorld
afterEach(() => world?.close())

async function open(
  definitions: Parameters<typeof simulate>[0],
  options: SimulateOptions = {},
): Promise<SimulatedWorld> {
  world = await simulate(definitions, options)
  return world
}

/** States by ids; of mapped tasks by `id[index]`. */
function states(run: SimulatedRun): Record<string, string> {
  return Object.fromEntries(
    run.tasks.map(({ id, mapIndex, state }) => [mapIndex < 0 ? id : `${id}[${mapIndex}]`, state]),
  )
}
const inOrder = (run: SimulatedRun) => run.log.map(({ message }) => message)

describe('in virtual time', () => {
  it('01 says hello', async () => {
    const run = await (await open([hello])).start(hello)
    expect(run).toMatchObject({ state: 'success', result: 'Hello!' })
    expect(run.log).toMatchObject([{ task: 'say-hello', level: 'info', message: 'Hello!' }])
  })

  it('02 hands values on, and refuses wrong ones', async () => {
    await open([parameters])
    const run = await world.start(parameters, { text: 'a workflow of few words' })
    expect(run.result).toEqual({ words: 5, shouted: 'A OF FEW WORDS !!' })
    const asked = await world.start(parameters, { text: 'so  it  goes', longest: 2, mark: '?' })
    expect(asked.result).toEqual({ words: 3, shouted: 'SO IT ??' })
    await expect(world.start(parameters, { text: 'x', longest: 0 })).rejects.toThrow(
      'the parameters of parameters do not fit: /params/longest: Too small: expected number to be >=1',
    )
  })

  it('03 fans out, in order', async () => {
    const run = await (await open([fanOut])).start(fanOut)
    const totals = [
      { shop: 'lyon', total: 7 },
      { shop: 'porto', total: 5 },
      { shop: 'lima', total: 0 },
    ]
    expect(run.result).toEqual({ totals, best: 'lyon' })
    expect(run.tasks).toHaveLength(5)
  })

  it('04 runs stages one after another', async () => {
    const run = await (await open([stages])).start(stages)
    expect(run.state).toBe('success')
    expect(inOrder(run)).toEqual(['orders', 'customers', 'warehouse', 'mail', 'chat'])
  })

  it('05 judges by how tasks ended', async () => {
    await open([rules])
    expect(states(await world.start(rules))).toEqual({
      ...{ orders: 'success', customers: 'success', 'all-well': 'success', alarm: 'skipped' },
      ...{ partly: 'success', 'always-last': 'success' },
    })
    const broken = await world.start(rules, { broken: true })
    expect(states(broken)).toEqual({
      ...{ orders: 'success', customers: 'failed', 'all-well': 'upstream_failed', alarm: 'success' },
      ...{ partly: 'success', 'always-last': 'success' },
    })
    expect(broken).toMatchObject({ state: 'failed', error: expect.stringContaining('customers') })
  })

  it.each([
    [0, []],
    [7, ['loading.insert']],
    [5_000, ['loading.copy', 'loading.index']],
  ])('06 takes the arm for %d rows', async (rows, loads) => {
    const run = await (await open([branches])).start(branches, { rows })
    expect(run.state).toBe('success')
    const all = ['loading.insert', 'loading.copy', 'loading.index']
    const expected = Object.fromEntries(all.map((id) => [id, loads.includes(id) ? 'success' : 'skipped']))
    expect(states(run)).toEqual({
      ...{ 'loading.measure': 'success', 'loading.branch': 'success', report: 'success' },
      ...expected,
    })
  })

  it('07 skips what is not wanted, and what has nothing to do', async () => {
    await open([skips])
    const none = await world.start(skips, { count: 0 })
    expect(none.state).toBe('success')
    expect(states(none)).toMatchObject({ 'new-rows': 'skipped', load: 'skipped', mail: 'skipped' })
    expect(none.task('new-rows')?.error).toBe('nothing came today')
    const quiet = await world.start(skips, { count: 2, tell: false })
    expect(states(quiet)).toMatchObject({ load: 'success', mail: 'skipped' })
    expect(inOrder(await world.start(skips, { count: 2 }))).toEqual(['2 rows'])
  })

  it('08 names tasks by their groups', async () => {
    const run = await (await open([groups])).start(groups)
    expect(run).toMatchObject({ state: 'success', result: 'refreshed' })
    expect(Object.keys(states(run)).sort()).toEqual([
      ...['dimensions.customers.extract', 'dimensions.customers.load', 'dimensions.shops.extract'],
      ...['dimensions.shops.load', 'facts.orders.extract', 'facts.orders.load', 'refresh'],
    ])
  })

  it('09 tears down whatever happened', async () => {
    await open([setup])
    const well = await world.start(setup, { sql: 'select 2' })
    expect(well).toMatchObject({ state: 'success' })
    const failed = await world.start(setup, { sql: '' })
    expect(failed.state).toBe('failed')
    for (const run of [well, failed]) {
      expect(run.task('close-cluster')).toMatchObject({ state: 'success' })
      expect(inOrder(run)).toEqual(['cluster-7 is closed'])
    }
  })

  it('10 retries as each error deserves', async () => {
    await open([retries])
    const run = async (service: 'well' | 'weak' | 'busy' | 'locked') => {
      const started = await world.start(retries, { service })
      await world.advance('1d')
      return started
    }
    expect(await run('well')).toMatchObject({ state: 'success', result: { attempts: 1 } })
    expect(await run('weak')).toMatchObject({ state: 'success', result: { attempts: 3 } })
    expect(await run('busy')).toMatchObject({ state: 'success', result: { attempts: 6 } })
    const locked = await run('locked')
    expect(locked.state).toBe('failed')
    expect(locked.task('ask')).toMatchObject({ attempt: 1, error: expect.stringContaining('no retry will help') })
  })

  it('11 ends what takes too long', async () => {
    await open([timeLimits])
    const run = await world.start(timeLimits, { ms: 60_000 })
    await world.advance('2h')
    expect(run.state).toBe('failed')
    expect(run.task('slow')).toMatchObject({ attempt: 2, error: 'TIMEOUT: the attempt took longer than 200 ms' })
    expect(run.task('stubborn')?.state).toBe('failed')
    expect(run.task('stubborn')?.error).toMatch(/^TIMEOUT: /)
    expect(run.finishedAt?.toISOString()).toBe('2026-01-01T01:00:00.000Z')
  })

  it('12 does each step once, and sleeps for 30 days', async () => {
    await open([durable])
    const run = await world.start(durable, { customer: 'ada' })
    await world.advance('29d')
    expect(run.task('send-invoice')).toMatchObject({ state: 'deferred', wait: { kind: 'sleep' } })
    await world.advance('2d')
    expect(run).toMatchObject({ state: 'success', result: { number: 'ada-1001', sent: 2 } })
    expect(inOrder(run)).toEqual(['a number is taken', 'mailed ada-1001', 'reminded of ada-1001'])
  })

  it('13 looks every five minutes, then waits for fifteen', async () => {
    await open([waits, exports])
    const run = await world.start(waits, { day: '2026-03-28' })
    await world.advance('1h')
    expect(run.task('export-is-there')).toMatchObject({ state: 'deferred', attempt: 13 })
    await world.start(exports, { day: '2026-03-28', bytes: 0 })
    await world.advance('5m')
    await world.start(exports, { day: '2026-03-28', bytes: 512 })
    await world.advance('5m')
    expect(states(run)).toEqual({ 'export-is-there': 'success', wait: 'deferred' })
    await world.advance('15m')
    expect(run).toMatchObject({ state: 'success', result: '2026-03-28.csv is loaded' })
    const vain = await world.start(waits, { day: 'never' })
    await world.advance('6h')
    expect(vain).toMatchObject({ state: 'failed' })
    expect(vain.task('export-is-there')?.error).toMatch(/^TIMEOUT: /)
  })

  it('14 asks a person', async () => {
    await open([approval])
    const [yes, no, late] = [await world.start(approval), await world.start(approval), await world.start(approval)]
    expect(world.approvals[0]).toMatchObject({ title: 'publish?', shown: { rows: 1_200 } })
    await world.answer({ run: yes.id, task: 'publish' }, { approved: true, by: 'ada', form: { to: 'prod' } })
    await world.answer({ run: no.id, task: 'publish' }, { approved: false })
    await world.advance('2d')
    expect(yes).toMatchObject({ state: 'success', result: '1200 rows to prod, says ada' })
    expect(no.state).toBe('success')
    expect(Object.values(states(no))).toEqual(['success', 'skipped', 'skipped'])
    expect(late.state).toBe('failed')
  })

  it('15 runs other workflows', async () => {
    await open([copyTable, copyAll])
    const run = await world.start(copyAll, { tables: ['a', 'bb', 'ccc'] })
    expect(run).toMatchObject({ state: 'success', result: { settings: 800, rows: 600 } })
    expect(world.runs(copyTable).map(({ params }) => params)).toEqual([
      ...[{ table: 'settings' }, { table: 'a' }, { table: 'bb' }, { table: 'ccc' }],
    ])
  })

  it('16 runs a body for each item, and one in it', async () => {
    const run = await (await open([nested])).start(nested)
    expect(run.result).toEqual([
      { shop: 'lyon', sales: [14, 14] },
      { shop: 'porto', sales: [16] },
    ])
  })

  it('17 fires on working days of a year, for the day before', async () => {
    await open([dailySales], { start: '2026-01-01T00:00:00Z' })
    await world.advanceTo('2027-01-01T00:00:00Z')
    const byPlan = Map.groupBy(world.ticks, ({ plan }) => plan)
    const workdays = byPlan.get('cron:30 2 * * MON-FRI@Europe/Paris')!
    expect(workdays).toHaveLength(261)
    expect(byPlan.get('weekly')).toHaveLength(52)
    expect(world.runs(dailySales).every(({ state }) => state === 'success')).toBe(true)
    const monday = workdays.find(({ logicalTime }) => logicalTime.toISOString() === '2026-03-30T00:30:00.000Z')!
    expect(world.runs().find(({ id }) => id === monday.run)?.result).toBe('2026-03-27 of eu')
  })

  it('18 goes from a file to lines, to a dataset, to a report', async () => {
    await open([intake, paid, daily, orders])
    await world.drop('in/monday.txt', ['+a', '-b', '+c'])
    await world.advance('1m')
    expect(world.published(orders).map(({ value }) => value)).toEqual([
      { id: 'a', paid: true },
      { id: 'b', paid: false },
      { id: 'c', paid: true },
    ])
    expect(world.runs(paid).map(({ params }) => params)).toEqual([{ id: 'a' }, { id: 'c' }])
    await world.deliver(paid, 'paid', { id: 'd' })
    expect(world.dataset('mart.sales').map(({ metadata }) => metadata)).toEqual([
      { order: 'a' },
      { order: 'c' },
      { order: 'd' },
    ])
    expect(world.runs(daily).map(({ result }) => result ?? null)).toHaveLength(3)
    expect(world.runs().every(({ state }) => state === 'success')).toBe(true)
  })

  it('19 runs programs, from TypeScript and from YAML', async () => {
    await open([programs, '19-program.yaml', countLines], { folder })
    const lines = readFileSync(join(folder, 'README.md'), 'utf8').split('\n').length - 1
    for (const name of ['programs', 'programs-in-yaml']) {
      const run = await world.start(name)
      expect(run).toMatchObject({ state: 'success', result: { text: `README.MD HAS ${lines} LINES` } })
      expect(inOrder(run)).toEqual(['summarizing README.md'])
    }
  })

  it('20 holds pools, keys and rates', async () => {
    await open([limits])
    const run = await world.start(limits, { customer: 'ada', tables: ['a', 'b', 'c', 'd'] })
    expect(run.task('mail', 0)?.state).toBe('success')
    expect(run.task('mail', 1)).toBeUndefined()
    await world.advance('10m')
    expect(run.state).toBe('success')
    const { loaded, mailed } = run.result as { loaded: string[]; mailed: string[] }
    expect(loaded).toEqual(['a', 'b', 'c', 'd'])
    expect(mailed.map((at) => at.slice(11, 19))).toEqual(['00:00:00', '00:00:30', '00:01:00', '00:01:30'])
  })
})

describe('as files', () => {
  it('are twenty, numbered, short, open with what they show, and import only sluice and Node', () => {
    const numbers = new Set(files.map((name) => name.slice(0, 2)))
    expect([...numbers]).toEqual(Array.from({ length: 20 }, (_, index) => String(index + 1).padStart(2, '0')))
    const contents = readFileSync(join(folder, 'README.md'), 'utf8')
    for (const name of files) {
      const text = readFileSync(join(folder, name), 'utf8')
      expect(text, name).toMatch(/^(\/\/|#) [A-Z]/)
      expect(text.split('\n').length, `lines of ${name}`).toBeLessThanOrEqual(55)
      for (const [, from] of text.matchAll(/ from '([^']+)'/g)) expect(from, name).toMatch(/^(sluice$|node:)/)
      expect(contents).toContain(`(${name})`)
    }
  })

  it('build as one project without a fault', async () => {
    const home = await mkdtemp(join(tmpdir(), 'sluice-examples-'))
    try {
      const { manifest } = await build({ projectDir: folder, home })
      expect(manifest.faults).toEqual([])
      expect(manifest.workflows.filter(({ name }) => !name.includes('.'))).toHaveLength(25)
    } finally {
      await rm(home, { recursive: true, force: true })
    }
  })
})

describe('by a real engine', () => {
  let home: string
  let server: RunningSluice
  let project: Project
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'sluice-examples-'))
    const environment = { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home }
    project = { folder, home, environment, remove: () => rm(home, { recursive: true, force: true }) }
    server = await startSluice(project)
  })
  afterAll(async () => {
    await server?.stop()
    await project?.remove()
  })

  it.each([
    ['parameters', ['-p', 'text=a workflow of few words'], { words: 5, shouted: 'A OF FEW WORDS !!' }],
    [
      'nested',
      [],
      [
        { shop: 'lyon', sales: [14, 14] },
        { shop: 'porto', sales: [16] },
      ],
    ],
    ['copy-all', ['-p', 'tables=["a","bb"]'], { settings: 800, rows: 300 }],
  ])('%s gives the same', async (workflow, params, result) => {
    const run = await sluice<{ id: string; state: string }>(project, 'run', workflow, ...params, '--wait')
    expect(run.state).toBe('success')
    expect(await server.get(`/api/v1/runs/${run.id}`)).toMatchObject({ result })
  })

  it('a failure is one there, too', async () => {
    const { code, answer } = await sluiceEnds<{ errors: string[] }>(
      project,
      'run',
      'rules',
      '-p',
      'broken=true',
      '--wait',
    )
    expect(code).toBe(1)
    expect(answer.errors.join()).toContain('customers is locked')
  })
})
