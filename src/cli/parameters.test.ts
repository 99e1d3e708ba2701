import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readParams } from './parameters.ts'

const any = { additionalProperties: {}, properties: {} }

it('takes JSON where it is JSON, and any other text as it is', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      // JSON has no negative zero.
      const plain = JSON.parse(JSON.stringify(value))
      expect(readParams([`a=${JSON.stringify(value)}`], any)).toEqual({ a: plain })
    }),
  )
  expect(readParams(['a=x=y', 'b=', 'c={'], any)).toEqual({ a: 'x=y', b: '', c: '{' })
})

it('takes text for text, whatever it looks like', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(readParams([`a=${text}`], { properties: { a: { type: 'string' } } })).toEqual({ a: text })
    }),
  )
})

it('refuses what is given twice', () => {
  expect(() => readParams(['a=1', 'a=2'], any)).toThrow('The parameter a is given twice')
})
