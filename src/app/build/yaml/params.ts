/** The parameters of a workflow as YAML declares them. */
import { type Schema, z } from '../../../sdk/schema.ts'
import { below } from './pointer.ts'
import type { Reader } from './reader.ts'

const types = ['string', 'number', 'integer', 'boolean', 'date', 'list', 'object'] as const
type Type = (typeof types)[number]

const keysOf: Readonly<Record<Type, readonly string[]>> = {
  string: ['enum', 'min', 'max'],
  number: ['enum', 'min', 'max'],
  integer: ['enum', 'min', 'max'],
  boolean: [],
  date: [],
  list: ['min', 'max'],
  object: [],
}
const common = ['type', 'description', 'default', 'required']

/** `name: type`, or `name: { type, default, required, enum, min, max, description }`. */
export function readParams(value: unknown, pointer: string, reader: Reader): z.ZodObject {
  const shape: Record<string, Schema> = {}
  for (const [name, declared] of Object.entries(reader.map(value ?? {}, pointer, 'params') ?? {})) {
    const at = below(pointer, name)
    if (!/^[A-Za-z][\w-]*$/.test(name)) {
      reader.fault(
        at,
        `${JSON.stringify(name)} is not a name for a parameter; use letters, digits, _ and -, starting with a letter`,
        'key',
      )
    }
    const schema = readParam(name, typeof declared === 'string' ? { type: declared } : declared, at, reader)
    if (schema) shape[name] = schema
  }
  return z.strictObject(shape)
}

function readParam(name: string, declared: unknown, at: string, reader: Reader): Schema | undefined {
  const what = `the parameter ${name}`
  const fields = reader.map(declared, at, what)
  if (!fields) return undefined
  if (fields.type === undefined) return reader.fault(at, `${what} has no type; allowed are ${types.join(', ')}`)
  const type = reader.oneOf(fields.type, below(at, 'type'), `the type of ${what}`, types)
  if (!type) return undefined
  reader.fields(fields, at, what, [...common, ...keysOf[type]])
  let schema = bounded(type, fields, at, what, reader)
  if (!schema) return undefined
  if (fields.required !== undefined) reader.boolean(fields.required, below(at, 'required'), `required of ${what}`)
  if (Object.hasOwn(fields, 'default')) {
    const parsed = schema.safeParse(fields.default)
    if (!parsed.success) {
      return reader.fault(
        below(at, 'default'),
        `the default of ${what} does not fit: ${parsed.error.issues[0]?.message}`,
      )
    }
    if (fields.required === true) reader.fault(below(at, 'required'), `${what} has a default, so it is not required`)
    schema = schema.default(fields.default)
  } else if (fields.required === false) schema = schema.optional()
  const description =
    fields.description === undefined
      ? ''
      : reader.text(fields.description, below(at, 'description'), `description of ${what}`)
  return description ? schema.describe(description) : schema
}

function bounded(
  type: Type,
  fields: Readonly<Record<string, unknown>>,
  at: string,
  what: string,
  reader: Reader,
): z.ZodType | undefined {
  const [min, max] = (['min', 'max'] as const).map((key) => {
    if (fields[key] === undefined) return undefined
    const value = fields[key]
    const counts = type === 'string' || type === 'list'
    if (typeof value === 'number' && (!counts || (Number.isInteger(value) && value >= 0))) return value
    return reader.fault(
      below(at, key),
      `${key} of ${what} is ${JSON.stringify(value)}; a ${counts ? 'whole number from 0 on' : 'number'} is wanted`,
    )
  })
  if (min !== undefined && max !== undefined && min > max)
    return reader.fault(below(at, 'min'), `min of ${what} is above its max`)
  const within = <Of extends z.ZodString | z.ZodNumber | z.ZodArray>(schema: Of): Of => {
    const low = min === undefined ? schema : schema.min(min)
    return (max === undefined ? low : low.max(max)) as Of
  }
  const plain = {
    string: () => within(z.string()),
    number: () => within(z.number()),
    integer: () => within(z.int()),
    boolean: () => z.boolean(),
    date: () => z.iso.date(),
    list: () => within(z.array(z.unknown())),
    object: () => z.record(z.string(), z.unknown()),
  }[type]()
  if (fields.enum === undefined) return plain
  const values = reader.list(fields.enum, below(at, 'enum'), `enum of ${what}`)
  if (!values) return undefined
  if (values.length === 0) return reader.fault(below(at, 'enum'), `enum of ${what} has no values`)
  for (const [index, value] of values.entries()) {
    const parsed = plain.safeParse(value)
    if (!parsed.success)
      return reader.fault(below(at, 'enum', index), `enum of ${what}: ${parsed.error.issues[0]?.message}`)
  }
  return z.literal(values as [string, ...string[]])
}
