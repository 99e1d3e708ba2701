/** One GET as a check: over real sockets, each fault its own class, phases and certificate beside it. */
import type { Socket } from 'node:net'
import { createServer, getCACertificates, setDefaultCACertificates, type TlsOptions } from 'node:tls'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { FetchCheck, FetchCheckOptions } from '../../sdk/fetch-check.ts'
import { authority, expired, good, key, ofOther, selfSigned } from './certificates.fixture.ts'
import {
  atEnd,
  clock,
  listening,
  open,
  openTo,
  serve,
  serveRaw,
  serveSocket,
  thrownBy,
  until,
} from './loopback.fixture.ts'

const before = getCACertificates('default')
beforeAll(() => setDefaultCACertificates([...before, authority]))
afterAll(() => setDefaultCACertificates(before))

async function serveTls(options: TlsOptions): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer({ key, ...options }, (socket) => {
    socket.on('error', () => {})
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'))
  })
  server.on('connection', (socket) => sockets.add(socket))
  server.on('tlsClientError', () => {})
  return (await listening(server, sockets)).port
}

const ofTls = async (options: TlsOptions) => {
  const port = await serveTls(options)
  const client = open({ allow: [`pictures.test:${port}`] }, { lookup: async () => ['127.0.0.1'] })
  return client.check(`https://pictures.test:${port}/`)
}

/** What each phase took, as whether it is there. */
const ended = ({ timings }: FetchCheck) =>
  Object.entries(timings).flatMap(([phase, ms]) => (ms === null ? [] : [phase]))

describe('a site that answers', () => {
  it('is told with every phase, and its certificate', async () => {
    const found = await ofTls({ cert: good })
    expect(found).toMatchObject({
      ...{ failure: null, detail: null, status: 200, redirects: 0, checkedAt: clock.now() },
      certificateEndsAt: Date.UTC(2120, 0, 1),
    })
    expect(String(found.body)).toBe('hello')
    expect(ended(found)).toEqual([
      ...['dnsMs', 'connectMs', 'tlsMs', 'processingMs', 'transferMs', 'firstByteMs', 'totalMs'],
    ])
    const { dnsMs, connectMs, tlsMs, processingMs, transferMs, firstByteMs, totalMs } = found.timings
    const sum = dnsMs! + connectMs! + tlsMs! + processingMs! + transferMs!
    expect(sum).toBeLessThanOrEqual(totalMs + 1)
    expect(firstByteMs!).toBeLessThanOrEqual(totalMs)
  })

  it.each([204, 404, 429, 500, 503, 206])(
    'with %i is a result without a failure, as often as it is asked',
    async (status) => {
      const { origin, seen } = await serve((_, response) => {
        response.writeHead(status, { 'retry-after': '600' }).end()
      })
      const client = openTo(origin)
      for (let time = 0; time < 7; time += 1)
        expect(await client.check('https://pictures.test/')).toMatchObject({ failure: null, status })
      expect(seen).toHaveLength(7)
      expect(client.hosts()).toEqual([])
    },
  )

  it('is asked over a new connection each time, which is closed', async () => {
    const { origin, seen, sockets } = await serve((_, response) => response.end('ok'))
    const client = openTo(origin)
    for (let time = 0; time < 3; time += 1) {
      const found = await client.check('https://pictures.test/')
      expect(found.timings).toMatchObject({ tlsMs: null })
      expect(found.timings.connectMs).toBeGreaterThan(0)
    }
    expect(sockets.size).toBe(3)
    expect(seen.map(({ headers }) => headers.connection)).toEqual(['close', 'close', 'close'])
    await until(() => [...sockets].every((socket) => socket.destroyed))
  })

  it('may send a coding nobody asked for, or go through redirects', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url === '/') response.writeHead(302, { location: '/in' }).end('moved')
      else response.setHeader('content-encoding', 'gzip').end(gzipSync('inside'))
    })
    const client = openTo(origin)
    const found = await client.check('https://pictures.test/')
    expect(found).toMatchObject({ failure: null, status: 200, redirects: 1, url: 'https://pictures.test/in' })
    expect(String(found.body)).toBe('inside')
    const first = await client.check('https://pictures.test/', { redirects: false })
    expect(first).toMatchObject({ failure: null, status: 302, redirects: 0, url: 'https://pictures.test/' })
  })

  it('needs no turn: one that hangs holds up no other of its host', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url !== '/slow') response.end('ok')
    })
    const client = openTo(origin, { perHost: 1, timeout: '5s' })
    const gone = new AbortController()
    const slow = client.check('https://pictures.test/slow', { signal: gone.signal })
    expect(await client.check('https://pictures.test/quick')).toMatchObject({ failure: null })
    gone.abort()
    expect(await thrownBy(slow)).toMatchObject({ code: 'CANCELLED' })
  })
})

describe('a site that fails', () => {
  const raw = (text: string, options?: FetchCheckOptions) => async () =>
    openTo(await serveRaw(text)).check('https://pictures.test/', options)

  it.each([
    ['cut short', raw('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this'), 'truncated', 200],
    ['not HTTP', raw('SSH-2.0-OpenSSH_9.2\r\n'), 'protocol', null],
    ['closed at once', raw(''), 'reset', null],
    [
      'a coding that is not known',
      raw('HTTP/1.1 200 OK\r\nContent-Encoding: rot13\r\nContent-Length: 1\r\n\r\nx'),
      'protocol',
      200,
    ],
    [
      'sent on to what is no URL',
      raw('HTTP/1.1 302 Found\r\nLocation: http://:::\r\nContent-Length: 0\r\n\r\n'),
      'protocol',
      302,
    ],
    [
      'sent on to an address inside',
      raw('HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n'),
      'blocked',
      302,
    ],
  ] as const)('since it is %s', async (_, check, failure, status) => {
    const found = await check()
    expect(found).toMatchObject({ failure, status })
    expect(found.detail).not.toMatch(new RegExp(`^${failure}: `))
    expect(found.detail).toMatch(/\w/)
  })

  it.each([
    ['ftp://pictures.test/', 'blocked'],
    ['https://user:word@pictures.test/', 'invalid-url'],
    ['pictures.test', 'invalid-url'],
    ['http://127.0.0.1:9/', 'blocked'],
    ['http://localhost:1234/', 'blocked'],
    ['http://[::ffff:10.0.0.1]/', 'blocked'],
    ['http://0x7f.1/', 'blocked'],
  ])('since %s may not be asked (%s)', async (url, failure) => {
    const found = await open().check(url)
    expect(found).toMatchObject({ failure, status: null, certificateEndsAt: null })
    expect(found.timings.totalMs).toBeGreaterThanOrEqual(0)
  })

  it('since its name has no address, or nobody is there', async () => {
    const gone = await serve(() => {})
    await gone.close()
    const unnamed = await open({}, { lookup: async () => [] }).check('https://nowhere.test/')
    expect(unnamed).toMatchObject({ failure: 'dns', detail: 'nowhere.test has no address' })
    expect(ended(unnamed)).toEqual(['totalMs'])
    const refused = await openTo(gone.origin).check('https://pictures.test/')
    expect(refused).toMatchObject({ failure: 'refused', status: null })
    expect(ended(refused)).toEqual(['dnsMs', 'totalMs'])
  })

  it.each([
    ['has expired', { cert: expired }, 'certificate has expired', Date.UTC(2020, 1, 1)],
    ['is signed by itself', { cert: selfSigned }, 'self-signed certificate', Date.UTC(2120, 0, 1)],
    ['is for another name', { cert: ofOther }, 'does not match', Date.UTC(2120, 0, 1)],
  ])('since its certificate %s, which is told all the same', async (_, options, text, certificateEndsAt) => {
    const found = await ofTls(options)
    expect(found).toMatchObject({ failure: 'tls', status: null, certificateEndsAt })
    expect(found.detail).toContain(text)
    expect(ended(found)).toEqual(['dnsMs', 'connectMs', 'totalMs'])
  })

  it('since redirects lead back, or never end', async () => {
    let count = 0
    const { origin } = await serve((request, response) => {
      count += 1
      response.writeHead(302, { location: request.url === '/back' ? '/back' : `/${count}` }).end()
    })
    const client = openTo(origin, { maxRedirects: 3 })
    expect(await client.check('https://pictures.test/back')).toMatchObject({ failure: 'redirect-loop', status: 302 })
    const endless = await client.check('https://pictures.test/on')
    expect(endless).toMatchObject({ failure: 'redirect-loop', redirects: 3 })
    expect(endless.detail).toContain('more than 3 redirects')
  })

  it('since its body is over the cap: what came of it up to the cap is there', async () => {
    const { origin } = await serve((request, response) => {
      if (request.url === '/announced') response.setHeader('content-length', 5_000)
      const pump = () => {
        while (!response.destroyed && response.write('ab'.repeat(700))) if (request.url === '/announced') return
      }
      response.on('drain', pump).on('error', () => {})
      pump()
    })
    const client = openTo(origin, { maxBytes: 1_000 })
    const endless = await client.check('https://pictures.test/endless')
    expect(endless).toMatchObject({ failure: 'body-limit', status: 200 })
    expect(String(endless.body)).toBe('ab'.repeat(500))
    expect(await client.check('https://pictures.test/announced')).toMatchObject({ failure: 'body-limit', status: 200 })
  })

  it('since a few bytes of it are a great many', async () => {
    const { origin } = await serve((_, response) => {
      response.setHeader('content-encoding', 'gzip').end(gzipSync(Buffer.alloc(10_000_000)))
    })
    const found = await openTo(origin, { maxBytes: 100_000 }).check('https://pictures.test/')
    expect(found).toMatchObject({ failure: 'body-limit', status: 200 })
    expect(found.body.length).toBeLessThanOrEqual(100_000)
  })

  it('since it hangs before the head, drips its head, or drips its body', async () => {
    const dripping = async (head: string, timeout: string) => {
      const { origin } = await serveSocket((socket) => {
        socket.write(head)
        const timer = setInterval(() => socket.write('x'), 5)
        socket.on('close', () => clearInterval(timer))
        atEnd(() => clearInterval(timer))
      })
      return openTo(origin).check('https://pictures.test/', { timeout })
    }
    const { origin } = await serveSocket(() => {})
    const silent = await openTo(origin, { timeout: '60ms' }).check('https://pictures.test/', { timeout: '1h' })
    expect(silent).toMatchObject({ failure: 'timeout', status: null, detail: 'no whole answer within 60 ms' })
    expect(await dripping('HTTP/1.1 200 OK\r\nX: ', '60ms')).toMatchObject({ failure: 'timeout', status: null })
    const body = await dripping('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n', '1s')
    expect(body).toMatchObject({ failure: 'timeout', status: 200 })
    expect(ended(body)).toEqual(['dnsMs', 'connectMs', 'processingMs', 'firstByteMs', 'totalMs'])
    expect(String(body.body)).toMatch(/^x+$/)
  })
})

describe('a check', () => {
  it('ends with CANCELLED when its client closes, and says nothing of the site', async () => {
    const arrived = Promise.withResolvers<void>()
    const { origin } = await serve(() => arrived.resolve())
    const client = openTo(origin)
    const checking = thrownBy(client.check('https://pictures.test/'))
    await arrived.promise
    await client.close()
    expect(await checking).toMatchObject({ code: 'CANCELLED' })
  })

  it('goes to an open circuit, and closes or opens none', async () => {
    const { origin, close } = await serve((_, response) => response.end('ok'))
    const client = openTo(origin, { circuit: { failures: 1, base: '1h', max: '1h' } })
    await close()
    expect(await thrownBy(client.get('https://pictures.test/'))).toMatchObject({ failure: 'refused' })
    expect(await thrownBy(client.get('https://pictures.test/'))).toMatchObject({ code: 'HOST_RESTING' })
    for (let time = 0; time < 3; time += 1)
      expect(await client.check('https://pictures.test/')).toMatchObject({ failure: 'refused' })
    expect(client.hosts()).toMatchObject([{ circuit: 'open', requests: 1 }])
  })

  it('refuses options that are none', async () => {
    expect(await thrownBy(open().check('https://pictures.test/', { accept: 'a\nb' }))).toMatchObject({
      code: 'INVALID_INPUT',
    })
    await expect((async () => open().check('https://pictures.test/', { timeout: 'soon' }))()).rejects.toMatchObject({
      code: 'USAGE',
    })
  })
})
