/** What a server can do to its client, over real sockets: each ends with its own class, within the bounds. */
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { failureOf, openTo, serve, serveRaw, serveSocket, thrownBy, until } from './loopback.fixture.ts'

const url = 'https://pictures.test/1'
const ok = (body: string, ...headers: string[]) => ['HTTP/1.1 200 OK', ...headers, '', body].join('\r\n')

/** Sends pieces as fast as they are taken; gives how many bytes were. */
function pour(socket: Socket, piece: Buffer): { readonly bytes: number } {
  const pump = () => {
    while (!socket.destroyed && socket.write(piece)) {}
  }
  socket.on('drain', pump)
  pump()
  return {
    get bytes() {
      return socket.bytesWritten
    },
  }
}

/** What lies in the buffers of both ends of a connection, at most. */
const buffered = 16 * 2 ** 20

describe('the length of a body', () => {
  it.each([
    ['longer than what comes', ok('only this', 'Content-Length: 100'), 'truncated'],
    ['longer than what comes, closing', ok('only this', 'Connection: close', 'Content-Length: 100'), 'truncated'],
    ['a chunk short', ok('5\r\nhello\r\n', 'Transfer-Encoding: chunked'), 'truncated'],
    ['a chunk short, closing', ok('5\r\nhello\r\n', 'Connection: close', 'Transfer-Encoding: chunked'), 'truncated'],
    ['two different ones', ok('hello', 'Content-Length: 5', 'Content-Length: 4'), 'protocol'],
    ['two different ones in a line', ok('hello', 'Content-Length: 5, 4'), 'protocol'],
    ['the same twice', ok('hello', 'Content-Length: 5', 'Content-Length: 5'), 'protocol'],
    ['negative', ok('hello', 'Content-Length: -5'), 'protocol'],
    ['with a sign', ok('hello', 'Content-Length: +5'), 'protocol'],
    ['in hex', ok('hello', 'Content-Length: 0x5'), 'protocol'],
    ['larger than any number', ok('hello', 'Content-Length: 99999999999999999999999'), 'protocol'],
    ['beside chunks', ok('0\r\n\r\n', 'Content-Length: 5', 'Transfer-Encoding: chunked'), 'protocol'],
    [
      'beside chunks that say the same',
      ok('5\r\nhello\r\n0\r\n\r\n', 'Content-Length: 5', 'Transfer-Encoding: chunked'),
      'protocol',
    ],
    ['in another coding', ok('hello', 'Transfer-Encoding: gzip'), 'protocol'],
    ['in two codings', ok('0\r\n\r\n', 'Transfer-Encoding: gzip, chunked'), 'protocol'],
    ['chunked twice', ok('0\r\n\r\n', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'), 'protocol'],
    ['chunks of no number', ok('zz\r\nhello\r\n0\r\n\r\n', 'Transfer-Encoding: chunked'), 'protocol'],
    ['chunks of a negative number', ok('-5\r\nhello\r\n0\r\n\r\n', 'Transfer-Encoding: chunked'), 'protocol'],
    ['chunks of too large a number', ok('ffffffffffffffffff\r\nhello', 'Transfer-Encoding: chunked'), 'protocol'],
  ])('%s', async (_, text, failure) => {
    const thrown = await thrownBy(openTo(await serveRaw(text)).get(url))
    expect(thrown).toMatchObject({ code: 'FETCH_FAILED', failure, retryable: true })
    expect(thrown.message).toMatch(new RegExp(`^${failure}: `))
  })

  it('shorter than what comes: what was announced is the body, and the connection is not used again', async () => {
    const { origin, sockets } = await serveSocket((socket) => socket.write(ok('hello and more', 'Content-Length: 5')))
    const client = openTo(origin)
    for (let round = 1; round <= 3; round += 1) {
      expect(String((await client.get(url)).body)).toBe('hello')
      expect(sockets.size).toBe(round)
    }
  })
})

describe('a body without end', () => {
  const maxBytes = 1_000_000

  it.each([
    ['with no length', 'HTTP/1.1 200 OK\r\n\r\n', Buffer.alloc(65_536)],
    [
      'in chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
      Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`),
    ],
    [
      'of an announced length within the cap',
      'HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n',
      Buffer.alloc(65_536),
    ],
  ])('%s: no more than the cap is read, and what lies in buffers', async (name, head, piece) => {
    let poured = { bytes: 0 }
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write(head)
      poured = pour(socket, piece)
    })
    const client = openTo(origin, { maxBytes })
    if (name.includes('within')) expect((await client.get(url)).body.length).toBe(900_000)
    else expect(await failureOf(client.get(url))).toBe('BODY_TOO_LARGE')
    await until(() => [...sockets].every((socket) => socket.destroyed))
    expect(poured.bytes).toBeLessThan(maxBytes + buffered)
  })

  it('of an announced length over the cap: nothing of it is read', async () => {
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n')
    })
    expect(await failureOf(openTo(origin, { maxBytes }).get(url))).toBe('BODY_TOO_LARGE')
    await until(() => [...sockets].every((socket) => socket.destroyed))
  })

  it('of a redirect: the redirect is followed, the body left', async () => {
    const { origin, sockets } = await serveSocket((socket, request) => {
      if (request > 1) return socket.end(ok('here', 'Content-Length: 4'))
      socket.write('HTTP/1.1 302 Found\r\nLocation: /2\r\n\r\n')
      pour(socket, Buffer.alloc(65_536))
    })
    const result = await openTo(origin, { maxBytes }).get(url)
    expect(result).toMatchObject({ status: 200, redirects: 1 })
    const [first] = sockets
    await until(() => first?.destroyed === true)
    expect(first?.bytesWritten).toBeLessThan(buffered)
  })

  it('in extensions of a chunk: ends with the deadline', async () => {
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;')
      const timer = setInterval(() => socket.write('x'.repeat(1_000)), 2)
      socket.on('close', () => clearInterval(timer))
    })
    expect(['timeout', 'protocol', 'truncated']).toContain(
      await failureOf(openTo(origin, { timeout: '300ms' }).get(url)),
    )
    await until(() => [...sockets].every((socket) => socket.destroyed))
  })

  it('in chunks of one byte is whole, and is cut off at the cap', async () => {
    const chunks = '1\r\nx\r\n'.repeat(200_000)
    const origin = await serveRaw(ok(`${chunks}0\r\n\r\n`, 'Transfer-Encoding: chunked'))
    expect((await openTo(origin, { maxBytes: 200_000 }).get(url)).body.equals(Buffer.alloc(200_000, 'x'))).toBe(true)
    expect(await failureOf(openTo(origin, { maxBytes: 199_999 }).get(url))).toBe('BODY_TOO_LARGE')
  })

  it('drop by drop: ends with the deadline, however steady it drips', async () => {
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n')
      const timer = setInterval(() => socket.write('x'), 10)
      socket.on('close', () => clearInterval(timer))
    })
    const client = openTo(origin, { timeout: '300ms' })
    expect(await failureOf(client.get(url))).toBe('timeout')
    await until(() => [...sockets].every((socket) => socket.destroyed))
    expect(client.hosts()).toMatchObject([
      { circuit: 'closed', inFlight: 0, lastError: 'timeout: no whole answer within 300 ms' },
    ])
  })
})

describe('a head', () => {
  it.each([
    ['that never ends', Buffer.from('X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n')],
    ['of one line that never ends', Buffer.from('x'.repeat(1_000))],
    ['of a name that never ends', Buffer.from('name'.repeat(250))],
  ])('%s: is refused after 32 KiB', async (_, piece) => {
    let poured = { bytes: 0 }
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nX-First: ')
      poured = pour(socket, piece)
    })
    expect(await failureOf(openTo(origin).get(url))).toBe('protocol')
    await until(() => [...sockets].every((socket) => socket.destroyed))
    expect(poured.bytes).toBeLessThan(buffered)
  })

  it.each([
    ['100,000 headers', ok('', ...Array.from({ length: 100_000 }, (_, index) => `H${index}: 1`))],
    ['a header of 1 MB', ok('', `X: ${'y'.repeat(1_000_000)}`)],
    ['trailers without end', `${ok('0\r\n', 'Transfer-Encoding: chunked')}${'T: 1\r\n'.repeat(20_000)}`],
    ['HTTP/0.9', '<html>hello</html>'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['TLS where none was asked for', Buffer.from('160301020001000001fc0303', 'hex')],
    ['a NUL', ok('hello', 'X: a\0b', 'Content-Length: 5')],
    ['a header without a name', ok('hello', ': a', 'Content-Length: 5')],
    ['a folded header', ok('hello', 'X: a', ' Content-Length: 5')],
    ['status 99', 'HTTP/1.1 99 Low\r\n\r\n'],
    ['status 1000', 'HTTP/1.1 1000 High\r\n\r\n'],
    ['no status', 'HTTP/1.1 OK\r\n\r\n'],
    ['an unasked 100', `HTTP/1.1 100 Continue\r\n\r\n${ok('hello', 'Content-Length: 5')}`],
    ['an unasked 101', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
    ['1xx answers without end', 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(1_000)],
  ])('%s is no answer', async (_, bytes) => {
    expect(await failureOf(openTo(await serveRaw(bytes)).get(url))).toBe('protocol')
  })

  it('may follow a few 1xx answers', async () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(20)
    const origin = await serveRaw(hints + ok('hello', 'Content-Length: 5'))
    expect(String((await openTo(origin).get(url)).body)).toBe('hello')
  })

  it('of which nothing comes: ends with the deadline', async () => {
    const { origin } = await serveSocket(() => {})
    expect(await failureOf(openTo(origin, { timeout: '100ms' }).get(url))).toBe('timeout')
  })

  it('whose status line never ends: ends with the deadline', async () => {
    const { origin, sockets } = await serveSocket((socket) => {
      const timer = setInterval(() => socket.write('x'.repeat(10_000)), 5)
      socket.write('HTTP/1.1 200 O')
      socket.on('close', () => clearInterval(timer))
    })
    expect(await failureOf(openTo(origin, { timeout: '200ms' }).get(url))).toBe('timeout')
    await until(() => [...sockets].every((socket) => socket.destroyed))
  })

  it('drop by drop: ends with the deadline', async () => {
    const { origin } = await serveSocket((socket) => {
      const timer = setInterval(() => socket.write('H'), 20)
      socket.write('HTTP/1.1 200 OK\r\n')
      socket.on('close', () => clearInterval(timer))
    })
    expect(await failureOf(openTo(origin, { timeout: '200ms' }).get(url))).toBe('timeout')
  })
})

describe('a status', () => {
  it.each([
    [204, '', 0],
    [304, 'ETag: "1"', 0],
    [200, 'Content-Length: 0', 0],
    [404, 'Content-Length: 2', 2],
    [418, 'Content-Length: 2', 2],
    [599, 'Content-Length: 2', 2],
    [999, 'Content-Length: 2', 2],
    [300, 'Content-Length: 2', 2],
    [305, 'Content-Length: 2\r\nLocation: http://127.0.0.1/', 2],
  ])('%i is a result (%j)', async (status, header, bytes) => {
    const origin = await serveRaw(`HTTP/1.1 ${status} X\r\n${header}${header && '\r\n'}\r\n${'x'.repeat(bytes)}`)
    expect(await openTo(origin).get(url)).toMatchObject({ status, body: Buffer.alloc(bytes, 'x') })
  })

  it('204 with a length has no body, and is not waited for', async () => {
    const { origin } = await serveSocket((socket) => socket.write('HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n'))
    expect((await openTo(origin).get(url)).body.length).toBe(0)
  })

  it('206, unasked, is a part only', async () => {
    const origin = await serveRaw('HTTP/1.1 206 Part\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nxx')
    expect(await failureOf(openTo(origin).get(url))).toBe('truncated')
  })
})

describe('redirects', () => {
  it('back to where they came from are a loop, at once', async () => {
    const { origin, seen } = await serve(({ url: path }, response) => {
      response.writeHead(302, { location: path === '/1' ? '/2' : '/1' }).end()
    })
    const thrown = await thrownBy(openTo(origin).get(url))
    expect(thrown.message).toBe('redirect-loop: a redirect back to https://pictures.test/1')
    expect(seen).toHaveLength(2)
  })

  it('to ever new places end after the cap', async () => {
    const { origin, seen } = await serve((_, response) => {
      response.writeHead(302, { location: `/${seen.length + 1}` }).end()
    })
    const thrown = await thrownBy(openTo(origin, { maxRedirects: 3 }).get(url))
    expect(thrown.message).toMatch(/^redirect-loop: more than 3 redirects, the last to /)
    expect(seen).toHaveLength(4)
  })

  it('are not followed at all when none is allowed', async () => {
    const { origin, seen } = await serve((_, response) => response.writeHead(302, { location: '/2' }).end())
    expect(await failureOf(openTo(origin, { maxRedirects: 0 }).get(url))).toBe('redirect-loop')
    expect(seen).toHaveLength(1)
  })

  it('have one deadline together', async () => {
    const { origin } = await serve((_, response) => {
      setTimeout(() => response.writeHead(302, { location: `/${Math.random()}` }).end(), 40)
    })
    expect(await failureOf(openTo(origin, { timeout: '200ms', maxRedirects: 20 }).get(url))).toBe('timeout')
  })

  it('wait for their turn at the next host without losing time', async () => {
    const next = await serve(({ url: path }, response) => {
      if (path === '/free') response.end('here')
    })
    const first = await serve((_, response) => response.writeHead(302, { location: 'https://next.test/free' }).end())
    const rewrite = [
      { from: 'https://first.test', to: first.origin },
      { from: 'https://next.test', to: next.origin },
    ]
    const client = openTo('http://unused.test', { rewrite, perHost: 1, timeout: '700ms' })
    const holders = [1, 2].map((n) => failureOf(client.get(`https://next.test/held-${n}`)))
    // waits for twice the time that it has
    expect(await client.get('https://first.test/')).toMatchObject({ status: 200, url: 'https://next.test/free' })
    expect(await Promise.all(holders)).toEqual(['timeout', 'timeout'])
  })

  it('carry nothing to another origin: no cookie, no credential, no referrer, the host of its own', async () => {
    const other = await serve((_, response) => response.end('here'))
    const first = await serve((_, response) => {
      response
        .writeHead(302, { location: 'https://other.test/x', 'set-cookie': 'a=1', 'www-authenticate': 'Basic' })
        .end()
    })
    const rewrite = [
      { from: 'https://pictures.test', to: first.origin },
      { from: 'https://other.test', to: other.origin },
    ]
    expect((await openTo('http://unused.test', { rewrite }).get(url)).status).toBe(200)
    expect(other.seen[0]?.rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase())).toEqual(
      expect.arrayContaining(['host', 'connection', 'user-agent', 'accept', 'accept-encoding']),
    )
    expect(other.seen[0]?.rawHeaders).toHaveLength(10)
    expect(other.seen[0]?.headers.host).toBe(new URL(other.origin).host)
  })
})

describe('a connection', () => {
  it.each([
    ['closed before the head', (socket: Socket) => socket.end(), 'reset'],
    ['reset before the head', (socket: Socket) => socket.resetAndDestroy(), 'reset'],
    ['closed within the head', (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\nContent-'), 'reset'],
    [
      'closed after the head',
      (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'),
      'truncated',
    ],
  ] as const)('%s is %s', async (_, act, failure) => {
    const { origin } = await serveSocket((socket) => void act(socket))
    expect(await failureOf(openTo(origin).get(url))).toBe(failure)
  })

  it('reset within the body is truncated', async () => {
    const { origin } = await serveSocket((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello', () =>
        setTimeout(() => socket.resetAndDestroy(), 20),
      )
    })
    expect(await failureOf(openTo(origin).get(url))).toBe('truncated')
  })

  it('kept alive and closed under us is tried once more, on a new one', async () => {
    const { origin, sockets, state } = await serveSocket((socket, request) => {
      if (request === 2) socket.destroy()
      else socket.write(ok('hello', 'Content-Length: 5'))
    })
    const client = openTo(origin)
    await client.get(url)
    expect(String((await client.get(url)).body)).toBe('hello')
    expect([state.requests, sockets.size]).toEqual([3, 2])
  })

  it('that closes on every request is tried once more, and no more', async () => {
    const { origin, state } = await serveSocket((socket, request) => {
      if (request === 1) socket.write(ok('hello', 'Content-Length: 5'))
      else socket.destroy()
    })
    const client = openTo(origin)
    await client.get(url)
    expect(await failureOf(client.get(url))).toBe('reset')
    expect(state.requests).toBe(3)
  })

  it.each([
    ['an answer that nobody asked for', ok('poison', 'Content-Length: 6')],
    ['garbage', 'garbage\r\n\r\n'],
    ['a byte', '\r'],
  ])('on which %s follows is not used again', async (_, more) => {
    const { origin } = await serveSocket((socket) => socket.write(ok('hello', 'Content-Length: 5') + more))
    const client = openTo(origin)
    for (let round = 0; round < 5; round += 1) expect(String((await client.get(url)).body)).toBe('hello')
  })

  it('on which an answer comes while it rests is not used again', async () => {
    const { origin, sockets } = await serveSocket((socket) => {
      socket.write(ok('hello', 'Content-Length: 5'))
      setTimeout(() => socket.write(ok('poison', 'Content-Length: 6')), 30)
    })
    const client = openTo(origin)
    for (let round = 1; round <= 3; round += 1) {
      expect(String((await client.get(url)).body)).toBe('hello')
      await until(() => [...sockets].every((socket) => socket.destroyed))
      expect(sockets.size).toBe(round)
    }
  })

  it('refused is refused', async () => {
    const gone = await serve(() => {})
    await gone.close()
    expect(await failureOf(openTo(gone.origin).get(url))).toBe('refused')
  })

  it('that nobody accepts ends with the deadline, whatever the network says', async () => {
    // TEST-NET-1: no route, or silence
    expect(['timeout', 'refused']).toContain(await failureOf(openTo('http://192.0.2.1', { timeout: '200ms' }).get(url)))
  })
})
