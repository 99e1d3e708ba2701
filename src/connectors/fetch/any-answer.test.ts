/** Whatever bytes a server sends, in whatever pieces: an answer or a failure with a name, and the next fetch is not touched. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { SluiceError } from '../../errors.ts'
import { openTo, serveSocket } from './loopback.fixture.ts'

const word = fc.constantFrom(
  ...['HTTP/1.1 200 OK\r\n', 'HTTP/1.1 204 \r\n', 'HTTP/1.1 304 X\r\n', 'HTTP/1.1 302 X\r\n', 'HTTP/1.0 200 OK\r\n'],
  ...[
    'HTTP/1.1 103 Hint\r\n',
    'HTTP/1.1 100 Continue\r\n',
    'HTTP/1.1 101 Up\r\n',
    'HTTP/1.1 999 X\r\n',
    'HTTP/2 200\r\n',
  ],
  ...['Content-Length: 5\r\n', 'Content-Length: 0\r\n', 'Content-Length: x\r\n', 'Transfer-Encoding: chunked\r\n'],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'Connection: upgrade\r\nUpgrade: h2c\r\n',
    'Keep-Alive: timeout=0\r\n',
  ],
  ...[
    'Content-Encoding: gzip\r\n',
    'Content-Encoding: br\r\n',
    'Location: /2\r\n',
    'Location: //[\r\n',
    'Location: \r\n',
  ],
  ...['Retry-After: 0\r\n', 'Trailer: X\r\n', 'X: y\r\n', '\r\n', '\r\n\r\n', '\n', '\r', '\0', ' ', ':'],
  ...[
    'hello',
    '5\r\nhello\r\n',
    '0\r\n\r\n',
    '0\r\n',
    '-1\r\n',
    'ffffffff\r\n',
    'RTSP/1.0 200 OK\r\n',
    'ICE/1.0 200 OK\r\n',
  ],
)
const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))
const piece = fc.oneof({ weight: 8, arbitrary: word.map((text) => Buffer.from(text)) }, { weight: 1, arbitrary: noise })
const answer = fc.record({
  pieces: fc.array(piece, { maxLength: 12 }),
  begins: fc.boolean(),
  apart: fc.boolean(),
  end: fc.constantFrom('close', 'reset', 'stay'),
})

it('ends as it should', async () => {
  let given: { pieces: Buffer[]; begins: boolean; apart: boolean; end: string }
  let wellBehaved = false
  const { origin } = await serveSocket((socket) => {
    if (wellBehaved) return socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood')
    const { pieces, begins, apart, end } = given
    const all = [Buffer.from(begins ? 'HTTP/1.1 200 OK\r\n' : ''), ...pieces]
    for (const bytes of apart ? all : [Buffer.concat(all)]) socket.write(bytes)
    if (end === 'close') socket.end()
    if (end === 'reset') socket.resetAndDestroy()
  })
  const client = openTo(origin, { timeout: '20ms', circuit: { failures: 1_000 } })
  const good = openTo(origin, { circuit: { failures: 1_000 } })
  await fc.assert(
    fc.asyncProperty(answer, async (next) => {
      given = next
      wellBehaved = false
      const ended = await client.get('https://pictures.test/1').catch((thrown: unknown) => thrown)
      if (ended instanceof Error) {
        expect(ended).toBeInstanceOf(SluiceError)
        expect(['FETCH_FAILED', 'ADDRESS_BLOCKED']).toContain((ended as SluiceError).code)
      } else expect(ended).toMatchObject({ status: expect.any(Number), body: expect.any(Buffer) })
      wellBehaved = true
      expect(String((await good.get('https://pictures.test/1')).body)).toBe('good')
      expect(client.hosts()).toMatchObject([{ inFlight: 0, queued: 0 }])
    }),
    { numRuns: 300 },
  )
})
