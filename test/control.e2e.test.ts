/** Runs in the hands of people, through the command line: `sluice serve` and commands in processes of their own. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Project, type RunningSluice, sluice, sluiceEnds, startSluice, until } from './sluice-process.ts'

let project: Project
let server: RunningSluice
let dir: string
beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-control-'))
  dir = join(folder, 'files')
  await mkdir(dir)
  await symlink(join(import.meta.dirname, '../node_modules'), join(folder, 'node_modules'))
  await symlink(join(import.meta.dirname, 'programs/control-project/workflows'), join(folder, 'workflows'))
  const home = join(folder, '.sluice')
  project = {
    folder,
    home,
    environment: { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home, SLUICE_RUNNERS: '1' },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
  server = await startSluice(project)
})
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

const says = (name: string, text: string) => writeFile(join(dir, name), text)
const forget = (...names: string[]) => Promise.all(names.map((name) => rm(join(dir, name), { force: true })))
const cli = <Answer = Record<string, unknown>>(...args: string[]) => sluice<Answer>(project, ...args)
const run = (workflow: string, ...more: string[]) => cli<{ id: string }>('run', workflow, '-p', `dir=${dir}`, ...more)
interface Shown {
  readonly state: string
  readonly result: unknown
  readonly retryOf: string | null
  readonly items: readonly { readonly name: string; readonly state: string; readonly wait: { kind: string } | null }[]
}
const show = (id: string) => cli<Shown>('show', id)
const shownWhen = (id: string, wanted: (shown: Shown) => boolean) => until(() => show(id), wanted)

/** Of people: exit code, and what stands on both outputs. */
function spoken(...args: string[]): Promise<{ code: number; text: string }> {
  const bin = join(import.meta.dirname, '../bin/sluice.mjs')
  return new Promise((resolve) => {
    execFile(process.execPath, [bin, ...args], { cwd: project.folder, env: project.environment }, (error, out, err) =>
      resolve({ code: Number(error?.code ?? 0), text: out + err }),
    )
  })
}

it('retry runs again what failed, waits, and tells the result', async () => {
  await says('right', 'fail')
  const { code, answer } = await sluiceEnds<{ id: string; state: string }>(
    project,
    ...['run', 'diamond', '-p', `dir=${dir}`, '--wait'],
  )
  expect([code, answer.state]).toEqual([1, 'failed'])
  await says('right', '7')
  expect(await cli('retry', answer.id, '--dry-run')).toMatchObject({ dryRun: true, total: 2 })
  const again = await cli('retry', answer.id, '--note', 'mended', '--wait')
  expect(again).toMatchObject({ state: 'success', result: { last: { given: [{ full: 'left' }, 7] } } })
  const { text } = await spoken('show', answer.id)
  expect(text).toContain('result    {"last":')
  expect((await spoken('retry', answer.id)).text).toContain('no task of it has failed')
  expect(await spoken('retry', answer.id, '--from', 'rihgt')).toEqual({
    ...{ code: 2, text: expect.stringContaining('did you mean right?') },
  })
  const from = await spoken('retry', answer.id, '--from', 'right', '--fresh')
  expect(from).toEqual({ code: 0, text: expect.stringContaining('2 tasks run again') })
  await shownWhen(answer.id, ({ state }) => state === 'success')

  const latest = await cli<{ id: string; state: string }>(
    'retry',
    answer.id,
    '--version',
    'latest',
    '--from',
    'last',
    '--wait',
  )
  expect(latest.state).toBe('success')
  const third = await cli<{ id: string }>('retry', latest.id, '--version', 'latest')
  await shownWhen(third.id, ({ state }) => state === 'success')
  expect((await spoken('show', third.id)).text).toContain(`retry of  ${latest.id}, of ${answer.id}`)
  expect((await spoken('show', answer.id)).text).toContain(`retried   ${latest.id}`)
  expect((await spoken('retry', answer.id, '--version', 'newest')).code).toBe(2)
  expect((await spoken('retry', answer.id, '--version', 'latest', '--fresh')).code).toBe(2)
  await forget('right')
})

it('pause and resume hold a workflow up and let it go on', async () => {
  await says('first', 'gate')
  const { id } = await run('diamond')
  await until(async () => existsSync(join(dir, 'first.1.started')), Boolean)
  expect((await spoken('pause', 'diamond')).text).toBe('diamond is paused now\n')
  expect((await spoken('pause', 'diamond')).text).toBe('diamond was paused already\n')
  await writeFile(join(dir, 'first.go'), '')
  const shown = await shownWhen(id, ({ items }) => items[0]!.state === 'success')
  expect(shown.items.map(({ state }) => state).slice(1, 3)).toEqual(['none', 'none'])
  expect((await spoken('resume', 'diamond')).text).toBe('diamond is resumed now\n')
  await shownWhen(id, ({ state }) => state === 'success')
  expect(await spoken('pause', 'diamnod')).toEqual({ code: 2, text: expect.stringContaining('did you mean diamond?') })
  await forget('first', 'first.go', 'first.1.started')
})

it('approvals lists what waits, approve answers it, show says what is waited for', async () => {
  const { id } = await run('asks', '-p', 'what=numbers')
  await shownWhen(id, ({ items }) => items[0]!.wait?.kind === 'approval')
  expect((await spoken('show', id)).text).toContain('an answer to "Publish it?"')
  const { items } = await cli<{ items: { runId: string; shown: unknown }[] }>('approvals', '--run', id)
  expect(items).toMatchObject([{ runId: id, shown: { what: 'numbers' } }])
  expect((await spoken('approvals')).text).toMatch(/amount, why +Publish it\?/)
  expect((await spoken('approve', id, 'ask', '-p', 'amuont=5')).text).toContain('did you mean amount?')
  const wrong = await spoken('approve', id, 'ask', '-p', 'amount=0')
  expect(wrong).toEqual({ code: 2, text: expect.stringContaining('/body/form/amount') })
  expect((await spoken('approve', id, 'aks')).text).toContain('did you mean ask?')
  expect((await spoken('approve', id, 'ask', '--refuse', '-p', 'amount=1')).code).toBe(2)
  expect((await spoken('approve', id, 'ask', '-p', 'amount=5', '--note', 'ok', '--by', 'ann')).text).toBe(
    `ask of ${id} is approved by ann\n`,
  )
  const done = await shownWhen(id, ({ state }) => state === 'success')
  expect(done.result).toMatchObject({ answer: { by: 'ann', note: 'ok', form: { amount: 5, why: 'because' } } })
  expect(await spoken('approve', id, 'ask', '--by', 'bob', '-p', 'amount=6')).toEqual({
    ...{ code: 1, text: expect.stringContaining('answered already') },
  })
  const refused = await run('asks', '-p', 'what=more')
  await shownWhen(refused.id, ({ items: tasks }) => tasks[0]!.state === 'deferred')
  await cli('approve', refused.id, 'ask', '--refuse', '--note', 'no')
  const skipped = await shownWhen(refused.id, ({ state }) => state === 'success')
  expect(skipped.items.map(({ state }) => state)).toEqual(['skipped', 'skipped'])
})

it('show says which run a task started, and of which run one is a part', async () => {
  await says('inner', 'gate')
  const { id } = await run('outer')
  await until(async () => existsSync(join(dir, 'inner.1.started')), Boolean)
  const { text } = await spoken('show', id)
  const child = /run (\S+) \(running\)/.exec(text)?.[1] as string
  expect((await spoken('show', child)).text).toContain(`part of   ${id}`)
  await writeFile(join(dir, 'inner.go'), '')
  await shownWhen(id, ({ state }) => state === 'success')
})
