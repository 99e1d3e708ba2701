import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { testApi } from '../../../test/test-api.ts'
import { type FetchHost, tellHosts } from '../../store/fetch-hosts.ts'
import { registerNode } from '../../store/nodes.ts'

const host = (name: string, given: Partial<FetchHost> = {}): FetchHost => ({
  ...{
    connection: 'web',
    host: name,
    circuit: 'closed',
    inFlight: 1,
    queued: 0,
    requests: 1,
    lastError: null,
    retryAt: null,
  },
  ...given,
})

it('lists the hosts of processes that live, page by page, by circuit, and refuses what it does not know', async () => {
  const { app, db } = await testApi()
  const [node, lapsed] = [randomUUID(), randomUUID()]
  await registerNode(db, { id: node, kind: 'shard', host: 'here', pid: 1, leaseMs: 600_000 })
  await registerNode(db, { id: lapsed, kind: 'shard', host: 'here', pid: 2, leaseMs: -1 })
  const dead = host('b.test', { circuit: 'open', lastError: 'refused: nobody', retryAt: new Date(1_000) })
  await tellHosts(db, node, [host('a.test'), dead, host('c.test:8443')])
  await tellHosts(db, lapsed, [host('gone.test')])

  const first = (await app.inject('/api/v1/hosts?limit=2')).json()
  expect(first.items.map((item: FetchHost) => item.host)).toEqual(['a.test', 'b.test'])
  expect(first.items[1]).toEqual({ ...dead, node, retryAt: '1970-01-01T00:00:01.000Z' })
  const second = (await app.inject(`/api/v1/hosts?limit=2&cursor=${first.nextCursor}`)).json()
  expect(second).toMatchObject({ items: [{ host: 'c.test:8443' }], nextCursor: null })

  expect((await app.inject('/api/v1/hosts?circuit=open')).json()).toMatchObject({ items: [{ host: 'b.test' }] })
  expect((await app.inject('/api/v1/hosts?circuit=ajar')).statusCode).toBe(422)
  expect((await app.inject('/api/v1/hosts?cursor=x')).json()).toMatchObject({ code: 'INVALID_CURSOR' })
})
