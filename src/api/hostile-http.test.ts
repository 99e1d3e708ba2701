/** What no client would send: refused with a problem document, and the server goes on. */
import { METHODS } from 'node:http'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/database.ts'
import { until } from '../../test/engine-world.ts'
import { openTestApi, type TestApi } from '../../test/test-api.ts'
import { endpoint } from '../sdk/endpoint.ts'
import { z } from '../sdk/schema.ts'
import { problemSchema } from './problem.ts'
import { answerIn, exchange, type RawAnswer } from './raw-http.fixture.ts'

const echo = endpoint('POST /echo', {
  summary: 'Gives back',
  query: z.object({ q: z.string().optional(), many: z.coerce.number().int().optional() }),
  body: z.object({ a: z.unknown() }),
  handle: ({ body }) => body,
})
const upload = endpoint('POST /upload', {
  summary: 'Counts',
  upload: { types: ['text/plain'], maxBytes: 100 },
  async handle({ upload }) {
    let bytes = 0
    for await (const chunk of upload ?? []) bytes += chunk.length
    return { bytes }
  },
})

let database: TestDatabase
let api: TestApi
let port: number
beforeAll(async () => {
  database = await testDatabase({ max: 4 })
  api = await openTestApi(database.db, {
    endpoints: [echo, upload],
    limits: { headersMs: 1_000, requestMs: 1_500, checkEveryMs: 100, connections: 64 },
  })
  port = Number(new URL(await api.listen(0)).port)
})
afterAll(async () => {
  await api?.close()
  await database?.drop()
})

const ask = async (text: string | Uint8Array) => answerIn(await exchange(port, text))
const lines = (...all: string[]) => `${all.join('\r\n')}\r\n\r\n`
const host = () => `Host: localhost:${port}`
const close = 'Connection: close'
const get = (path: string, ...headers: string[]) => lines(`GET ${path} HTTP/1.1`, host(), close, ...headers)
const post = (path: string, type: string, body: string | Uint8Array, ...headers: string[]) => {
  const head = lines(
    ...[`POST ${path} HTTP/1.1`, host(), close, `Content-Type: ${type}`, `Content-Length: ${Buffer.byteLength(body)}`],
    ...headers,
  )
  return Buffer.concat([Buffer.from(head), Buffer.from(body)])
}
const json = (body: string | Uint8Array, ...headers: string[]) => post('/echo', 'application/json', body, ...headers)

async function expectProblem(answer: RawAnswer, status: number, code: string): Promise<void> {
  expect([answer.status, answer.headers['content-type']]).toEqual([status, 'application/problem+json'])
  expect(answer.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
  expect(
    Object.keys(answer.headers).filter((name) => /^(?:server|x-powered-by|access-control-.*)$/.test(name)),
  ).toEqual([])
  const problem = problemSchema.strict().parse(JSON.parse(answer.body))
  expect([problem.status, problem.code]).toEqual([status, code])
  expect(answer.body).not.toMatch(/\bat .*\.(?:ts|js)|node_modules/)
  expect((await fetch(`http://localhost:${port}/healthz`)).status).toBe(200)
  expect(api.logged).toEqual([])
}

describe('the line and headers of a request', () => {
  const cases: Record<string, [() => string | Uint8Array, number, string]> = {
    'a malformed line': [() => 'GET\r\n\r\n', 400, 'USAGE'],
    'binary rubbish': [() => Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0]), 400, 'USAGE'],
    'HTTP/2': [() => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'USAGE'],
    'HTTP/1.0 without a host': [() => 'GET /healthz HTTP/1.0\r\n\r\n', 403, 'FORBIDDEN_HOST'],
    'two hosts': [() => lines('GET /healthz HTTP/1.1', host(), 'Host: evil.example', close), 400, 'USAGE'],
    'two origins': [
      () => get('/healthz', `Origin: http://localhost:${port}`, 'Origin: http://evil.example'),
      403,
      'FORBIDDEN_HOST',
    ],
    'two idempotency keys': [() => json('{"a":1}', 'Idempotency-Key: a', 'Idempotency-Key: b'), 400, 'USAGE'],
    'an idempotency key with a space': [() => json('{"a":1}', 'Idempotency-Key: a b'), 422, 'INVALID_INPUT'],
    'an idempotency key of 201 characters': [
      () => json('{"a":1}', `Idempotency-Key: ${'k'.repeat(201)}`),
      422,
      'INVALID_INPUT',
    ],
    'an idempotency key that is not ASCII': [() => json('{"a":1}', 'Idempotency-Key: é'), 422, 'INVALID_INPUT'],
    'another absolute target': [() => get('http://evil.example/healthz'), 400, 'USAGE'],
    'our own absolute target': [() => get(`http://localhost:${port}/healthz`), 400, 'USAGE'],
    'a target that is no path': [() => lines('OPTIONS * HTTP/1.1', host(), close), 400, 'USAGE'],
    'a long path': [() => get(`/${'x'.repeat(20_000)}`), 431, 'HEADERS_TOO_LARGE'],
    'a large header': [() => get('/healthz', `X-A: ${'x'.repeat(20_000)}`), 431, 'HEADERS_TOO_LARGE'],
    'many headers': [() => get('/healthz', ...Array(101).fill('X-A: b')), 431, 'HEADERS_TOO_LARGE'],
    'more headers than Node keeps': [() => get('/healthz', ...Array(2_500).fill('a:')), 431, 'HEADERS_TOO_LARGE'],
    'a folded header': [() => get('/healthz', 'X-A: b', ' c'), 400, 'USAGE'],
    'a header with a space before its colon': [() => get('/healthz', 'X-A : b'), 400, 'USAGE'],
    'a header with NUL': [() => get('/healthz', 'X-A: a\0b'), 400, 'USAGE'],
    'a lone line feed in a header': [() => get('/healthz', 'X-A: a\nX-B: b'), 400, 'USAGE'],
    'a length and chunks': [
      () => `${lines('POST /echo HTTP/1.1', host(), 'Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
      400,
      'USAGE',
    ],
    'two lengths': [
      () => `${lines('POST /echo HTTP/1.1', host(), 'Content-Length: 5', 'Content-Length: 6')}hello`,
      400,
      'USAGE',
    ],
    'a negative length': [() => lines('POST /echo HTTP/1.1', host(), 'Content-Length: -1'), 400, 'USAGE'],
    'a length beyond numbers': [
      () => lines('POST /echo HTTP/1.1', host(), `Content-Length: ${'9'.repeat(40)}`),
      400,
      'USAGE',
    ],
    'a transfer encoding that is none': [
      () => lines('POST /echo HTTP/1.1', host(), 'Transfer-Encoding: cow'),
      400,
      'USAGE',
    ],
    'a chunk without a size': [
      () =>
        `${lines('POST /echo HTTP/1.1', host(), 'Content-Type: application/json', 'Transfer-Encoding: chunked')}zz\r\n`,
      400,
      'USAGE',
    ],
    'an expectation': [() => json('{"a":1}', 'Expect: miracles'), 400, 'USAGE'],
    'a tunnel': [() => lines('CONNECT evil.example:443 HTTP/1.1', host()), 405, 'METHOD_NOT_ALLOWED'],
    'a host with credentials': [
      () => lines('GET /healthz HTTP/1.1', `Host: evil@localhost:${port}`, close),
      403,
      'FORBIDDEN_HOST',
    ],
    'a gzip body': [() => json(gzipSync('{"a":1}'), 'Content-Encoding: gzip'), 415, 'UNSUPPORTED_MEDIA_TYPE'],
    'a gzip upload': [
      () => post('/upload', 'text/plain', gzipSync('a'), 'Content-Encoding: gzip'),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    'UTF-16 by name': [() => post('/echo', 'application/json; charset=utf-16', '{}'), 415, 'UNSUPPORTED_MEDIA_TYPE'],
    'an upload in Latin-1 by name': [
      () => post('/upload', 'text/plain; charset="iso-8859-1"', 'a'),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    'no content type': [
      () => lines('POST /echo HTTP/1.1', host(), close, 'Content-Length: 2').concat('{}'),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
  }
  it.each(Object.entries(cases))('%s', async (_, [request, status, code]) => {
    await expectProblem(await ask(request()), status, code)
  })

  it('other methods than those of the path are not allowed, whatever they are', async () => {
    const others = [...METHODS.filter((name) => !['GET', 'HEAD', 'CONNECT'].includes(name)), 'BREW', 'get']
    for (const method of others) {
      const answer = await ask(lines(`${method} /healthz HTTP/1.1`, host(), close, 'Content-Length: 0'))
      const known = METHODS.includes(method)
      await expectProblem(answer, known ? 405 : 400, known ? 'METHOD_NOT_ALLOWED' : 'USAGE')
      if (known) expect(answer.headers.allow).toBe('GET, HEAD')
    }
    expect(await exchange(port, lines('HEAD /healthz HTTP/1.1', host(), close))).toMatch(/^HTTP\/1\.1 200 .*\r\n\r\n$/s)
  })

  it('wishes for another protocol are passed over', async () => {
    const answer = await ask(lines('GET /healthz HTTP/1.1', host(), 'Connection: close, Upgrade', 'Upgrade: websocket'))
    expect([answer.status, answer.body]).toEqual([200, '{"status":"ok"}'])
  })

  it('100-continue is answered, and then the request', async () => {
    const received = await exchange(port, json('{"a":1}', 'Expect: 100-continue'))
    expect(received).toMatch(/^HTTP\/1\.1 100 /)
    expect(answerIn(received)).toMatchObject({ status: 200, body: '{"a":1}' })
  })

  it('no page of another origin is told that it may read', async () => {
    const preflight = lines('OPTIONS /echo HTTP/1.1', host(), close, 'Origin: https://evil.example')
    await expectProblem(await ask(preflight), 403, 'FORBIDDEN_HOST')
  })
})

describe('a path', () => {
  it.each([
    '//',
    '/./healthz',
    '/api/v1/../../healthz',
    '/healthz/',
    '/healthz%2f',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/docs/..%2fpackage.json',
    '/docs/%5c..%5cpackage.json',
    '/docs/swagger-ui.css%00.png',
    '/docs/%2e%2e%2fpackage.json',
    '/HEALTHZ',
    '/api/v1/runs/%7B0199c7a8-5f2e-7c31-9d0a-5b8000000000%7D',
    '/api/v1/runs/..%2f..%2fetc%2fpasswd/logs',
    '/api/v1/tasks/%00/logs',
    '/api/v1/workflows/..%2fcatalog',
    '/api/v1/workflows/__proto__',
    '/api/v1/streams/constructor',
    `/api/v1/runs/${'x'.repeat(2_000)}`,
  ])('%s leads nowhere', async (path) => {
    await expectProblem(await ask(get(path)), 404, 'NOT_FOUND')
  })

  it.each(['/%', '/%zz', '/api/v1/runs/%ff', '/api/v1/runs/%c0%ae', '/api/v1/runs?cursor=%ff', '/api/v1/runs?%e9=1'])(
    '%s is not percent-encoded UTF-8',
    async (path) => {
      await expectProblem(await ask(get(path)), 400, 'USAGE')
    },
  )

  it('never comes back as a header or a line', async () => {
    const answer = await ask(get('/x%0d%0aset-cookie:%20a=b'))
    await expectProblem(answer, 404, 'NOT_FOUND')
    expect(answer.headers['set-cookie']).toBeUndefined()
  })
})

describe('a query', () => {
  it.each([
    ['/api/v1/runs?limit=1&limit=2', '/query/limit', 'is given 2 times'],
    ['/api/v1/runs?limit=1.5', '/query/limit', undefined],
    ['/api/v1/runs?limit=-1', '/query/limit', undefined],
    ['/api/v1/runs?limit=', '/query/limit', undefined],
    ['/api/v1/runs?limit=NaN', '/query/limit', undefined],
    ['/api/v1/runs?limit=1e308', '/query/limit', undefined],
    ['/api/v1/runs?limit=99999999999999999999', '/query/limit', undefined],
    ['/api/v1/runs?limit[]=1', '/query/limit[]', 'is not known here'],
    ['/api/v1/runs?cursor=a&cursor=b', '/query/cursor', 'is given 2 times'],
    [`/api/v1/runs?cursor=${'a'.repeat(501)}`, '/query/cursor', undefined],
    ['/api/v1/runs?workflow=a%00', '/query/workflow', undefined],
    ['/api/v1/runs?__proto__=1', '/query/__proto__', 'is not known here'],
    ['/api/v1/runs?constructor=1', '/query/constructor', 'is not known here'],
    ['/healthz?verbose=1', '/query/verbose', 'is not known here'],
    ['/api/v1/workflows/catalog?x=1', '/query/x', 'is not known here'],
  ])('%s is named', async (path, where, message) => {
    const answer = await ask(get(path))
    await expectProblem(answer, 422, 'INVALID_INPUT')
    const { errors } = JSON.parse(answer.body)
    expect(errors[0].where).toBe(where)
    if (message !== undefined) expect(errors[0].message).toBe(message)
  })
})

describe('a body', () => {
  const cases: [string, () => string | Uint8Array, number, string, string?][] = [
    [
      'not UTF-8',
      () => json(Buffer.from([...Buffer.from('{"a":"'), 0xff, ...Buffer.from('"}')])),
      400,
      'MALFORMED_JSON',
    ],
    ['UTF-16', () => json(Buffer.from('\ufeff{"a":1}', 'utf16le')), 400, 'MALFORMED_JSON'],
    ['a name twice', () => json('{"a":1,"\\u0061":2}'), 400, 'MALFORMED_JSON'],
    ['__proto__', () => json('{"a":{"__proto__":{"b":1}}}'), 400, 'MALFORMED_JSON'],
    ['__proto__, escaped', () => json('{"a":{"\\u005f_proto__":{"b":1}}}'), 400, 'MALFORMED_JSON'],
    ['constructor.prototype', () => json('{"a":{"constructor":{"prototype":{}}}}'), 400, 'MALFORMED_JSON'],
    ['Infinity', () => json('{"a":Infinity}'), 400, 'MALFORMED_JSON'],
    ['deep', () => json(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), 422, 'INVALID_INPUT', '/body'],
    ['NUL in a text', () => json('{"a":["x",{"b":"\\u0000"}]}'), 422, 'INVALID_INPUT', '/body/a/1/b'],
    ['NUL in a name', () => json('{"a":{"\\u0000":1}}'), 422, 'INVALID_INPUT', '/body/a'],
    ['half a surrogate pair', () => json('{"a":"\\ud800x"}'), 422, 'INVALID_INPUT', '/body/a'],
    ['a number beyond all', () => json('{"a":{"b":[1,-1e999]}}'), 422, 'INVALID_INPUT', '/body/a/b/1'],
    ['an unknown field', () => json('{"a":1,"b":2}'), 422, 'INVALID_INPUT', '/body/b'],
    ['null', () => json('null'), 422, 'INVALID_INPUT', '/body'],
    ['over its limit', () => json(`"${'x'.repeat(1_048_576)}"`), 413, 'BODY_TOO_LARGE'],
    ['an upload over its limit', () => post('/upload', 'text/plain', 'x'.repeat(101)), 413, 'BODY_TOO_LARGE'],
    [
      'where none is taken',
      () => post('/api/v1/runs/0199c7a8-5f2e-7c31-9d0a-5b8000000000/cancel', 'application/json', '{"force":true}'),
      422,
      'INVALID_INPUT',
      '/body/force',
    ],
  ]
  it.each(cases)('%s', async (_, request, status, code, where) => {
    const answer = await ask(request())
    await expectProblem(answer, status, code)
    if (where !== undefined) expect(JSON.parse(answer.body).errors[0].where).toBe(where)
  })

  it('with a byte order mark, odd numbers and pairs of surrogates is what JSON says', async () => {
    const answer = await ask(json('\ufeff{"a":[1e308,-0,12345678901234567890,"\\ud83d\\ude00"]}'))
    expect([answer.status, answer.body]).toEqual([200, '{"a":[1e+308,0,12345678901234567000,"😀"]}'])
  })

  it('of a GET is passed over', async () => {
    const answer = await ask(get('/healthz', 'Content-Length: 3').concat('{}}'))
    expect(answer.status).toBe(200)
  })
})

describe.concurrent('a slow client', () => {
  it.each([
    ['that says nothing', ''],
    ['in its line', 'GET /hea'],
    ['in its headers', 'GET /healthz HTTP/1.1\r\nHost: loc'],
    [
      'in its body',
      'POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{',
    ],
    [
      'in its chunks',
      'POST /upload HTTP/1.1\r\nHost: HOST\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab',
    ],
  ])('%s is told so and let go', async (_, text) => {
    await expectProblem(await ask(text.replace('HOST', `localhost:${port}`)), 408, 'REQUEST_TIMEOUT')
  })
})

it('two requests in one go are each answered, and what follows a refusal is not', async () => {
  const both = await exchange(port, lines('GET /healthz HTTP/1.1', host()) + get('/healthz'))
  expect(both.match(/HTTP\/1\.1 200/g)).toHaveLength(2)
  const smuggled = await exchange(
    port,
    `${lines('POST /nothing HTTP/1.1', host(), 'Content-Type: text/plain', 'Content-Length: 500')}${get('/healthz')}`,
  )
  expect(smuggled.match(/HTTP\/1\.1/g)).toHaveLength(1)
  await expectProblem(answerIn(smuggled), 404, 'NOT_FOUND')
})

it('more connections than are allowed are closed at once, and the others are served', async () => {
  const idle = Array.from({ length: 64 }, () => exchange(port, ''))
  await until('connections are refused', async () => (await exchange(port, get('/healthz'))) === '')
  for (const answer of await Promise.all(idle))
    expect(['', 408]).toContain(answer === '' ? '' : answerIn(answer).status)
  await until('there is room again', async () => (await exchange(port, get('/healthz'))).includes('200 OK'))
})
