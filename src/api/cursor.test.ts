import fc from 'fast-check'
import { expect, it } from 'vitest'
import { z } from '../sdk/schema.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'

const position = z.tuple([z.int(), z.string().max(50)])

it('gives back what it encoded, and nothing to another list', () => {
  fc.assert(
    fc.property(fc.integer(), fc.string({ maxLength: 50 }), (number, text) => {
      const cursor = encodeCursor('tasks', [number, text])
      expect(decodeCursor('tasks', position, cursor)).toEqual([number, text])
      expect(() => decodeCursor('runs', position, cursor)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }))
    }),
  )
})

it('refuses everything else', () => {
  const foreign = fc.oneof(
    fc.string(),
    fc.base64String(),
    fc.json().map((json) => Buffer.from(json).toString('base64url')),
    fc.constant('A'.repeat(501)),
  )
  fc.assert(
    fc.property(foreign, (cursor) => {
      expect(() => decodeCursor('tasks', position, cursor)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }))
    }),
  )
})
