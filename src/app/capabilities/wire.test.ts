import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fromWire, toWire } from './wire.ts'

test('what goes over the wire as JSON comes out as it was, bytes and odd keys included', () => {
  const values = fc.letrec((tie) => ({
    any: fc.oneof(
      { depthSize: 'small' },
      fc.constant(null),
      fc.boolean(),
      fc.integer(),
      fc.string(),
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom('a', 'b', '$bytes', '$literal', '$ref'), tie('any'), {
        maxKeys: 3,
        noNullPrototype: true,
      }),
    ),
  })).any
  fc.assert(
    fc.property(values, (value) => {
      expect(fromWire(JSON.parse(JSON.stringify(toWire(value))))).toEqual(value)
    }),
  )
})
