/** Whatever is sent, in the shape of the OpenAPI document or far from it: never an error of ours, and always a problem document. */
import fc from 'fast-check'
import type { InjectOptions } from 'fastify'
import { expect, it } from 'vitest'
import { insertRun, insertTask, testApi } from '../../test/test-api.ts'
import { taskIdOf } from '../core/ids.ts'
import { endpoint } from '../sdk/endpoint.ts'
import { z } from '../sdk/schema.ts'
import { registerNode } from '../store/nodes.ts'
import { acquire, ensureShards } from '../store/shards.ts'
import { append, ensureTopic } from '../store/topics.ts'
import { problemSchema } from './problem.ts'

const node = '0199c7a8-5f2e-7c31-9d0a-5b8000000001'

interface Operation {
  readonly method: string
  readonly path: string
  readonly query: readonly string[]
}

const contributed = endpoint('POST /api/v1/images/:id', {
  summary: 'An image',
  params: z.object({ id: z.string().max(10) }),
  query: z.object({ width: z.coerce.number().int().min(1).optional() }),
  body: z.object({ name: z.string().min(1), tags: z.array(z.string()).max(3).default([]) }),
  reply: z.object({ name: z.string() }),
  handle: ({ body }) => body,
})

const oddTexts = [
  '',
  '\0',
  '%00',
  '..',
  '../../etc/passwd',
  "'; drop table sluice.runs; --",
  '\ud800',
  '-1',
  '99999999999999999999',
  'NaN',
  '__proto__',
  'constructor',
  '\u202e',
  'x'.repeat(300),
]
const text = fc.oneof(fc.constantFrom(...oddTexts), fc.string(), fc.string({ unit: 'binary' }))
const json = fc.jsonValue({ maxDepth: 6 }).map((value) => JSON.stringify(value))
const token = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_.;/=," '), maxLength: 30 })

const body = fc.oneof(
  fc.constant(undefined),
  json,
  fc.constantFrom(
    '{',
    '[[[[',
    '{"__proto__":{}}',
    '{"constructor":{"prototype":{}}}',
    '{"params":{"file":"a"}}',
    '{"all":true}',
    '{"ids":["\\u0000"]}',
    '{"ids":["\\ud800"]}',
    `${'['.repeat(500)}`,
  ),
  fc.record({ params: fc.dictionary(text, fc.jsonValue()) }).map((value) => JSON.stringify(value)),
  text,
)

const headers = fc.record(
  {
    'content-type': fc.oneof(
      fc.constantFrom(
        'application/json',
        'application/json; charset=utf-16',
        'text/plain',
        'multipart/form-data',
        '*/*',
        '',
      ),
      token,
    ),
    'idempotency-key': token,
    accept: fc.constantFrom('*/*', 'application/xml', 'text/html'),
    origin: fc.constantFrom('http://localhost', 'http://evil.example', 'null'),
    'sec-fetch-site': fc.constantFrom('same-origin', 'cross-site', 'nonsense'),
    'last-event-id': token,
    'content-length': fc.constantFrom('0', '5', '-1', 'x'),
    'x-http-method-override': fc.constantFrom('DELETE'),
  },
  { requiredKeys: [] },
)

function requests(operations: readonly Operation[], ids: readonly string[]): fc.Arbitrary<InjectOptions> {
  const name = fc.oneof(fc.constantFrom(...ids, 'catalog', 'images'), text)
  const value = fc.oneof(
    name,
    fc.constantFrom('1', '50', '1ms', 'success', 'queued'),
    fc.string().map((some) => Buffer.from(some).toString('base64url')),
  )
  return fc
    .record({
      operation: fc.constantFrom(...operations),
      method: fc.option(fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'), { freq: 4 }),
      parts: fc.array(name, { minLength: 3, maxLength: 3 }),
      tail: fc.option(text, { freq: 6 }),
      query: fc.array(fc.tuple(fc.nat(9), text, value), { maxLength: 3 }),
      body,
      headers,
    })
    .map(({ operation, method, parts, tail, query, body, headers }) => {
      let next = 0
      const path = operation.path.replace(/\{[^}]+\}/g, () => encode(parts[next++ % parts.length] as string))
      const search = query.map(([known, other, value]) => `${encode(operation.query[known] ?? other)}=${encode(value)}`)
      const url = `${path}${tail === null ? '' : `/${encode(tail)}`}${search.length > 0 ? `?${search.join('&')}` : ''}`
      return {
        method: (method ?? operation.method) as 'GET',
        url,
        headers: { host: 'localhost', ...headers },
        ...(body !== undefined && { payload: body }),
      }
    })
}

/** Percent-encoded, or as it is where that is a URL too. */
function encode(some: string): string {
  return encodeURIComponent(some.toWellFormed())
}

it('never fails, and explains every refusal', async () => {
  const { app, db, logged } = await testApi({ endpoints: [contributed] })
  const runId = await insertRun(db)
  await insertTask(db, runId, [0, -1], 'success', { result: 1 })
  await ensureTopic(db, 'urls', 2)
  await ensureShards(db, 'images', 'urls')
  await registerNode(db, { id: node, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000 })
  await acquire(db, ['images'], node, 600_000, 2)
  await append(db, 'urls', [{ id: '1', key: null, value: '{}' }])
  const operations = operationsOf((await app.inject('/openapi.json')).json())
  expect(operations.length).toBeGreaterThan(18)
  const ids = [runId, taskIdOf(runId, 0, -1), taskIdOf(runId, 1, 0)]
  const seen = new Set<number>()
  await fc.assert(
    fc.asyncProperty(requests(operations, ids), async (request) => {
      const answer = await app.inject(request)
      seen.add(answer.statusCode)
      if (answer.statusCode < 400) return
      expect(answer.statusCode).toBeLessThan(500)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      if (request.method !== 'HEAD') expect(problemSchema.strict().parse(answer.json()).status).toBe(answer.statusCode)
    }),
    { numRuns: 1_500, seed: 20_260_328 },
  )
  expect(logged).toEqual([])
  // The property says something only if it gets through to the functions of the routes, and is refused in many ways.
  expect([...seen]).toEqual(expect.arrayContaining([200, 400, 403, 404, 405, 415, 422]))
})

interface Document {
  readonly paths: Readonly<
    Record<
      string,
      Readonly<Record<string, { readonly parameters: readonly { readonly name: string; readonly in: string }[] }>>
    >
  >
}

function operationsOf({ paths }: Document): Operation[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters }]) => ({
      method: method.toUpperCase(),
      path,
      query: parameters.filter((parameter) => parameter.in === 'query').map((parameter) => parameter.name),
    })),
  )
}
