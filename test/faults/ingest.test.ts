/** What a bad network between a serving process and its database does to events: stored = acknowledged, each id once. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SluiceError } from '../../src/errors.ts'
import type { IngestPoint } from '../../src/ports/ingest.ts'
import { until } from '../engine-world.ts'
import { IngestWorld, post, sample } from '../ingest-world.ts'
import { cutsOf, seed, timeout } from './cuts.ts'
import { proxyFor, type TcpProxy } from './tcp-proxy.ts'

let world: IngestWorld
let proxy: TcpProxy
let point: IngestPoint
let closed: () => readonly string[]

beforeEach(async () => {
  world = await IngestWorld.open()
  const opened = await proxyFor(world.test.url)
  proxy = opened.proxy
  const ingest = await world.serve({ url: opened.url })
  closed = ingest.closed
  point = ingest.point()
})
afterEach(async () => {
  proxy.set({ kind: 'pass' })
  await world.close()
  await proxy.close()
})

/** As a client does that has its event acknowledged; gives how often it was turned away. */
async function insist(id: string): Promise<number> {
  for (let refused = 0; ; refused += 1) {
    const ends = await post(point, { ...sample, id }).catch((thrown: unknown) => {
      expect(thrown).toMatchObject({ code: 'UNAVAILABLE', retryAfterMs: expect.any(Number) })
    })
    if (ends !== undefined) return refused
    await delay(5)
  }
}

const ids = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}-${n}`)
const storedIds = async () => (await world.rows()).map(({ eventId }) => eventId).sort()

describe(`a connection cut at any message (seed ${seed})`, () => {
  it('stores each event once, however often it was sent', { timeout }, async () => {
    const all: string[] = []
    for (const [round, cut] of cutsOf(8, 30).entries()) {
      proxy.cut(cut)
      const some = ids(`r${round}`, 20)
      await Promise.all(some.map(insist))
      all.push(...some)
      expect(await storedIds(), JSON.stringify(cut)).toEqual([...all].sort())
    }
    const { received, written, duplicate, rejected } = await world.totals()
    expect([written, rejected, received]).toEqual([all.length, 0, written + duplicate])
    expect(await world.breaches()).toEqual([])
  })
})

describe('PostgreSQL is gone', () => {
  it('requests are turned away at once, and taken again when it is back; what was acknowledged is stored', async () => {
    await insist('before')
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await expect(post(point, { ...sample, id: 'gone' })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await until('the lane to close', () => closed().includes('stats-events'))
    for (const id of ids('gone', 50))
      await expect(post(point, { ...sample, id })).rejects.toEqual(expect.any(SluiceError))
    const taken = Promise.all(ids('back', 20).map(insist))
    proxy.set({ kind: 'pass' })
    expect((await taken).some((refused) => refused > 0)).toBe(true)
    expect(await storedIds()).toEqual(['before', ...ids('back', 20)].sort())
    expect(await world.breaches()).toEqual([])
  })

  it.each([
    ['says nothing more', { kind: 'vanish', of: 'both' }],
    ['does what it is told, and its answers are lost', { kind: 'vanish', of: 'answers' }],
    ['hears what it is told when the fault is over', { kind: 'hold' }],
  ] as const)('it %s: nobody waits for long, and each event is stored once', { timeout: 60_000 }, async (_, fault) => {
    await insist('before')
    proxy.set(fault)
    await expect(post(point, { ...sample, id: 'lost' })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await until('the lane to close', () => closed().includes('stats-events'))
    proxy.set({ kind: 'pass' })
    await Promise.all(['lost', ...ids('after', 10)].map(insist))
    expect(await storedIds()).toEqual(['before', 'lost', ...ids('after', 10)].sort())
    expect(await world.breaches()).toEqual([])
  })
})
