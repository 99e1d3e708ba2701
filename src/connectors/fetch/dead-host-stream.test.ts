/** The records of a dead host, in a stream: they wait in the durable table, use up no attempt, and hold up nobody. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { StreamWorld } from '../../../test/stream-world.ts'
import { z } from '../../sdk/schema.ts'
import { documents, type Stream, stream } from '../../sdk/stream.ts'
import { topic } from '../../sdk/topic.ts'
import { totals } from '../../store/ledger.ts'
import { failureOf, open, serve, serveSocket } from './loopback.fixture.ts'

let world: StreamWorld
beforeAll(async () => {
  world = await StreamWorld.open()
})
afterAll(() => world.close())

const [dead, alive] = [20, 30]

it('records of a dead host wait durably, over a restart too, while another host is served; then all are written', async () => {
  let [revived, now, sentBack] = [false, 0, 0]
  const quick = await serve((_, response) => response.end('ok'))
  const slow = await serveSocket((socket) => {
    if (revived) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    else socket.destroy()
  })
  const rewrite = [
    { from: 'https://alive.test', to: quick.origin },
    { from: 'https://dead.test', to: slow.origin },
  ]
  // its clock stands still, so that the circuit, once open, stays so until the clock is moved
  const client = open(
    { rewrite, circuit: { failures: 3, base: '50ms', max: '50ms' } },
    { clock: { now: () => now }, random: () => 0.999 },
  )
  for (let count = 0; count < 3; count += 1) expect(await failureOf(client.get('https://dead.test/'))).toBe('reset')

  const schema = z.object({ n: z.number(), url: z.string() })
  const pages: unknown = stream('pages', {
    from: topic('page-urls', { schema, partitions: 1 }),
    id: ({ n }) => n,
    concurrency: { total: 4, per: ({ url }) => new URL(url).host, each: 2 },
    steps: (records) =>
      records.step(async ({ n, url }: { n: number; url: string }, { signal }) => {
        const { body } = await client.get(url, { signal }).catch((thrown: Error & { code?: string }) => {
          if (thrown.code === 'HOST_RESTING') sentBack += 1
          throw thrown
        })
        return { id: String(n), text: String(body) }
      }),
    to: documents('pages', { key: 'id' }),
    retry: { attempts: 2, base: '1ms', max: '1ms' },
  })
  const definition = pages as Stream
  const written = async () => (await world.documents('pages')).length
  const urls = Array.from({ length: dead + alive }, (_, n) => ({
    n,
    url: `https://${n < dead ? 'dead' : 'alive'}.test/${n}`,
  }))
  await world.make(definition)
  await world.publishValues('page-urls', urls)

  const [first] = await world.openShards(definition)
  await vi.waitFor(async () => expect([await written(), sentBack > dead * 3]).toEqual([alive, true]), 30_000)
  first!.drop()
  await first!.closed
  const waiting = await world.waiting('pages')
  expect(waiting).toHaveLength(dead)
  expect(new Set(waiting.map(({ attempts }) => attempts))).toEqual(new Set([0]))
  expect([slow.state.requests, client.hosts().find(({ host }) => host === 'dead.test')?.circuit]).toEqual([3, 'open'])

  revived = true
  now += 50
  await world.runToRest(definition)
  expect(await written()).toBe(dead + alive)
  expect(await totals(world.db, 'pages')).toMatchObject({ received: 50, written: 50, dead: 0, pending: 0 })
  expect(await world.breaches()).toEqual([])
})
