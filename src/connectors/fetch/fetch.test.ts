import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { fetchSettings } from './fetch.ts'
import { failureClasses } from './fetch-failure.ts'
import { clock, failureOf, open, openTo, serve, serveRaw, thrownBy } from './loopback.fixture.ts'

describe('an answer', () => {
  it('comes whole, with its facts', async () => {
    const body = Buffer.alloc(300_000, 'x')
    const { origin, seen } = await serve((_, response) => {
      response.setHeader('content-type', 'image/jpeg').setHeader('etag', '"1"').setHeader('set-cookie', 'secret=1')
      response.setHeader('content-length', body.length).end(body)
    })
    const result = await openTo(origin, { userAgent: 'tester/1' }).get('https://pictures.test/1/2?x=y#frag', {
      accept: 'image/*',
    })
    expect(result).toMatchObject({
      status: 200,
      url: 'https://pictures.test/1/2?x=y',
      rewrittenTo: `${origin}/1/2?x=y`,
      headers: { 'content-type': 'image/jpeg', 'content-length': '300000', etag: '"1"' },
      fetchedAt: clock.now(),
      redirects: 0,
    })
    expect(Object.keys(result.headers)).not.toContain('set-cookie')
    expect(result.body.equals(body)).toBe(true)
    expect(result.timings.totalMs).toBeGreaterThanOrEqual(result.timings.firstByteMs)
    expect(result.timings.firstByteMs).toBeGreaterThanOrEqual(result.timings.connectMs)
    expect(seen[0]?.headers).toMatchObject({
      'user-agent': 'tester/1',
      accept: 'image/*',
      'accept-encoding': 'identity',
      host: new URL(origin).host,
    })
  })

  it.each([404, 410, 429, 500, 503])('of status %i is a result too', async (status) => {
    const { origin } = await serve((_, response) => {
      response.writeHead(status, { 'retry-after': '3' }).end('no')
    })
    const result = await openTo(origin).get('https://pictures.test/')
    expect(result).toMatchObject({ status, retryAfterMs: 3_000, body: Buffer.from('no') })
  })

  it('may carry Retry-After as a date', async () => {
    const { origin } = await serve((_, response) => {
      response.writeHead(429, { 'retry-after': new Date(clock.now() + 7_000).toUTCString() }).end()
    })
    expect((await openTo(origin).get('https://pictures.test/')).retryAfterMs).toBe(7_000)
  })

  it('uses a connection again, and opens no more than allowed', async () => {
    const { origin, sockets } = await serve((_, response) => setImmediate(() => response.end('ok')))
    const client = openTo(origin, { perHost: 3 })
    await Promise.all(Array.from({ length: 30 }, () => client.get('https://pictures.test/')))
    expect(sockets.size).toBe(3)
    const { timings } = await client.get('https://pictures.test/')
    expect(timings).toMatchObject({ dnsMs: 0, connectMs: 0, tlsMs: 0 })
    expect(sockets.size).toBe(3)
  })

  it('survives that the server closes an idle connection', async () => {
    const { origin, sockets } = await serve((_, response) => response.end('ok'))
    const client = openTo(origin, { perHost: 1 })
    for (let round = 0; round < 5; round += 1) {
      expect((await client.get('https://pictures.test/')).status).toBe(200)
      for (const socket of sockets) socket.destroy()
    }
  })
})

describe('what is not a whole answer', () => {
  it.each([
    ['cut short of its Content-Length', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this', 'truncated'],
    ['the same, closing', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nonly this', 'truncated'],
    ['a chunk short', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 'truncated'],
    [
      'a chunk short, closing',
      'HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
      'truncated',
    ],
    ['not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n', 'protocol'],
    ['nothing', '', 'reset'],
  ])('%s', async (_, text, failure) => {
    const origin = await serveRaw(text)
    const thrown = await thrownBy(openTo(origin).get('https://pictures.test/'))
    expect(thrown).toMatchObject({ code: 'FETCH_FAILED', failure, retryable: true })
    expect(thrown.message).toMatch(new RegExp(`^${failure}: `))
  })

  it('is a body over the cap, announced or not', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url === '/announced') response.setHeader('content-length', 2_000)
      response.write(Buffer.alloc(1_000))
      response.end(Buffer.alloc(request.url === '/exact' ? 0 : 1_000))
    })
    const client = openTo(origin, { maxBytes: 1_000 })
    expect(await failureOf(client.get('https://pictures.test/announced'))).toBe('BODY_TOO_LARGE')
    expect(await failureOf(client.get('https://pictures.test/unannounced'))).toBe('BODY_TOO_LARGE')
    expect((await client.get('https://pictures.test/exact')).body.length).toBe(1_000)
  })

  it('is an endless body, of which no more than the cap is read', async () => {
    let sent = 0
    const { origin } = await serve((_, response) => {
      const pump = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) sent += 65_536
      }
      response.on('drain', pump).on('error', () => {})
      pump()
    })
    expect(await failureOf(openTo(origin, { maxBytes: 1_000_000 }).get('https://pictures.test/'))).toBe(
      'BODY_TOO_LARGE',
    )
    expect(sent).toBeLessThan(50_000_000)
  })

  it('is one that does not end in time, whether head or body hangs', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url === '/body') response.write('a')
    })
    const client = openTo(origin, { timeout: '60ms' })
    expect(await failureOf(client.get('https://pictures.test/head'))).toBe('timeout')
    expect(await failureOf(client.get('https://pictures.test/body'))).toBe('timeout')
  })

  it('is none at all: refused, no name, no TLS', async () => {
    const { origin, port } = await serve((_, response) => response.end('plain'))
    const gone = await serve(() => {})
    await gone.close()
    const lookup = async () => []
    expect(await failureOf(openTo(gone.origin).get('https://pictures.test/'))).toBe('refused')
    expect(await failureOf(open({}, { lookup }).get('https://nowhere.test/'))).toBe('dns')
    expect(await failureOf(openTo(`https://127.0.0.1:${port}`).get('https://pictures.test/'))).toBe('tls')
    expect((await openTo(origin).get('https://pictures.test/')).status).toBe(200)
  })
})

describe('stopping', () => {
  it('a caller may give up, before, while waiting and while reading', async () => {
    const arrived = Promise.withResolvers<void>()
    const { origin } = await serve((_, response) => {
      response.write('a')
      arrived.resolve()
    })
    const client = openTo(origin, { perHost: 1 })
    const reading = new AbortController()
    const waiting = new AbortController()
    const first = client.get('https://pictures.test/', { signal: reading.signal })
    const second = client.get('https://pictures.test/', { signal: waiting.signal })
    await arrived.promise
    waiting.abort()
    expect(await failureOf(second)).toBe('CANCELLED')
    reading.abort()
    expect(await failureOf(first)).toBe('CANCELLED')
    expect(await failureOf(client.get('https://pictures.test/', { signal: reading.signal }))).toBe('CANCELLED')
  })

  it('a host that hangs takes no place from another', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url !== '/slow/') response.end('ok')
    })
    const rewrite = [
      { from: 'https://slow.test', to: `${origin}/slow` },
      { from: 'https://quick.test', to: origin },
    ]
    const client = open({ rewrite, perHost: 2 })
    const hanging = Array.from({ length: 10 }, () => failureOf(client.get('https://slow.test/')))
    const quick = await Promise.all(Array.from({ length: 10 }, () => client.get('https://quick.test/')))
    expect(quick.every((result) => result.status === 200)).toBe(true)
    await client.close()
    expect(await Promise.all(hanging)).toEqual(Array(10).fill('CANCELLED'))
    expect(await failureOf(client.get('https://quick.test/'))).toBe('CANCELLED')
  })
})

describe('settings', () => {
  it('have stated defaults', () => {
    expect(fetchSettings.parse({ kind: 'fetch' })).toEqual({
      kind: 'fetch',
      minPace: { bytes: 10_240, per: '10s' },
      perHost: 8,
      maxWait: '10s',
      timeout: '30s',
      maxBytes: 20_971_520,
      maxRedirects: 5,
      maxRetryAfter: '1h',
      circuit: { failures: 5, base: '1s', max: '1m', patience: '10m' },
      rewrite: [],
      allow: [],
    })
  })

  it.each([
    { timeout: 'soon' },
    { timeout: '2d' },
    { perHost: 0 },
    { ratePerHost: { count: 1, per: '1 second' } },
    { userAgent: 'two\r\nx-lines: 1' },
    { userAgent: '' },
    { contact: 'ask me' },
    { circuit: { failures: 0 } },
    { typo: 1 },
  ])('refuse %j', (given) => {
    expect(fetchSettings.safeParse({ kind: 'fetch', ...given }).success).toBe(false)
  })

  it('and failures are all in docs/fetch.md', async () => {
    const page = await readFile(new URL('../../../docs/fetch.md', import.meta.url), 'utf8')
    const { ratePerHost, circuit, kind, ...plain } = fetchSettings.shape
    const nested = [
      ...Object.keys(circuit.unwrap().shape).map((name) => `circuit.${name}`),
      ...Object.keys(ratePerHost.unwrap().shape).map((name) => `ratePerHost.${name}`),
    ]
    expect(kind.value).toBe('fetch')
    const rows = page.split('\n').filter((line) => line.startsWith('| '))
    const named = (name: string) => rows.some((row) => row.includes(`\`${name}\``))
    const missing = [...Object.keys(plain), ...failureClasses].filter((name) => !named(name))
    expect(missing).toEqual([])
    expect(nested.filter((name) => !named(name) && !named(`.${name.split('.')[1]}`))).toEqual([])
  })

  it('say who asks, and where to complain', async () => {
    const { origin, seen } = await serve((_, response) => response.end('ok'))
    const contact = 'https://example.org/robot'
    await openTo(origin, {}, { product: 'sluice/0.1.0' }).get('https://pictures.test/')
    await openTo(origin, { contact }, { product: 'sluice/0.1.0' }).get('https://pictures.test/')
    await openTo(origin, { userAgent: 'pictures/2', contact }).get('https://pictures.test/')
    expect(seen.map(({ headers }) => headers['user-agent'])).toEqual([
      'sluice/0.1.0',
      'sluice/0.1.0 (+https://example.org/robot)',
      'pictures/2 (+https://example.org/robot)',
    ])
  })

  it('let an author say what is accepted, in one line', async () => {
    const { origin, seen } = await serve((_, response) => response.end('ok'))
    await openTo(origin).get('https://pictures.test/', { accept: 'image/*' })
    expect(seen[0]?.headers.accept).toBe('image/*')
    const two = openTo(origin).get('https://pictures.test/', { accept: 'image/*\r\nx: 1' })
    expect(await failureOf(two)).toBe('INVALID_INPUT')
  })

  it('keep a rate', async () => {
    const { origin } = await serve((_, response) => response.end('ok'))
    const client = openTo(origin, { ratePerHost: { count: 1, per: '1h' } })
    await client.get('https://pictures.test/')
    const second = await thrownBy(client.get('https://pictures.test/'))
    expect(second).toMatchObject({ code: 'HOST_RESTING', retryAfterMs: 3_600_000, isAttempt: false })
  })
})
