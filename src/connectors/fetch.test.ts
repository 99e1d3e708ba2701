import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createRawServer, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import type { FetchClient } from './fetch.ts'
import { fetchSettings, openFetch } from './fetch.ts'
import { FetchFailure } from './fetch-failure.ts'
import type { HostLookup } from './resolve-host.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const clock = { now: () => Date.UTC(2024, 0, 1) }

/** A server on loopback; gives its origin and what it was asked. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const seen: IncomingMessage[] = []
  const sockets = new Set<Socket>()
  const server: Server = createServer((request, response) => {
    seen.push(request)
    sockets.add(request.socket)
    answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, port, seen, sockets }
}

/** A server that answers each connection with fixed bytes and then closes it. */
async function serveRaw(text: string): Promise<string> {
  const server = createRawServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(text))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => server.close(resolve)))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function open(given: Record<string, unknown>, lookup?: HostLookup): FetchClient {
  const client = openFetch(fetchSettings.parse({ kind: 'fetch', ...given }), { clock, ...(lookup && { lookup }) })
  closing.push(() => client.close())
  return client
}

/** A client that asks `to` for everything under https://pictures.test. */
const openTo = (to: string, given: Record<string, unknown> = {}, lookup?: HostLookup) =>
  open({ rewrite: [{ from: 'https://pictures.test', to }], ...given }, lookup)

async function thrownBy(work: Promise<unknown>): Promise<SluiceError> {
  const thrown = await work.then(
    (value) => value,
    (error) => error,
  )
  expect(thrown).toBeInstanceOf(SluiceError)
  return thrown as SluiceError
}

const failureOf = async (work: Promise<unknown>) => {
  const thrown = await thrownBy(work)
  return thrown instanceof FetchFailure ? thrown.failure : thrown.code
}

describe('an answer', () => {
  it('comes whole, with its facts', async () => {
    const body = Buffer.alloc(300_000, 'x')
    const { origin, seen } = await serve((_, response) => {
      response.setHeader('content-type', 'image/jpeg').setHeader('etag', '"1"').setHeader('set-cookie', 'secret=1')
      response.setHeader('content-length', body.length).end(body)
    })
    const result = await openTo(origin, { userAgent: 'tester' }).get('https://pictures.test/1/2?x=y#frag', {
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
      'user-agent': 'tester',
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
    const gone = await serveRaw('')
    await closing.pop()?.()
    const noName = async () => {
      throw new Error('ENOTFOUND')
    }
    expect(await failureOf(openTo(gone).get('https://pictures.test/'))).toBe('refused')
    expect(await failureOf(open({}, noName).get('https://nowhere.test/'))).toBe('dns')
    expect(await failureOf(open({}, async () => []).get('https://nowhere.test/'))).toBe('dns')
    expect(await failureOf(openTo(`https://127.0.0.1:${port}`).get('https://pictures.test/'))).toBe('tls')
    expect((await openTo(origin).get('https://pictures.test/')).status).toBe(200)
  })

  it('is a redirect without end', async () => {
    const { origin, seen } = await serve((_, response) => response.writeHead(302, { location: '/again' }).end())
    expect(await failureOf(openTo(origin, { maxRedirects: 2 }).get('https://pictures.test/'))).toBe('redirect-loop')
    expect(seen).toHaveLength(3)
  })
})

describe('the guard', () => {
  it('refuses what is not public, by address or by name, and connects to nothing', async () => {
    const { port, seen } = await serve((_, response) => response.end('secret'))
    const client = open({}, async () => ['127.0.0.1'])
    for (const host of [
      '127.0.0.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      'rebound.test',
      'localhost',
      '2130706433',
      '0.0.0.0',
    ]) {
      expect(await failureOf(client.get(`http://${host}:${port}/`))).toBe('ADDRESS_BLOCKED')
    }
    expect(await failureOf(client.get('http://169.254.169.254/latest/meta-data'))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(0)
  })

  it('refuses a URL that names the target of a rule itself, also when a connection to it is open', async () => {
    const { origin, port, seen } = await serve((_, response) => response.end('ok'))
    const lookup = async () => ['127.0.0.1']
    const client = openTo(`http://origin.test:${port}`, {}, lookup)
    await client.get('https://pictures.test/')
    expect(await failureOf(client.get(`http://origin.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(await failureOf(client.get(`${origin}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(1)
  })

  it('pins the connection to the address that it checked', async () => {
    const { port, seen } = await serve((_, response) => response.end('ok'))
    const answers = [['127.0.0.1'], ['10.255.255.1']]
    const client = open({ allow: ['127.0.0.0/8'] }, async () => answers.shift() ?? [])
    expect((await client.get(`http://first.test:${port}/`)).status).toBe(200)
    expect(await failureOf(client.get(`http://second.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen[0]?.headers.host).toBe(`first.test:${port}`)
  })

  it('admits what the deployment allows', async () => {
    const { port } = await serve((_, response) => response.end('ok'))
    const lookup = async () => ['127.0.0.1']
    const client = open({ allow: [`inside.test:${port}`] }, lookup)
    expect((await client.get(`http://inside.test:${port}/`)).status).toBe(200)
    expect(await failureOf(client.get(`http://other.test:${port}/`))).toBe('ADDRESS_BLOCKED')
  })

  it('judges every redirect again', async () => {
    const other = await serve((_, response) => response.end('secret'))
    const locations: Record<string, string> = {
      '/metadata': 'http://169.254.169.254/latest',
      '/other': `${other.origin}/`,
      '/disguised': `http://0x7f.1:${other.port}/`,
      '/scheme': 'file:///etc/passwd',
    }
    const { origin } = await serve((request, response) => {
      response.writeHead(302, { location: locations[request.url ?? ''] }).end()
    })
    const client = openTo(origin)
    for (const path of Object.keys(locations)) {
      expect(await failureOf(client.get(`https://pictures.test${path}`))).toBe('ADDRESS_BLOCKED')
    }
    expect(other.seen).toHaveLength(0)
  })

  it('follows redirects of the target to itself, under the name of the rule', async () => {
    const server = await serve((request, response) => {
      if (request.url === '/a') response.writeHead(301, { location: '/b' }).end()
      else if (request.url === '/b') response.writeHead(307, { location: `${server.origin}/c` }).end()
      else if (request.url === '/c') response.writeHead(303, { location: 'https://pictures.test/d' }).end()
      else response.end('here')
    })
    const result = await openTo(server.origin).get('https://pictures.test/a')
    expect(result).toMatchObject({ status: 200, url: 'https://pictures.test/d', redirects: 3 })
    expect(result.rewrittenTo).toBe(`${server.origin}/d`)
  })

  it('does not admit the target to a redirect from elsewhere', async () => {
    const target = await serve((_, response) => response.end('secret'))
    const elsewhere = await serve((_, response) => response.writeHead(302, { location: target.origin }).end())
    const client = openTo(target.origin, { allow: [new URL(elsewhere.origin).host] })
    expect(await failureOf(client.get(`${elsewhere.origin}/`))).toBe('ADDRESS_BLOCKED')
    expect(target.seen).toHaveLength(0)
  })

  it('checks again when a host redirects to itself and its name has changed meanwhile', async () => {
    const { port, seen } = await serve((_, response) => {
      response.writeHead(302, { location: '/again', connection: 'close' }).end()
    })
    const answers = [['127.0.0.1'], ['127.0.0.2']]
    const client = open({ allow: ['127.0.0.1/32'] }, async () => answers.shift() ?? [])
    expect(await failureOf(client.get(`http://rebound.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(1)
  })

  it('lets a redirect that has no Location, and 304, through as answers', async () => {
    const { origin } = await serve((request, response) => response.writeHead(request.url === '/304' ? 304 : 302).end())
    const client = openTo(origin)
    expect((await client.get('https://pictures.test/304')).status).toBe(304)
    expect((await client.get('https://pictures.test/302')).status).toBe(302)
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
      userAgent: 'sluice',
      perHost: 8,
      timeout: '30s',
      maxBytes: 20_971_520,
      maxRedirects: 5,
      rewrite: [],
      allow: [],
    })
  })

  it.each([{ timeout: 'soon' }, { perHost: 0 }, { ratePerHost: { count: 1, per: '1 second' } }, { typo: 1 }])(
    'refuse %j',
    (given) => {
      expect(fetchSettings.safeParse({ kind: 'fetch', ...given }).success).toBe(false)
    },
  )

  it('keep a rate', async () => {
    const { origin } = await serve((_, response) => response.end('ok'))
    const client = openTo(origin, { ratePerHost: { count: 1, per: '1h' } })
    await client.get('https://pictures.test/')
    const impatient = new AbortController()
    const second = client.get('https://pictures.test/', { signal: impatient.signal })
    impatient.abort()
    expect(await failureOf(second)).toBe('CANCELLED')
  })
})
