/** `sluice plans` against the API itself. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { recordTicks } from '../store/plans.ts'
import { Cli } from './cli.ts'
import { runCli } from './run-cli.ts'

async function world() {
  const api = await testApi({ clock: { now: () => Date.parse('2026-03-28T12:30:00Z') } })
  const { port } = new URL(await api.listen(0, '127.0.0.1'))
  const home = await mkdtemp(join(tmpdir(), 'sluice-cli-plans-'))
  onTestFinished(() => rm(home, { recursive: true }))
  return { db: api.db, run: (...argv: string[]) => sluice([...argv, '--port', port, '--data', home]) }
}

async function sluice(argv: string[]) {
  const told = { out: '', err: '' }
  const cli = new Cli({ write: (some) => (told.out += some) }, { write: (some) => (told.err += some) })
  const code = await runCli(['plans', ...argv], cli, new AbortController().signal)
  return {
    code,
    ...told,
    lines: told.out
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/ +/g, ' ')),
  }
}

it('lists plans with their next tick, and of a workflow its next ticks and parameters', async () => {
  const { run } = await world()
  expect((await run()).lines).toEqual([
    'WORKFLOW PLAN NEXT STARTS A RUN',
    'catalog cron-1 2026-03-28T13:00:00.000Z at 0 * * * * in UTC; catch-up last',
  ])
  const { lines } = await run('catalog', '--next', '2')
  expect(lines.slice(0, 4)).toEqual([
    'cron-1: at 0 * * * * in UTC; catch-up last',
    'UTC LOCAL',
    '2026-03-28T13:00:00.000Z 2026-03-28T13:00:00+00:00',
    '2026-03-28T14:00:00.000Z 2026-03-28T14:00:00+00:00',
  ])
  expect(lines.at(-1)).toMatch(/^by hand, with parameters of \{.*"required":\["file"\]/)
  const json = JSON.parse((await run('catalog', '--json')).out)
  expect(json).toMatchObject({ workflow: 'catalog', items: [{ name: 'cron-1' }], params: { type: 'object' } })
  expect(json.items[0].next).toHaveLength(10)
})

it('shows what became of ticks', async () => {
  const { db, run } = await world()
  const time = { workflow: 'catalog', plan: 'cron-1', logicalTime: new Date('2026-03-28T12:00:00Z') }
  await recordTicks(db, [{ ...time, outcome: 'skipped', reason: 'the workflow is paused', runId: null }])
  expect((await run('--ticks')).lines).toEqual([
    'TIME WORKFLOW PLAN OUTCOME RUN REASON',
    '2026-03-28T12:00:00.000Z catalog cron-1 skipped - the workflow is paused',
  ])
  expect((await run('empty', '--ticks')).out).toBe('')
})

it('previews a pattern without a server', async () => {
  const { code, lines } = await sluice(['--preview', '30 2 29 3 *', '--timezone', 'Europe/Paris', '--next', '3'])
  expect([code, lines.length, lines[0]]).toEqual([0, 4, 'UTC LOCAL'])
  expect(lines[1]).toMatch(/^\d{4}-03-29T\d\d:\d\d:00\.000Z \d{4}-03-29T0[23]:[03]0:00\+0[12]:00$/)
})

it.each([
  [['--preview', '0 0 30 2 *'], 'would never fire'],
  [['--preview', '0 2 * * *', '--timezone', 'Europe/Pari'], 'did you mean "Europe/Paris"?'],
  [['--timezone', 'Europe/Paris'], '--timezone goes with --preview'],
  [['--next', '0'], 'Allowed is a whole number from 1 to 100'],
])('refuses %j', async (argv, why) => {
  const { code, err, out } = await sluice(argv)
  expect([code > 0, out]).toEqual([true, ''])
  expect(err).toContain(why)
})

it('refuses a workflow that is not there', async () => {
  const { run } = await world()
  expect(await run('catalogue')).toMatchObject({
    code: 2,
    err: expect.stringContaining('There is no workflow "catalogue"'),
  })
})
