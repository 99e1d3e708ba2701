/** Requests in the shape of an OpenAPI document, near it, and far from it. */
import fc from 'fast-check'

export type Json = Readonly<Record<string, unknown>>

interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly schema: Json
}

export interface Operation {
  readonly method: string
  /** With `{name}` for parameters. */
  readonly path: string
  readonly parameters: readonly Parameter[]
  readonly requestBody?: {
    readonly content: Readonly<Record<string, { readonly schema: Json; readonly example?: unknown }>>
  }
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Json }>> }>
  >
}

export interface Request {
  readonly operation: Operation
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array | undefined
}

export function operationsOf({ paths }: { readonly paths: Readonly<Record<string, Readonly<Record<string, Json>>>> }) {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(
      ([method, rest]) => ({ ...rest, method: method.toUpperCase(), path }) as unknown as Operation,
    ),
  )
}

const oddTexts = [
  ...['', ' ', '\0', 'a\0b', '%00', '.', '..', '../../etc/passwd', '..\\..\\x', "'; drop table sluice.runs; --"],
  ...['\ud800', '-1', '0', '1e999', '99999999999999999999', 'NaN', 'null', 'true', '__proto__', 'constructor'],
  ...['\u202egnp.exe', 'a\r\nset-cookie: b', '{}', '[]', '"', '\u0130', 'e\u0301', 'x'.repeat(300), 'x'.repeat(12_000)],
]
export const text = fc.oneof(fc.constantFrom(...oddTexts), fc.string(), fc.string({ unit: 'binary' }))

const oddNumbers = [0, -1, 1.5, 2 ** 31, 2 ** 53, -(2 ** 63), 1e308, Number.MIN_VALUE]
const odd = fc.oneof(
  text,
  fc.constantFrom(...oddNumbers),
  fc.constantFrom(null, true, [], {}),
  fc.jsonValue({ maxDepth: 4 }),
)

/** Values that fit a JSON Schema, as far as its pattern is one that can be generated from. */
export function fitting(schema: Json): fc.Arbitrary<unknown> {
  const examples = (schema.examples ?? (schema.example === undefined ? [] : [schema.example])) as unknown[]
  const made = fittingShape(schema)
  return examples.length > 0 ? fc.oneof(fc.constantFrom(...examples), made) : made
}

function fittingShape(schema: Json): fc.Arbitrary<unknown> {
  if ('const' in schema) return fc.constant(schema.const)
  if (Array.isArray(schema.enum)) return fc.constantFrom(...schema.enum)
  if (Array.isArray(schema.anyOf)) return fc.oneof(...schema.anyOf.map((one) => fitting(one as Json)))
  const number = (name: string, fallback: number) => (typeof schema[name] === 'number' ? schema[name] : fallback)
  switch (schema.type) {
    case 'string':
      return fittingText(schema, number('minLength', 0), number('maxLength', 60))
    case 'integer':
      return fc.integer({ min: Math.max(number('minimum', -9), -9), max: Math.min(number('maximum', 999), 999) })
    case 'number':
      return fc.double({ noNaN: true, noDefaultInfinity: true })
    case 'boolean':
      return fc.boolean()
    case 'null':
      return fc.constant(null)
    case 'array': {
      const least = number('minItems', 0)
      return fc.array(fitting((schema.items ?? {}) as Json), { minLength: least, maxLength: least + 3 })
    }
    case 'object':
      return fittingObject(schema)
    default:
      return fc.jsonValue({ maxDepth: 3 })
  }
}

function fittingText({ pattern, format }: Json, least: number, most: number): fc.Arbitrary<string> {
  if (format === 'uuid') return fc.uuid()
  if (typeof pattern === 'string') {
    try {
      return fc.stringMatching(new RegExp(pattern))
    } catch {
      return fc.constantFrom('birds', 'a b', 'x')
    }
  }
  return fc.string({ minLength: least, maxLength: Math.min(most, least + 60) })
}

function fittingObject({ properties = {}, required = [], additionalProperties }: Json): fc.Arbitrary<object> {
  const fields = Object.entries(properties as Record<string, Json>).map(([name, one]) => [name, fitting(one)] as const)
  const known = fc.record(Object.fromEntries(fields), { requiredKeys: required as never[] })
  if (typeof additionalProperties !== 'object') return known
  const more = fc.dictionary(fc.string(), fitting(additionalProperties as Json), { maxKeys: 2 })
  return fc.tuple(known, more).map(([one, other]) => ({ ...other, ...one }))
}

/** With one thing changed somewhere inside. */
function near(value: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const change = fc.record({ at: fc.nat(20), how: fc.constantFrom('drop', 'add', 'set', 'deeper'), name: text, odd })
  return fc
    .tuple(value, fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([start, changes]) => changes.reduce((now, { at, how, name, odd }) => changed(now, at, how, name, odd), start))
}

function changed(value: unknown, at: number, how: string, name: string, to: unknown): unknown {
  if (typeof value !== 'object' || value === null) return to
  const entries = Object.entries(value)
  const [key, inner] = entries[at % Math.max(1, entries.length)] ?? [name, to]
  const copy: Record<string, unknown> = Object.assign(Array.isArray(value) ? [] : Object.create(null), value)
  if (how === 'drop') delete copy[key]
  else if (how === 'add') copy[name] = to
  else copy[key] = how === 'deeper' ? changed(inner, at, 'set', name, to) : to
  return copy
}

const oddBodies = [
  ...['', '{', '[[[[', 'null', '"', '{"__proto__":{}}', '{"constructor":{"prototype":{}}}', '{"a":1,"a":2}'],
  ...['{"params":{"file":"\\u0000"}}', '{"ids":["\\ud800"]}', '{"urls":[1e999]}', '['.repeat(500), '\ufeff{}'],
  ...[`{"urls":["${'y'.repeat(9_000)}"],"name":"long"}`],
]

interface Sent {
  readonly body: string | Uint8Array | undefined
  readonly type: string | undefined
}

/** As the document says. */
function rightBodies({ requestBody }: Operation): fc.Arbitrary<Sent> {
  const content = Object.entries(requestBody?.content ?? {})
  if (content.length === 0) return fc.constant({ type: undefined, body: undefined })
  return fc.oneof(
    ...content.map(([type, { schema, example }]) => {
      if (!type.endsWith('json')) return fc.string().map((body): Sent => ({ type, body }))
      const value = example === undefined ? fitting(schema) : fc.oneof(fc.constant(example), fitting(schema))
      return value.map((one): Sent => ({ type, body: JSON.stringify(one) }))
    }),
  )
}

const oddTypes = ['application/json; charset=utf-16', 'multipart/form-data', '*/*', 'application/xml', ';', 'a/b; c="']

function bodies({ requestBody }: Operation): fc.Arbitrary<Sent> {
  const content = Object.entries(requestBody?.content ?? {})
  const fit = content.map(([type, { schema }]) => {
    if (!type.endsWith('json')) return fc.oneof(text, fc.uint8Array()).map((body) => ({ type, body }))
    const value = fitting(schema)
    return fc.oneof({ weight: 3, arbitrary: value }, { weight: 3, arbitrary: near(value) }, odd).map((one) => ({
      type,
      body: JSON.stringify(one),
    }))
  })
  const oddType = fc.constantFrom(...content.map(([type]) => type), 'text/plain', ...oddTypes)
  const types = fc.oneof(fc.constant('application/json'), oddType)
  const wild = fc.record({
    type: fc.option(types, { nil: undefined }),
    body: fc.oneof(fc.constantFrom(...oddBodies), fc.constant('x'.repeat(70_000)), text),
  })
  const none = fc.constant<Sent>({ type: undefined, body: undefined })
  const [first, ...rest] = fit
  return first
    ? fc.oneof({ weight: 6, arbitrary: fc.oneof(first, ...rest) }, wild, none)
    : fc.oneof({ weight: 4, arbitrary: none }, wild)
}

const headerText = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_.;/=," \u00e9'), maxLength: 40 })
const wildHeaders = fc.record(
  {
    'idempotency-key': fc.oneof(fc.constantFrom('a', 'b', 'k'.repeat(200), 'k'.repeat(201)), headerText),
    accept: fc.constantFrom('*/*', 'application/xml', 'text/html'),
    origin: fc.constantFrom('http://evil.example', 'null'),
    'sec-fetch-site': fc.constantFrom('same-origin', 'cross-site', 'nonsense'),
    'last-event-id': headerText,
    'if-none-match': headerText,
    'content-encoding': fc.constantFrom('gzip', 'identity', 'br'),
    'x-http-method-override': fc.constantFrom('DELETE'),
  },
  { requiredKeys: [] },
)

/** What leads somewhere. */
export interface Known {
  /** Values of path parameters, by the segment before them, `runs`, or by that and their name, `dead-letters offset`. */
  readonly names: Readonly<Record<string, readonly string[]>>
  readonly cursors: readonly string[]
}

/** Of one operation: half of them as the document says, the others with anything wrong. `wait` is short: nobody waits for news. */
export function requestsOf(operation: Operation, known: Known): fc.Arbitrary<Request> {
  const { wild, tame } = valuesOf(known)
  const places = operation.parameters.filter(({ in: place }) => place === 'path')
  const query = operation.parameters.filter(({ in: place }) => place === 'query')
  const named = ({ name }: Parameter) => fc.constantFrom(...namesOf(operation.path, name, known))
  const oddMethods = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'PROPFIND')
  const right = fc.record({
    method: fc.constant(operation.method),
    path: fc.tuple(...places.map(named)),
    query: fc.tuple(...query.map((one) => fc.array(tame(one), { maxLength: 1 }))),
    twice: fc.constant(null),
    more: fc.constant<[string, string][]>([]),
    tail: fc.constant(null),
    sent: rightBodies(operation),
    headers: fc.oneof(fc.constant({}), fc.record({ 'idempotency-key': fc.constantFrom('a', 'b', 'k'.repeat(200)) })),
  })
  const wrong = fc.record({
    method: fc.option(oddMethods, { freq: 15, nil: operation.method }),
    path: fc.tuple(...places.map((one) => fc.oneof({ weight: 4, arbitrary: named(one) }, wild(one)))),
    query: fc.tuple(...query.map((one) => fc.array(wild(one), { maxLength: 1 }))),
    twice: fc.option(fc.nat(9), { freq: 12 }),
    more: fc.oneof({ weight: 6, arbitrary: fc.constant([]) }, fc.array(fc.tuple(text, text), { maxLength: 1 })),
    tail: fc.option(text, { freq: 20 }),
    sent: bodies(operation),
    headers: fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, wildHeaders),
  })
  return fc.oneof(right, wrong).map(({ method, path, query: values, twice, more, tail, sent, headers }) => {
    let next = 0
    const filled = operation.path.replace(/\{[^}]+\}/g, () => encode(path[next++] as string))
    const pairs = [...values.flatMap((given, at) => given.map((one) => [query[at]!.name, one] as const)), ...more]
    const doubled = twice === null || pairs.length === 0 ? pairs : [...pairs, pairs[twice % pairs.length]!]
    const search = doubled.map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&')
    const url = `${filled}${tail === null ? '' : `/${encode(tail)}`}${search === '' ? '' : `?${search}`}`
    const all = { ...(sent.type === undefined ? {} : { 'content-type': sent.type }), ...headers } as Record<
      string,
      string
    >
    return {
      operation,
      // A HEAD that HTTP cannot read is answered with a body, for nobody knows its method.
      method: method === 'HEAD' && url.length > 8_000 ? 'GET' : method,
      url,
      headers: all,
      body: sent.body,
      [fc.toStringMethod]: () => `${method} ${url} ${JSON.stringify(all)} ${sent.body}`,
    }
  })
}

function namesOf(path: string, parameter: string, { names }: Known): readonly string[] {
  const before = path.slice(0, path.indexOf(`{${parameter}}`))
  const segment = /([a-z-]+)\/(?:\{[^}]+\}\/)*$/.exec(before)?.[1] ?? ''
  return names[`${segment} ${parameter}`] ?? names[segment] ?? ['x']
}

const lists = ['runs', 'workflows', 'streams', 'dead-letters', 'tasks', 'transitions', 'logs', 'hosts']

/** Of a parameter: values that fit it, and any. */
function valuesOf(known: Known) {
  const ids = Object.values(known.names).flat()
  const anyList = fc.constantFrom(...lists, ...lists.flatMap((list) => ids.map((id) => `${list} ${id}`)))
  const position = fc.oneof(
    fc.constantFrom(...ids),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.jsonValue({ maxDepth: 2 }),
    forgedPlace,
  )
  const forged = fc.tuple(anyList, position).map((parts) => Buffer.from(JSON.stringify(parts)).toString('base64url'))
  const cursors = fc.oneof(fc.constantFrom(...known.cursors), forged)
  const tame = ({ name, schema }: Parameter): fc.Arbitrary<string> => {
    if (name === 'wait') return fc.constantFrom('1ms', '5ms')
    return name === 'cursor' || name === 'after' ? cursors : fitting(schema).map(String)
  }
  const wild = (one: Parameter): fc.Arbitrary<string> => {
    if (one.name === 'wait') return fc.constantFrom('0ms', '1ms', '31s', 'soon', '-1s')
    return fc.oneof({ weight: 4, arbitrary: tame(one) }, text, cursors)
  }
  return { tame, wild }
}

const edge = fc.constantFrom(-2, -1, 0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 53)
const times = fc.constantFrom(
  '0000-01-01T00:00:00.000000Z',
  '9999-12-31T23:59:59.999999Z',
  '2026-01-01T00:00:00.000000Z',
)
const forgedPlace = fc.oneof(
  fc.tuple(edge, edge),
  fc.tuple(times, fc.uuid(), edge, edge, edge),
  fc.tuple(text, text, text),
)

const encode = (some: string) => encodeURIComponent(some.toWellFormed())
