import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Schema, z } from '../sdk/schema.ts'
import { plainParser } from './plain-schema.ts'

const event = z.object({
  id: z.string().optional(),
  token: z.string().min(1).max(5),
  count: z.int().min(0).max(100),
  share: z.number(),
  flag: z.boolean().nullable(),
  at: z.date().optional(),
})
const good = { token: 'a', count: 1, share: 0.5, flag: null }

describe('a plain schema', () => {
  it('gives what fits as it is', () => {
    const parse = plainParser(event)!
    expect(parse(good)).toBe(good)
    expect(parse({ ...good, id: 'x', at: new Date(0), flag: true })).toBeDefined()
  })

  it.each<[string, unknown]>([
    ['an unknown field', { ...good, more: 1 }],
    ['a field without a value', { ...good, id: undefined }],
    ['a wrong type', { ...good, token: 1 }],
    ['a bound', { ...good, count: 101 }],
    ['a fraction', { ...good, count: 1.5 }],
    ['no number', { ...good, share: Number.NaN }],
    ['no date', { ...good, at: new Date(Number.NaN) }],
    ['an array', [good]],
    ['null', null],
    ['fields of a prototype', Object.create(good)],
  ])('leaves to zod: %s', (_, value) => {
    expect(plainParser(event)!(value)).toBeUndefined()
  })

  it.each<[string, Schema]>([
    ['a transform', z.object({ a: z.string().transform((text) => text.length) })],
    ['a trim', z.object({ a: z.string().trim() })],
    ['a default', z.object({ a: z.string().default('x') })],
    ['a format', z.object({ a: z.email() })],
    ['a pattern', z.object({ a: z.string().regex(/a/) })],
    ['a coercion', z.object({ a: z.coerce.number() })],
    ['a check of one field', z.object({ a: z.string().refine((text) => text !== 'a') })],
    ['a check of the whole', z.object({ a: z.string() }).refine(({ a }) => a !== 'a')],
    ['an exclusive bound', z.object({ a: z.number().positive() })],
    ['a multiple', z.object({ a: z.number().multipleOf(2) })],
    ['a 32-bit number', z.object({ a: z.int32() })],
    ['a bound of dates', z.object({ a: z.date().min(new Date()) })],
    ['loose fields', z.looseObject({ a: z.string() })],
    ['a list', z.object({ a: z.array(z.string()) })],
    ['no object', z.string()],
    ['a union', z.union([z.object({ a: z.string() }), z.object({ b: z.string() })])],
  ])('is not one with %s', (_, schema) => {
    expect(plainParser(schema)).toBeUndefined()
  })

  it('never gives what zod would not', () => {
    const value = fc.oneof(
      ...[
        fc.string(),
        fc.integer(),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
        fc.constant(undefined),
        fc.date({ noInvalidDate: false }),
      ],
      fc.constantFrom('', 'abcdef', 2 ** 53, -0, Number.POSITIVE_INFINITY, Number.NaN),
    )
    const names = fc.constantFrom('id', 'token', 'count', 'share', 'flag', 'at', 'more', 'constructor')
    const changed = fc
      .dictionary(names, value, { maxKeys: 3, noNullPrototype: true })
      .map((some) => ({ ...good, ...some }))
    const schemas = [event, z.strictObject(event.shape)]
    fc.assert(
      fc.property(changed, fc.constantFrom(...schemas), (given, schema) => {
        const quick = plainParser(schema)!(given)
        if (quick !== undefined) expect(schema.safeParse(given)).toEqual({ success: true, data: quick })
      }),
      { numRuns: 2_000 },
    )
  })
})
