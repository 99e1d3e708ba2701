/** TLS as it can go wrong, over real sockets: every fault is of class tls, and nothing is asked. */
import { Socket } from 'node:net'
import {
  createSecureContext,
  createServer,
  getCACertificates,
  setDefaultCACertificates,
  type TlsOptions,
} from 'node:tls'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { authority, early, expired, good, key, ofOther, selfSigned } from './certificates.fixture.ts'
import { listening, open, serveSocket, thrownBy, until } from './loopback.fixture.ts'

const before = getCACertificates('default')
beforeAll(() => setDefaultCACertificates([...before, authority]))
afterAll(() => setDefaultCACertificates(before))

async function serveTls(options: TlsOptions) {
  const sockets = new Set<Socket>()
  const seen: string[] = []
  const server = createServer({ key, ...options }, (socket) => {
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      seen.push(String(chunk))
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')
    })
  })
  server.on('connection', (socket) => sockets.add(socket))
  server.on('tlsClientError', () => {})
  return { ...(await listening(server, sockets)), seen, sockets }
}

/** A client for which pictures.test is here. */
const client = (port: number, given: Record<string, unknown> = {}) =>
  open({ allow: [`pictures.test:${port}`], ...given }, { lookup: async () => ['127.0.0.1'] })

describe('a server whose certificate', () => {
  it('is good is asked, by its name', async () => {
    const { port, seen } = await serveTls({ cert: good })
    const result = await client(port).get(`https://pictures.test:${port}/1`)
    expect(String(result.body)).toBe('hello')
    expect(seen[0]).toMatch(new RegExp(`host: pictures.test:${port}\r\n`, 'i'))
  })

  it('is good is asked also by its name with a trailing dot', async () => {
    const { port } = await serveTls({ cert: good })
    expect((await client(port).get(`https://pictures.test.:${port}/1`)).status).toBe(200)
  })

  it.each([
    ['has expired', { cert: expired }, 'certificate has expired'],
    ['is not valid yet', { cert: early }, 'certificate is not yet valid'],
    ['is signed by itself', { cert: selfSigned }, 'self-signed certificate'],
    ['is for another name', { cert: ofOther }, "Hostname/IP does not match certificate's altnames"],
    ['is missing', { key: undefined, ciphers: 'aNULL:eNULL' }, ''],
    ['comes over TLS 1.1', { cert: good, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }, ''],
  ] as [string, TlsOptions, string][])('%s is not asked', async (_, options, text) => {
    const { port, seen } = await serveTls(options)
    const thrown = await thrownBy(client(port).get(`https://pictures.test:${port}/1`))
    expect(thrown).toMatchObject({ code: 'FETCH_FAILED', failure: 'tls', retryable: true })
    expect(thrown.message).toContain(text)
    expect(seen).toEqual([])
  })

  it('is not looked at when the environment says so is looked at all the same', async () => {
    const { port } = await serveTls({ cert: expired })
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    try {
      const thrown = await thrownBy(client(port).get(`https://pictures.test:${port}/1`))
      expect(thrown).toMatchObject({ failure: 'tls' })
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    }
  })
})

describe('a handshake', () => {
  it('that stalls ends with the deadline, and its socket with it', async () => {
    const { port, sockets } = await serveSocket(() => {})
    const begun = vi.spyOn(Socket.prototype, 'connect')
    const thrown = await thrownBy(client(port, { timeout: '150ms' }).get(`https://pictures.test:${port}/1`))
    expect(thrown).toMatchObject({ failure: 'timeout' })
    expect(begun.mock.contexts.map((socket) => (socket as Socket).destroyed)).toEqual([true])
    begun.mockRestore()
    await until(() => [...sockets].every((socket) => socket.destroyed))
  })

  it('that is cut off is of class tls', async () => {
    const server = createServer({ key, cert: good })
    server.on('connection', (socket) => socket.destroy())
    server.on('tlsClientError', () => {})
    const { port } = await listening(server, new Set())
    const thrown = await thrownBy(client(port).get(`https://pictures.test:${port}/1`))
    expect(thrown).toMatchObject({ failure: 'tls' })
  })

  it('names the host it asks for, so that a server of many answers for the right one', async () => {
    const { port } = await serveTls({
      cert: ofOther,
      SNICallback: (name, done) =>
        done(null, createSecureContext({ key, cert: name === 'pictures.test' ? good : ofOther })),
    })
    expect((await client(port).get(`https://pictures.test:${port}/1`)).status).toBe(200)
  })
})
