/** `sluice plans` against the API itself. */
import { expect, it } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { cliAt, cliSays } from '../../test/test-cli.ts'
import { recordTicks } from '../store/plans.ts'

async function world() {
  const api = await testApi({ clock: { now: () => Date.parse('2026-03-28T12:30:00Z') } })
  const { run } = await cliAt(api, 'plans')
  return { db: api.db, run: async (...argv: string[]) => inLines(await run(...argv)) }
}

const inLines = <T extends { out: string }>(told: T) => {
  const lines = told.out.trimEnd().split('\n')
  return { ...told, lines: lines.map((line) => line.replace(/ +/g, ' ')) }
}

/** Without a server. */
const alone = async (...argv: string[]) => inLines(await cliSays(['plans', ...argv]))

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
  const { code, lines } = await alone('--preview', '30 2 29 3 *', '--timezone', 'Europe/Paris', '--next', '3')
  expect([code, lines.length, lines[0]]).toEqual([0, 4, 'UTC LOCAL'])
  expect(lines[1]).toMatch(/^\d{4}-03-29T\d\d:\d\d:00\.000Z \d{4}-03-29T0[23]:[03]0:00\+0[12]:00$/)
})

it.each([
  [['--preview', '0 0 30 2 *'], 'would never fire'],
  [['--preview', '0 2 * * *', '--timezone', 'Europe/Pari'], 'did you mean "Europe/Paris"?'],
  [['--timezone', 'Europe/Paris'], '--timezone goes with --preview'],
  [['--next', '0'], 'Allowed is a whole number from 1 to 100'],
])('refuses %j', async (argv, why) => {
  const { code, err, out } = await alone(...argv)
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
