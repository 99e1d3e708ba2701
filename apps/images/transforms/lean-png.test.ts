import { deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { png, pngChunk, zeros } from './hostile.fixture.ts'
import { leanPng } from './lean-png.ts'
import { pictures } from './pictures.fixture.ts'

const text = pngChunk('tEXt', Buffer.from('Comment\0x'))
const packed = pngChunk('zTXt', Buffer.concat([Buffer.from('Comment\0\0'), deflateSync(Buffer.alloc(1_000))]))
const profile = pngChunk('iCCP', Buffer.from('x\0\0'))
const frame = pngChunk('fdAT', Buffer.alloc(50))
const size = { width: 2, height: 2 }

describe('a lean PNG', () => {
  it('has what its pixels need, in order, and nothing else', () => {
    const data = zeros(2, 7)
    const whole = png(size, text, profile, packed, data, frame, data, text)
    expect(leanPng(whole)).toEqual(png(size, profile, data, data))
    const lean = png(size, profile, data)
    expect(leanPng(lean)).toBe(lean)
  })

  it('keeps what it cannot read, and what is no PNG', async () => {
    const cut = png(size, text, zeros(2, 7)).subarray(0, -20)
    expect(leanPng(cut)).toEqual(Buffer.concat([cut.subarray(0, 33), cut.subarray(33 + text.length)]))
    const long = Buffer.from(png(size, text))
    long.writeUInt32BE(0xffffffff, 33)
    expect(leanPng(long)).toBe(long)
    for (const raw of [Buffer.alloc(0), Buffer.from('\x89PNG', 'latin1'), await pictures.jpeg()]) {
      expect(leanPng(raw)).toBe(raw)
    }
  })

  it('has the same pixels', async () => {
    for (const kind of ['png', 'palette', 'deepAlpha', 'greyAlpha'] as const) {
      const whole = await pictures[kind]()
      const heavy = Buffer.concat([whole.subarray(0, 33), text, packed, whole.subarray(33)])
      const pixels = (raw: Buffer) => sharp(raw).raw().toBuffer()
      expect(leanPng(heavy)).toEqual(leanPng(whole))
      expect((await pixels(leanPng(heavy))).equals(await pixels(whole))).toBe(true)
    }
  })
})
