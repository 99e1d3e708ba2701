/** Bodies that come too slowly, and such as are slow but come. */
import { expect, it } from 'vitest'
import { openTo, serveSocket, thrownBy, until } from './loopback.fixture.ts'
import { fetchSettings } from './settings.ts'

const url = 'https://pictures.test/1'
const head = 'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n'

it.each([
  ['drips from the start', 0],
  ['sends much at once and drips afterwards', 500_000],
])('a body that %s is a timeout that says so, long before the time of the fetch is over', async (_, atOnce) => {
  const { origin, sockets } = await serveSocket((socket) => {
    socket.write(head + 'x'.repeat(atOnce))
    const timer = setInterval(() => socket.write('x'), 20)
    socket.on('close', () => clearInterval(timer))
  })
  const client = openTo(origin, { timeout: '1h', minPace: { bytes: 10_000, per: '400ms' } })
  const failure = await thrownBy(client.get(url))
  expect(failure.message).toMatch(/^timeout: the body is too slow: \d+ bytes came in 400 ms, 10000 are the least$/)
  expect(failure.retryable).toBe(true)
  await until(() => [...sockets].every((socket) => socket.destroyed))
  // A host that answers is alive, however slowly; its place is free again.
  expect(client.hosts()).toMatchObject([{ circuit: 'closed', inFlight: 0, lastError: failure.message }])
})

it('a body that comes at the least pace is taken, and with 0 bytes any pace will do', async () => {
  const { origin } = await serveSocket((socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n')
    let sent = 0
    const timer = setInterval(() => {
      socket.write('x')
      sent += 1
      if (sent === 6) clearInterval(timer)
    }, 60)
    socket.on('close', () => clearInterval(timer))
  })
  for (const minPace of [
    { bytes: 0, per: '10ms' },
    { bytes: 1, per: '10s' },
  ]) {
    expect(String((await openTo(origin, { minPace }).get(url)).body)).toBe('xxxxxx')
  }
})

it('the defaults are 10 KiB in 10 s; a span of no length is refused', () => {
  expect(fetchSettings.parse({ kind: 'fetch' }).minPace).toEqual({ bytes: 10_240, per: '10s' })
  expect(fetchSettings.safeParse({ kind: 'fetch', minPace: { per: '0s' } }).success).toBe(false)
})
