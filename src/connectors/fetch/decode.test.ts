/** Bodies in a content coding, over real sockets. */
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { failureOf, openTo, serve } from './loopback.fixture.ts'

const codings = {
  gzip: gzipSync,
  'x-gzip': gzipSync,
  deflate: deflateSync,
  // the default quality takes seconds for a bomb
  br: (bytes: Buffer) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 3 } }),
  zstd: zstdCompressSync,
}
const picture = Buffer.from(Array.from({ length: 50_000 }, (_, index) => (index * index) % 251))

async function get(coding: string, body: Buffer, given: Record<string, unknown> = {}) {
  const { origin, seen } = await serve((_, response) => {
    response.writeHead(200, { 'content-encoding': coding, 'content-length': body.length }).end(body)
  })
  const result = openTo(origin, given).get('https://pictures.test/')
  return { result, seen }
}

describe('a body in a content coding', () => {
  it.each(Object.entries(codings))('%s, which nobody asked for, is undone', async (coding, encode) => {
    const coded = encode(picture)
    const { result, seen } = await get(coding, coded)
    const { body, headers } = await result
    expect(body.equals(picture)).toBe(true)
    expect(headers).toMatchObject({ 'content-encoding': coding, 'content-length': String(coded.length) })
    expect(seen[0]?.headers['accept-encoding']).toBe('identity')
  })

  it.each(Object.entries(codings))('%s, a bomb, is stopped at the cap', async (coding, encode) => {
    const bomb = encode(Buffer.alloc(64 * 2 ** 20))
    expect(bomb.length).toBeLessThan(100_000)
    const { result } = await get(coding, bomb, { maxBytes: 100_000 })
    expect(await failureOf(result)).toBe('BODY_TOO_LARGE')
  })

  it.each(Object.entries(codings))('%s, of exactly the cap, is whole', async (coding, encode) => {
    const { result } = await get(coding, encode(picture), { maxBytes: picture.length })
    expect((await result).body.length).toBe(picture.length)
    const over = await get(coding, encode(picture), { maxBytes: picture.length - 1 })
    expect(await failureOf(over.result)).toBe('BODY_TOO_LARGE')
  })

  it.each(Object.entries(codings))('%s, cut short, is truncated', async (coding, encode) => {
    const coded = encode(picture)
    expect(await failureOf((await get(coding, coded.subarray(0, coded.length >> 1))).result)).toBe('truncated')
  })

  it.each(Object.keys(codings))('%s, which it is not in, is no answer', async (coding) => {
    expect(await failureOf((await get(coding, Buffer.from('not at all in it'))).result)).toBe('protocol')
  })

  it.each(['lzma', 'gzip, gzip', 'gzip,br', 'GZIP2', 'chunked'])('%s, not known, is no answer', async (coding) => {
    expect(await failureOf((await get(coding, gzipSync(gzipSync(picture)))).result)).toBe('protocol')
  })

  it.each(['identity', 'Identity', ''])('"%s" is none', async (coding) => {
    expect((await (await get(coding, picture)).result).body.equals(picture)).toBe(true)
  })

  it('that is empty is empty', async () => {
    expect((await (await get('gzip', Buffer.alloc(0))).result).body.length).toBe(0)
  })
})
