/** DNS as it can go wrong, over a real name server on loopback. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { atEnd, open, serve, thrownBy } from './loopback.fixture.ts'
import { dnsLookup } from './resolve-host.ts'

/** A name server: a response code, or addresses for A, or silence. Gives its address, and the names it was asked for. */
async function nameServer(answer: (name: string) => number | string[] | undefined) {
  const asked: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const end = query.indexOf(0, 12)
    const name = labels(query.subarray(12, end))
    asked.push(name)
    const found = answer(name)
    if (found === undefined) return
    const isA = query.readUInt16BE(end + 1) === 1
    const addresses = Array.isArray(found) && isA ? found : []
    const head = Buffer.from(query.subarray(0, end + 5))
    head.writeUInt16BE(0x8180 | (typeof found === 'number' ? found : 0), 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(addresses.length, 6)
    head.writeUInt32BE(0, 8)
    const records = addresses.map((address) =>
      Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]),
    )
    socket.send(Buffer.concat([head, ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  atEnd(() => socket.close())
  return { server: `127.0.0.1:${socket.address().port}`, asked }
}

function labels(bytes: Buffer): string {
  const names: string[] = []
  for (let at = 0; at < bytes.length; at += 1 + bytes[at]!)
    names.push(String(bytes.subarray(at + 1, at + 1 + bytes[at]!)))
  return names.join('.')
}

const noSystem = async () => {
  throw new Error('the system does not know it')
}

/** `timeoutMs` is how long a silent server is waited for. */
async function client(
  answer: (name: string) => number | string[] | undefined,
  given: Record<string, unknown> = {},
  timeoutMs = 20_000,
) {
  const { server, asked } = await nameServer(answer)
  const lookup = dnsLookup({ servers: [server], timeoutMs, tries: 1, system: noSystem })
  return { asked, client: open(given, { lookup }) }
}

describe('a name', () => {
  it.each([
    ['that does not exist (NXDOMAIN)', 3, 'there is no such name'],
    ['whose server fails (SERVFAIL)', 2, 'the name server failed'],
    ['whose server refuses (REFUSED)', 5, 'the name server refuses to answer'],
    ['that has no address', [], 'there is no such name'],
    ['whose server is silent', undefined, 'no name server answered in time'],
  ] as [string, number | string[] | undefined, string][])('%s fails as dns, saying so', async (_, answer, text) => {
    const asking = await client(() => answer, {}, answer === undefined ? 100 : 20_000)
    const thrown = await thrownBy(asking.client.get('http://pictures.test/'))
    expect(thrown).toMatchObject({ code: 'FETCH_FAILED', failure: 'dns', retryable: true })
    expect(thrown.message).toBe(`dns: pictures.test has no address: ${text}`)
  })

  it('whose server is silent is not asked of the system, which would wait on a thread', async () => {
    const { server } = await nameServer(() => undefined)
    const lookup = dnsLookup({ servers: [server], timeoutMs: 100, tries: 1, system: async () => ['127.0.0.1'] })
    await expect(lookup('pictures.test')).rejects.toMatchObject({ code: 'ETIMEOUT' })
  })

  it('that DNS does not know is asked of the system, for its hosts file', async () => {
    const { server } = await nameServer(() => 3)
    const lookup = dnsLookup({ servers: [server], timeoutMs: 20_000, tries: 1, system: async () => ['127.0.0.1'] })
    expect(await lookup('printer')).toEqual(['127.0.0.1'])
  })

  it('that resolves inward is blocked; when it is allowed it is fetched, at the address that was looked up', async () => {
    const { port, seen } = await serve((_, response) => response.end('ok'))
    const inward = await client(() => ['127.0.0.1'])
    expect(await thrownBy(inward.client.get(`http://pictures.test:${port}/`))).toMatchObject({
      code: 'ADDRESS_BLOCKED',
    })
    const allowed = await client(() => ['127.0.0.1'], { allow: [`pictures.test:${port}`] })
    expect((await allowed.client.get(`http://pictures.test:${port}/`)).status).toBe(200)
    expect(seen[0]?.headers.host).toBe(`pictures.test:${port}`)
  })

  it('that changes its mind between two questions is connected to by the first answer alone', async () => {
    const { port, seen } = await serve((_, response) => response.end('ok'))
    let questions = 0
    const { client: asking, asked } = await client(
      () => {
        questions += 1
        return questions <= 2 ? ['127.0.0.1'] : ['127.0.0.9']
      },
      { allow: ['127.0.0.1/32'] },
    )
    expect((await asking.get(`http://rebound.test:${port}/`)).status).toBe(200)
    expect(asked).toEqual(['rebound.test', 'rebound.test'])
    expect(seen).toHaveLength(1)
  })
})
