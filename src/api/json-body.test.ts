import fc from 'fast-check'
import { expect, it } from 'vitest'
import { jsonFault } from './json-body.ts'

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return 1 + Math.max(0, ...Object.values(value).map(depthOf))
}

it('knows the depth of any JSON text', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), fc.nat(9), (value, limit) => {
      for (const text of [JSON.stringify(value), JSON.stringify(value, null, 2)]) {
        expect(jsonFault(text, limit)?.kind).toBe(depthOf(value) > limit ? 'deep' : undefined)
      }
    }),
  )
})

it('is not misled by brackets and quotes in texts', () => {
  expect(jsonFault(JSON.stringify(['[[[[', '\\"[[', '\\\\']), 1)).toBeUndefined()
})

it('finds a name that one object has twice, however it is written', () => {
  for (const json of ['{"a":1,"a":2}', '{ "a" : {"a":[]}, "b":["a","a"], "\\u0061" : 0 }', '[{"":1,"":1}]']) {
    expect(jsonFault(json, 9)?.kind).toBe('doubled')
  }
  for (const json of [
    '{"a":"a","b":"a"}',
    '[{"a":1},{"a":1},"a","a"]',
    '{"a":{"a":{"a":1}}}',
    '{"a":["b",{"b":1}],"b":1}',
    '{"a"',
    '{"a":1,"',
  ]) {
    expect(jsonFault(json, 9)).toBeUndefined()
  }
})

it('finds a doubled name wherever it is put, and none where there is none', () => {
  const value = fc.jsonValue({ maxDepth: 5 })
  fc.assert(
    fc.property(fc.dictionary(fc.string(), value, { minKeys: 1, noNullPrototype: true }), value, (object, other) => {
      const json = JSON.stringify(object)
      expect(jsonFault(json, 20)).toBeUndefined()
      for (const name of Object.keys(object)) {
        const twice = `${json.slice(0, -1)},${JSON.stringify(name)}:${JSON.stringify(other)}}`
        expect(jsonFault(`[${twice}]`, 20)).toEqual({ kind: 'doubled', name })
      }
    }),
  )
})
