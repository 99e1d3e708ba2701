import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Body } from './body.ts'

describe('a body', () => {
  it('is what came, in its order, however it was cut', () => {
    const chunk = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 100, 4_095, 4_096, 70_000))
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 60 }), (given) => {
        const chunks = given.map(([byte, length]) => Buffer.alloc(length, byte))
        const body = new Body()
        for (const one of chunks) body.add(one)
        const whole = Buffer.concat(chunks)
        expect(body.bytes).toBe(whole.length)
        expect(body.whole().equals(whole)).toBe(true)
      }),
    )
  })

  it('that comes byte by byte is held in blocks', () => {
    const body = new Body()
    for (let byte = 0; byte < 1_000_000; byte += 1) body.add(Buffer.of(byte & 255))
    expect(body.pieces).toBe(16)
    expect(body.whole().length).toBe(1_000_000)
  })

  it('whose chunks are long and short in turn holds few buffers, and no block for a few bytes', () => {
    const body = new Body()
    for (let round = 0; round < 100; round += 1) {
      body.add(Buffer.alloc(4_096))
      body.add(Buffer.alloc(1))
    }
    expect(body.pieces).toBeLessThanOrEqual(200)
    expect(body.whole().length).toBe(409_700)
  })
})
