/** `sluice streams` against the API itself. */
import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { cliAt } from '../../test/test-cli.ts'
import { type FetchHost, tellHosts } from '../store/fetch-hosts.ts'
import { registerNode } from '../store/nodes.ts'
import { acquire, ensureShards } from '../store/shards.ts'
import { ensureTopic } from '../store/topics.ts'

const host = (name: string, given: Partial<FetchHost> = {}): FetchHost => ({
  ...{ connection: 'web', host: name, circuit: 'closed', inFlight: 1, queued: 0, requests: 1 },
  ...{ lastError: null, retryAt: null },
  ...given,
})

async function world() {
  const api = await testApi()
  await ensureTopic(api.db, 'urls', 2)
  await ensureShards(api.db, 'images', 'urls')
  const [holder, other] = [randomUUID(), randomUUID()]
  for (const id of [holder, other]) {
    await registerNode(api.db, { id, kind: 'shard', host: 'here', pid: 1, leaseMs: 600_000 })
  }
  await acquire(api.db, ['images'], holder, 600_000, 2)
  const { run } = await cliAt(api, 'streams')
  return { db: api.db, holder, other, run }
}

it('shows of one stream the hosts in trouble of the processes that hold it, the worst first', async () => {
  const { db, holder, other, run } = await world()
  const retryAt = new Date('2026-03-28T12:00:00Z')
  await tellHosts(db, holder, [
    host('busy.test', { inFlight: 6, queued: 100 }),
    host('odd.test', { lastError: 'timeout:\nno answer' }),
    host('dead.test', { circuit: 'open', queued: 3, lastError: 'refused: nobody', retryAt }),
    host('back.test', { circuit: 'half-open', lastError: 'reset: gone' }),
  ])
  await tellHosts(db, other, [host('elsewhere.test', { circuit: 'open' })])
  const { code, out } = await run('images')
  const lines = out.trimEnd().split('\n')
  expect([code, lines[0], lines[1], lines[2]]).toEqual([
    ...[0, expect.stringMatching(/^STREAM +TOPIC +RECEIVED/), expect.stringMatching(/^images +urls +0/), ''],
  ])
  expect(lines.slice(3).map((line) => line.replace(/ +/g, ' '))).toEqual([
    'HOST CIRCUIT QUEUED NOT BEFORE LAST ERROR',
    'dead.test open 3 2026-03-28T12:00:00.000Z refused: nobody',
    'back.test half-open 0 - reset: gone',
    'odd.test closed 0 - timeout: no answer',
  ])
  const json = JSON.parse((await run('images', '--json')).out)
  expect(json).toMatchObject({ name: 'images', totals: { received: 0 } })
  expect(json.hosts.map((one: { host: string }) => one.host)).toEqual(['dead.test', 'back.test', 'odd.test'])
})

it('says how many hosts it leaves out, has no table where all is well, and refuses a stream that is not there', async () => {
  const { db, holder, run } = await world()
  expect((await run('images')).out).not.toContain('HOST')
  expect(JSON.parse((await run('images', '--json')).out).hosts).toEqual([])
  const many = Array.from({ length: 25 }, (_, at) => host(`h${at}.test`, { circuit: 'open' }))
  await tellHosts(db, holder, many)
  const { out } = await run('images')
  expect(out.match(/^h\d+\.test/gm)).toHaveLength(20)
  expect(out.trimEnd()).toMatch(/and 5 hosts more; --json has them all$/)
  const refused = await run('nothing')
  expect([refused.code !== 0, refused.err]).toEqual([true, expect.stringContaining('There is no stream "nothing"')])
  expect((await run()).out).toMatch(/^STREAM .*\nimages /)
})
