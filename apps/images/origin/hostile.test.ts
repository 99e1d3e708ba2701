import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Origin, startOrigin } from './origin.ts'

let origin: Origin
let whole: Buffer
beforeAll(async () => {
  origin = await startOrigin()
  whole = Buffer.from(await (await fetch(`${origin.url}/60/40`)).arrayBuffer())
})
afterAll(() => origin.close())

const get = (query: string) => fetch(`${origin.url}/60/40?${query}`, { redirect: 'manual' })

/** The answer as it is sent, up to the end of the connection. */
async function raw(query: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(origin.url).port) })
  socket.write(`GET /60/40?${query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  return text(socket)
}

describe('hostile switches', () => {
  it.each([10, 1_000_000])('length=%i is announced, whatever comes', async (length) => {
    const answer = await raw(`length=${length}`)
    expect(answer).toContain(`Content-Length: ${length}\r\n`)
    expect(answer.length).toBeGreaterThan(400)
  })

  it('endless never ends', async () => {
    const { body } = await get('endless')
    let bytes = 0
    for await (const chunk of body!) {
      bytes += chunk.length
      if (bytes > 5_000_000) break
    }
    expect(bytes).toBeGreaterThan(5_000_000)
  })

  it('drip is the picture in the end, a byte at a time', async () => {
    const { body, headers } = await get('drip=1')
    expect(headers.get('content-length')).toBe(String(whole.length))
    let drops = 0
    const chunks: Uint8Array[] = []
    for await (const chunk of body!) {
      drops += 1
      chunks.push(chunk)
      if (drops === 20) break
    }
    const sent = Buffer.concat(chunks)
    expect(sent.equals(whole.subarray(0, sent.length))).toBe(true)
    expect(sent.length).toBeLessThan(whole.length)
  })

  it.each(['gzip', 'deflate', 'br', 'zstd'])('coding=%s is the picture, coded', async (coding) => {
    const answer = await get(`coding=${coding}`)
    expect(answer.headers.get('content-encoding')).toBe(coding)
    expect(Buffer.from(await answer.arrayBuffer()).equals(whole)).toBe(true)
  })

  it.each(['gzip', 'deflate', 'br', 'zstd'])('bomb=%s is 64 MiB in a few kilobytes', async (coding) => {
    const answer = await get(`bomb=${coding}`)
    expect(Number(answer.headers.get('content-length'))).toBeLessThan(100_000)
    let bytes = 0
    for await (const chunk of answer.body!) bytes += chunk.length
    expect(bytes).toBe(64 * 2 ** 20)
  })

  it('redirects count down; with no number they never end', async () => {
    expect((await get('redirects=3')).headers.get('location')).toBe('/60/40?redirects=2')
    expect((await get('redirects=1')).headers.get('location')).toBe('/60/40')
    expect((await get('redirects')).headers.get('location')).toBe('/60/40?redirects')
    expect((await fetch(`${origin.url}/60/40?redirects=3`)).status).toBe(200)
  })

  it('headers are 100,000, garbage is no HTTP, reset is a reset', async () => {
    expect((await raw('headers')).split('\r\n').length).toBeGreaterThan(100_000)
    expect(await raw('garbage')).toBe('SSH-2.0-no web server\r\n')
    await expect(raw('reset')).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  it('type says one thing and the body is another', async () => {
    const lie = await get('type=lie')
    expect([lie.headers.get('content-type'), (await lie.text()).slice(0, 9)]).toEqual(['image/jpeg', '<!doctype'])
    expect((await (await get('type=empty')).arrayBuffer()).byteLength).toBe(0)
  })
})
