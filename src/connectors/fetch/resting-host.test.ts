/** A host that asks to be left alone, and one that does not answer, over real sockets. */
import { describe, expect, it } from 'vitest'
import { failureOf, open, openTo, serve, serveSocket, thrownBy } from './loopback.fixture.ts'

const start = Date.UTC(2024, 0, 1)

/** A clock that stands still until it is moved. */
function handClock() {
  let now = start
  return {
    now: () => now,
    move: (ms: number) => {
      now += ms
    },
  }
}

describe('Retry-After', () => {
  it.each([
    ['3', 3_000],
    [new Date(start + 7_000).toUTCString(), 7_000],
    ['999999999999', 3_600_000],
    [new Date(start + 10 ** 11).toUTCString(), 3_600_000],
  ])('%s holds for the whole host, for %i ms', async (header, ms) => {
    const clock = handClock()
    const { origin, seen } = await serve((request, response) => {
      if (request.url === '/busy') response.writeHead(429, { 'retry-after': header }).end()
      else response.end('ok')
    })
    const client = openTo(origin, {}, { clock })
    expect(await client.get('https://pictures.test/busy')).toMatchObject({ status: 429, retryAfterMs: ms })
    const sentBack = await thrownBy(client.get('https://pictures.test/other'))
    expect(sentBack).toMatchObject({ code: 'HOST_RESTING', retryable: true, isAttempt: false, retryAfterMs: ms })
    expect(client.hosts()).toMatchObject([{ host: 'pictures.test', circuit: 'closed', retryAt: start + ms }])
    clock.move(ms - 1)
    expect(await failureOf(client.get('https://pictures.test/other'))).toBe('HOST_RESTING')
    expect(seen).toHaveLength(1)
    clock.move(1)
    expect((await client.get('https://pictures.test/other')).status).toBe(200)
  })

  it.each([
    ['a date that has passed', 429, new Date(start - 7_000).toUTCString()],
    ['no time', 429, '0'],
    ['garbage', 503, 'soon'],
    ['a negative number', 429, '-5'],
    ['a fraction', 429, '1.5'],
    ['nothing', 429, ''],
    ['a time, beside another status', 404, '30'],
    ['a time, beside success', 200, '30'],
  ])('of %s leaves the host as it is', async (_, status, header) => {
    const { origin, seen } = await serve((_request, response) => {
      response.writeHead(status, { 'retry-after': header }).end()
    })
    const client = openTo(origin, {}, { clock: handClock() })
    for (let round = 0; round < 3; round += 1) {
      expect((await client.get('https://pictures.test/')).status).toBe(status)
    }
    expect(seen).toHaveLength(3)
  })

  it('of one host does not hold up another', async () => {
    const busy = await serve((_, response) => response.writeHead(503, { 'retry-after': '60' }).end())
    const quick = await serve((_, response) => response.end('ok'))
    const rewrite = [
      { from: 'https://busy.test', to: busy.origin },
      { from: 'https://quick.test', to: quick.origin },
    ]
    const client = open({ rewrite }, { clock: handClock() })
    expect((await client.get('https://busy.test/')).status).toBe(503)
    expect(await failureOf(client.get('https://busy.test/'))).toBe('HOST_RESTING')
    expect((await client.get('https://quick.test/')).status).toBe(200)
  })

  it('of the host that a redirect leads to is heeded too', async () => {
    const busy = await serve((_, response) => response.writeHead(503, { 'retry-after': '60' }).end())
    const first = await serve((_, response) => response.writeHead(302, { location: 'https://busy.test/' }).end())
    const rewrite = [
      { from: 'https://busy.test', to: busy.origin },
      { from: 'https://first.test', to: first.origin },
    ]
    const client = open({ rewrite }, { clock: handClock() })
    expect((await client.get('https://first.test/')).status).toBe(503)
    expect(await failureOf(client.get('https://first.test/'))).toBe('HOST_RESTING')
    expect([first.seen.length, busy.seen.length]).toEqual([2, 1])
  })
})

describe('a dead host', () => {
  const circuit = { failures: 3, base: '1s', max: '4s', patience: '10s' }

  it('is left alone after so many failures, probed by one, and asked again once it answers', async () => {
    const clock = handClock()
    let dead = true
    const { origin, state } = await serveSocket((socket) => {
      if (dead) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    const client = openTo(origin, { circuit }, { clock, random: () => 0.5 })
    const get = () => client.get('https://pictures.test/')
    for (let round = 0; round < 3; round += 1) expect(await failureOf(get())).toBe('reset')
    for (let round = 0; round < 5; round += 1) expect(await failureOf(get())).toBe('HOST_RESTING')
    expect(state.requests).toBe(3)
    expect(client.hosts()).toMatchObject([
      { host: 'pictures.test', circuit: 'open', inFlight: 0, queued: 0, retryAt: start + 500 },
    ])
    expect(client.hosts()[0]?.lastError).toMatch(/^reset: /)
    clock.move(500)
    expect(await Promise.all([failureOf(get()), failureOf(get())])).toEqual(['reset', 'HOST_RESTING'])
    expect([state.requests, client.hosts()[0]?.retryAt]).toEqual([4, start + 500 + 1_000])
    dead = false
    clock.move(1_000)
    expect((await get()).status).toBe(200)
    expect(client.hosts()).toMatchObject([{ circuit: 'closed', lastError: null, retryAt: null }])
  })

  it('that has been dead for longer than the patience makes what comes fail', async () => {
    const clock = handClock()
    const client = open({ circuit }, { clock, random: () => 0.5, lookup: async () => [] })
    const get = () => client.get('https://nowhere.test/')
    const ends: string[] = []
    for (let quarter = 0; quarter < 80; quarter += 1) {
      ends.push(await failureOf(get()))
      if (quarter >= 2) clock.move(250)
    }
    const waits = ends.lastIndexOf('HOST_RESTING')
    expect(ends.slice(0, 4)).toEqual(['dns', 'dns', 'dns', 'HOST_RESTING'])
    expect(waits).toBeLessThanOrEqual(44)
    expect(ends.filter((end) => end === 'dns').length).toBeLessThanOrEqual(16)
    expect(new Set(ends.slice(waits + 1))).toEqual(new Set(['dns', 'circuit-open']))
  })

  it('does not hold up another, which goes on while a hundred come to the dead one', async () => {
    const quick = await serve((_, response) => response.end('ok'))
    const gone = await serve(() => {})
    await gone.close()
    const rewrite = [
      { from: 'https://dead.test', to: gone.origin },
      { from: 'https://quick.test', to: quick.origin },
    ]
    const client = open({ rewrite, circuit, perHost: 2 })
    const dead = Promise.all(Array.from({ length: 100 }, () => failureOf(client.get('https://dead.test/'))))
    const alive = await Promise.all(Array.from({ length: 100 }, () => client.get('https://quick.test/')))
    expect(alive.every(({ status }) => status === 200)).toBe(true)
    const ends = await dead
    const refused = ends.filter((end) => end === 'refused').length
    expect([refused >= 3 && refused <= 4, ends.every((end) => end === 'refused' || end === 'HOST_RESTING')]).toEqual([
      true,
      true,
    ])
  })

  it('is not one that answers, whatever it answers', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url === '/cut') response.writeHead(200, { 'content-length': 9 }).write('x', () => response.destroy())
      else response.writeHead(500).end()
    })
    const client = openTo(origin, { circuit })
    for (let round = 0; round < 10; round += 1) {
      expect((await client.get('https://pictures.test/')).status).toBe(500)
      expect(await failureOf(client.get('https://pictures.test/cut'))).toBe('truncated')
    }
    expect(client.hosts()).toMatchObject([{ circuit: 'closed' }])
  })
})

describe('the hosts of a client', () => {
  it('are at most 4,096, however many are asked', async () => {
    const client = open({}, { lookup: async () => [] })
    for (let host = 0; host < 4_200; host += 1) await client.get(`http://h${host}.test/`).catch(() => {})
    expect(client.hosts()).toHaveLength(4_096)
    expect(client.hosts().at(-1)).toMatchObject({ host: 'h4199.test', inFlight: 0, queued: 0 })
  })
})
