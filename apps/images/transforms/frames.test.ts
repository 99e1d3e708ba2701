import fc from 'fast-check'
import { expect, it } from 'vitest'
import { FrameReader, frame } from './frames.ts'

it('frames come out as they went in, however the pipe cuts them', () => {
  const message = fc.record({ header: fc.dictionary(fc.string(), fc.integer()), parts: fc.array(fc.uint8Array()) })
  fc.assert(
    fc.property(fc.array(message), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (messages, cuts) => {
      const whole = Buffer.concat(messages.flatMap(({ header, parts }) => frame(header, parts)))
      const heard: unknown[] = []
      const reader = new FrameReader<object>((header, bytes) => heard.push({ header, bytes: Buffer.from(bytes) }))
      for (let at = 0, cut = 0; at < whole.length; cut += 1) {
        const length = cuts[cut % cuts.length]!
        reader.push(whole.subarray(at, at + length))
        at += length
      }
      expect(heard).toEqual(messages.map(({ header, parts }) => ({ header, bytes: Buffer.concat(parts) })))
    }),
  )
})

it('what is no frame is refused before it is gathered', () => {
  const reader = new FrameReader<object>(() => {})
  expect(() => reader.push(Buffer.from('HTTP/1.1 200 OK'))).toThrow(/is none of ours/)
})
