import fc from 'fast-check'
import { expect, it } from 'vitest'
import { unfitPart } from '../core/input-faults.ts'
import { jsonFault, parseJson } from './json-body.ts'

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

/**
 * JSON texts whose names and texts have colons, quotes, brackets and escapes, with blanks anywhere, and now and then a name twice.
 * Of names with escapes `JSON.parse` itself loses some, see `lossOf`: such a body is refused.
 */
const text = fc.constantFrom(
  'a',
  'b',
  'c:',
  ':',
  'a"b',
  '{',
  '[',
  'constructor',
  'a\\',
  'é',
  'a\0',
  'a\ud800',
  '__proto__',
  '\\',
  '\0',
)
const written = text.chain((one) =>
  fc.constantFrom(JSON.stringify(one), JSON.stringify(one).replaceAll(':', '\\u003a').replace(/^"a/, '"\\u0061')),
)
const blank = fc.constantFrom('', '', ' ', '\n')
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { depthSize: 'small' },
    written,
    fc.constantFrom('1', '-0.5', 'null', 'true', '9007199254740993', '1e400', '1e20'),
    fc
      .tuple(fc.array(tie('json'), { maxLength: 3 }), blank)
      .map(([items, space]) => `[${items.join(`${space},`)}${space}]`),
    fc
      .tuple(fc.array(fc.tuple(written, blank, tie('json')), { maxLength: 4 }), blank)
      .map(
        ([fields, space]) =>
          `{${fields.map(([name, gap, value]) => `${name}${gap}:${gap}${value}`).join(`,${space}`)}}`,
      ),
  ),
}))

const inexact = (value: unknown): boolean =>
  typeof value === 'number'
    ? !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))
    : typeof value === 'object' && value !== null && Object.values(value).some(inexact)

const namesOf = (value: unknown): number =>
  typeof value !== 'object' || value === null
    ? 0
    : Object.values(value).reduce(
        (sum: number, part) => sum + namesOf(part),
        Array.isArray(value) ? 0 : Object.keys(value).length,
      )
const colonsOutsideOfTexts = (body: string) => body.replace(/"(?:[^"\\]|\\.)*"/g, '').split(':').length - 1

it('reads a body at a look as it does when it looks at every character', () => {
  fc.assert(
    fc.property(json, (body) => {
      const fault = jsonFault(body, 4)
      const reaches = /"__proto__"\s*:/.test(body)
      const read = () => parseJson(Buffer.from(body), 4)
      if (fault !== undefined || reaches) {
        expect(read).toThrow()
        return
      }
      let said: ReturnType<typeof read>
      try {
        said = read()
      } catch (thrown) {
        expect([(thrown as Error).message, body]).toEqual([
          expect.stringContaining('names with escapes'),
          expect.stringMatching(/\\/),
        ])
        return
      }
      const { value, suspect } = said
      expect(namesOf(value)).toBe(colonsOutsideOfTexts(body))
      const plain = JSON.parse(body)
      if (namesOf(plain) === namesOf(value)) expect(value).toEqual(plain)
      if (!suspect) expect([unfitPart(value, ''), inexact(value)]).toEqual([undefined, false])
    }),
    { numRuns: 5_000 },
  )
})

it('does not parse what is too deep before it has counted', () => {
  const deep = Buffer.from('['.repeat(4_000_000) + ']'.repeat(4_000_000))
  expect(() => parseJson(deep, 64)).toThrow('deeper than 64')
})
