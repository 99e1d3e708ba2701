/** What is told of hosts, and that it is shown and taken back. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { listHosts } from '../store/fetch-hosts.ts'
import { registerNode, removeNodes } from '../store/nodes.ts'
import { type AskedHost, keepTelling, notable } from './tell-hosts.ts'

let test: TestDatabase
beforeAll(async () => {
  test = await testDatabase()
})
afterAll(() => test.drop())

const atRest = { circuit: 'closed', inFlight: 0, queued: 0, requests: 9, lastError: null, retryAt: null } as const
const host = (name: string, given: Partial<AskedHost> = {}): AskedHost => ({
  connection: 'web',
  host: name,
  ...atRest,
  ...given,
})
const shown = (circuit: 'open' | null = null) =>
  listHosts(test.db, { circuit, after: ['', '', ''], limit: 1_000 }).then((hosts) => hosts.map((found) => found.host))

it('those at rest are left out; of the others 200 are told, those in trouble first, then the busiest', () => {
  const busy = Array.from({ length: 300 }, (_, n) => host(`busy-${n}`, { inFlight: n + 1 }))
  const told = notable([host('rest'), ...busy, host('open', { circuit: 'open' }), host('asked', { retryAt: 5 })])
  expect(told.map((found) => found.host).slice(0, 4)).toEqual(['open', 'asked', 'busy-299', 'busy-298'])
  expect(told).toHaveLength(200)
})

it('a dead host and one that rests show up, change, and go away; so does a process', async () => {
  const node = randomUUID()
  await registerNode(test.db, { id: node, kind: 'shard', host: 'here', pid: 1, leaseMs: 60_000 })
  const dead = host('dead.test', { circuit: 'open', lastError: 'refused: key=secret', retryAt: 5_000 })
  const resting = host('resting.test', { retryAt: 9_000 })
  let hosts = [dead, resting]
  const hush = keepTelling({
    ...{ db: test.db, node, everyMs: 5, hosts: () => hosts },
    redact: (text) => text.replace('secret', '***'),
  })
  await vi.waitFor(async () => expect(await shown()).toEqual(['dead.test', 'resting.test']), 20_000)
  const [first] = await listHosts(test.db, { circuit: 'open', after: ['', '', ''], limit: 10 })
  expect(first).toEqual({ ...dead, node, lastError: 'refused: key=***', retryAt: new Date(5_000) })
  expect(await listHosts(test.db, { circuit: null, after: ['dead.test', 'web', node], limit: 1 })).toMatchObject([
    { host: 'resting.test' },
  ])

  hosts = [host('dead.test'), resting]
  await vi.waitFor(async () => expect(await shown()).toEqual(['resting.test']), 20_000)
  expect(await shown('open')).toEqual([])
  hosts = []
  await vi.waitFor(async () => expect(await shown()).toEqual([]), 20_000)

  hosts = [dead]
  await vi.waitFor(async () => expect(await shown()).toEqual(['dead.test']), 20_000)
  hush()
  await removeNodes(test.db, [node])
  expect(await shown()).toEqual([])
})
