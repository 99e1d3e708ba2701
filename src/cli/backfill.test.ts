/** `sluice backfill` and `sluice backfills` against the API itself, with the loop of an engine that submits the runs. */
import { expect, it } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { cliAt } from '../../test/test-cli.ts'
import { Backfills } from '../engine/backfill.ts'
import { statement } from '../ports/database.ts'
import { systemClock } from '../time.ts'

async function opened() {
  const api = await testApi()
  const { run, json } = await cliAt(api)
  const submitted = () => new Backfills({ db: api.db, clock: systemClock, random: Math.random, note: () => {} }).wake()
  return { db: api.db, run, json, submitted }
}

const day = ['backfill', 'catalog', '--from', '2026-03-01', '--to', '2026-03-02', '-p', 'file=a.txt']

it('tells what it would do', async () => {
  const { run, json, db } = await opened()
  const { code, out } = await run(...day, '--dry-run', '--max-active', '4')
  expect(code).toBe(0)
  expect(out).toBe(`plan      cron-1, 24 ticks from 2026-03-01T00:00:00.000Z to 2026-03-02T00:00:00.000Z

TICK IS       COUNT
missing          24  has no run
failed            0  its last run failed or was cancelled
code-changed      0  its last run was of other code
stale             0  its last run read a dataset that is newer now
ok                0  nothing is the matter with it
running           0  its run has not ended; left alone
due               0  its plan comes to it by itself; left alone

would run 24, from 2026-03-01T00:00:00.000Z to 2026-03-01T23:00:00.000Z, 4 at once
estimate  no history
`)
  await db.script(`insert into sluice.runs (id, workflow, version, params, state, started_at, finished_at)
    select gen_random_uuid(), 'catalog', repeat('a', 64), '{}', 'success', '2026-01-01', '2026-01-01T00:01:30Z'`)
  expect((await run(...day, '--dry-run', '--max-active', '4')).out).toContain(
    'estimate  9 m 0 s to 9 m 0 s (median 1 m 30 s, p90 1 m 30 s of the last successful run)',
  )
  expect(await json(...day, '--dry-run')).toMatchObject({ chosen: 24, estimate: { history: 1, totalP90Ms: 270_000 } })
  expect((await json('backfills')).items).toEqual([])
})

it('starts, shows, lists, pauses, goes on and cancels', async () => {
  const { run, json, submitted, db } = await opened()
  const started = await run(
    ...day,
    '--note',
    'the source was down',
    '--order',
    'newest',
    '--key',
    'k',
    '--reason',
    'missing',
  )
  expect(started.code).toBe(0)
  const id = started.out.trim()
  expect(
    (
      await run(...day, '--note', 'the source was down', '--order', 'newest', '--key', 'k', '--reason', 'missing')
    ).out.trim(),
  ).toBe(id)
  await submitted()
  expect((await run('backfill', '--show', id)).out).toMatch(
    new RegExp(`^backfill  ${id}
workflow  catalog, plan cron-1, from 2026-03-01T00:00:00.000Z to 2026-03-02T00:00:00.000Z
state     running
which     missing; newest first, 8 at once
by        \\S+: the source was down
ticks     24 of 24 looked at
runs      24: 24 queued, 0 running, 0 success, 0 failed, 0 cancelled
$`),
  )
  const first = statement<{ at: Date; params: object }>(
    'test.first-run',
    'select logical_time as at, params from sluice.runs order by id limit 1',
  )
  expect(await db.query(first)).toEqual([
    { at: new Date('2026-03-01T23:00:00Z'), params: { file: 'a.txt', lines: 10 } },
  ])
  expect((await run('backfill', '--pause', id)).out).toContain('state     running, paused')
  expect(await json('backfill', '--resume', id)).toMatchObject({ id, paused: false })
  expect((await run('backfills')).out.split('\n')[1]).toMatch(/catalog +cron-1 +running +24 +24 +0 +0 +0 +0$/)
  expect((await run('backfill', '--cancel', id)).out).toContain(
    'runs      24: 0 queued, 0 running, 0 success, 0 failed, 24 cancelled',
  )
  await submitted()
  expect(await run('backfill', '--pause', id)).toMatchObject({
    ...{ code: 1, err: 'sluice: The backfill is over already: cancelled\n' },
  })
})

it.each([
  [['backfill'], 2, 'Name a workflow, or use --show, --pause, --resume or --cancel with the id of a backfill'],
  [['backfill', 'catalog', '--from', '2026-03-01'], 2, 'A backfill needs --from and --to, such as'],
  [[...day, '--reason', 'old'], 2, 'Allowed are missing, failed, code-changed, stale, joined by commas.'],
  [[...day, '--reason', 'stale', '--all'], 2, 'Give one of --all and --reason'],
  [[...day, '--max-active', '0'], 2, 'Allowed is a whole number from 1 to 1000.'],
  [[...day, '--order', 'random'], 2, 'Allowed choices are oldest, newest.'],
  [[...day, '--pause', 'x'], 2, '--pause takes the id of a backfill and nothing else'],
  [['backfill', '--pause', 'x', '--cancel', 'y'], 2, 'takes the id of a backfill and nothing else'],
  [['backfill', '--show', 'x'], 2, 'There is no backfill "x"'],
  [
    ['backfill', 'catalogue', '--from', '2026-03-01', '--to', '2026-03-02'],
    2,
    'There is no workflow catalogue; did you mean catalog?',
  ],
  [['backfill', 'empty', '--from', '2026-03-01', '--to', '2026-03-02'], 2, 'A backfill needs a plan by the clock'],
  [['backfill', 'catalog', '--from', '2026-03-01', '--to', '2026-03-02'], 2, 'do not fit catalog: /params/file'],
  [[...day, '-p', 'fil=x'], 2, 'There is no parameter fil; did you mean file?'],
] as const)('%j is refused', async (argv, code, message) => {
  const { run } = await opened()
  expect(await run(...argv)).toEqual({ code, out: '', err: expect.stringContaining(message) })
})
