/** `sluice streams pause|resume|drain|rewind|scale|operations` against the API itself. */
import { expect, it, vi } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { cliAt } from '../../test/test-cli.ts'
import { acquire, ensureShards, renew } from '../store/shards.ts'
import { streamControls } from '../store/stream-controls.ts'
import { ensureTopic } from '../store/topics.ts'

async function world() {
  const api = await testApi()
  await ensureTopic(api.db, 'urls', 2)
  await ensureShards(api.db, 'images', 'urls')
  let looks = 0
  api.app.server.on('request', ({ method }) => {
    if (method === 'GET') looks += 1
  })
  const { run } = await cliAt(api, 'streams')
  return Object.assign(run, { db: api.db, looks: () => looks })
}

it('pauses, drains until nothing is open, and resumes', async () => {
  const run = await world()
  expect(await run('pause', 'images', '--note', 'a move')).toMatchObject({ code: 0, out: 'images is paused now\n' })
  expect((await run('pause', 'images')).out).toBe('images was paused already\n')
  expect((await run('drain', 'images', '--wait')).out).toBe('images reads nothing more, and nothing of it is open\n')
  expect(JSON.parse((await run('drain', 'images', '--wait', '--json')).out)).toEqual({
    ...{ name: 'images', mode: 'draining', changed: false, open: 0 },
  })
  expect((await run('resume', 'images')).out).toBe('images goes on now\n')
  const { out } = await run('operations', 'images')
  expect(out.split('\n').map((line) => line.split(/ +/)[1])).toEqual(['ACT', 'resume', 'drain', 'pause', undefined])
  expect(out).toContain('a move')
})

it('waits until every holder has told that it is drained, and not when somebody asks for something else', async () => {
  const run = await world()
  const holder = '0199d0a0-0000-7000-8000-00000000000a'
  // Just read: the figures of its last renewal know of nothing in its steps.
  const [held] = await acquire(run.db, ['images'], holder, 600_000, 1)
  let over = false
  const waited = run('drain', 'images', '--wait').finally(() => {
    over = true
  })
  const change = async () => (await streamControls(run.db, ['images'])).get('images')?.change
  await vi.waitUntil(async () => (await change()) !== undefined, { timeout: 30_000 })
  const tell = async (drained: number | undefined) =>
    renew(run.db, holder, 600_000, [{ ...held!, inFlight: 0, parked: 0, drained }])
  const looks = run.looks()
  await vi.waitUntil(() => run.looks() > looks + 1, { timeout: 30_000 })
  expect(over).toBe(false)
  await tell(await change())
  expect((await waited).out).toBe('images reads nothing more, and nothing of it is open\n')

  await run('resume', 'images')
  const again = run('drain', 'images', '--wait')
  await vi.waitUntil(async () => (await change()) === 3, { timeout: 30_000 })
  await run('pause', 'images')
  const stopped = await again
  expect([stopped.code, stopped.out]).toEqual([1, ''])
  expect(stopped.err).toContain('images does not drain any more: it is paused')
})

it('rewinds and scales', async () => {
  const run = await world()
  const { out } = await run('rewind', 'images', '--to', 'beginning')
  expect(
    out
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().split(/ {2,}/).join(' ')),
  ).toEqual(['PARTITION FROM TO RECORDS AGAIN', '0 0 0 0', '1 0 0 0'])
  expect((await run('rewind', 'images', '--to', '2026-03-28T12:00:00Z', '--partition', '1')).code).toBe(0)
  expect((await run('scale', 'images', '--partitions', '3')).out).toBe('the topic urls has now 3 partitions\n')
  expect((await run('scale', 'images', '--partitions', '3')).out).toBe('the topic urls has 3 partitions\n')
})

it.each([
  [['pause'], 2, "missing required argument 'stream'"],
  [['pause', 'nothing'], 2, 'There is no stream "nothing"'],
  [['rewind', 'images'], 2, "required option '--to <place>' not specified"],
  [['rewind', 'images', '--to', 'yesterday'], 2, 'an offset, a time such as 2026-03-28T12:00:00Z, or beginning'],
  [['rewind', 'images', '--to', '0', '--partition', '9'], 2, 'images has no partition 9'],
  [['scale', 'images', '--partitions', '0'], 2, 'a whole number from 1 to 256'],
  [['scale', 'images', '--partitions', '1'], 1, 'none is ever taken away'],
])('streams %j ends with %i and says what is allowed', async (argv, code, said) => {
  const run = await world()
  const done = await run(...argv)
  expect([done.code, done.out]).toEqual([code, ''])
  expect(done.err).toContain(said)
})
