import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { InjectOptions } from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { endpoint } from '../sdk/endpoint.ts'
import { z } from '../sdk/schema.ts'
import { problemSchema } from './problem.ts'

const echo = endpoint('POST /echo', {
  summary: 'Gives back',
  body: z.object({ a: z.unknown() }),
  handle: ({ body }) => body,
})

describe('health', () => {
  it('is told, with the headers of every answer', async () => {
    const { app } = await testApi()
    const answer = await app.inject('/healthz')
    expect([answer.statusCode, answer.json()]).toEqual([200, { status: 'ok' }])
    expect(answer.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' })
  })
})

describe('an error', () => {
  it.each([
    [{ method: 'GET', url: '/nothing' }, 404, 'NOT_FOUND'],
    [
      { method: 'POST', url: '/nothing', payload: '{', headers: { 'content-type': 'application/json' } },
      404,
      'NOT_FOUND',
    ],
    [{ method: 'DELETE', url: '/api/v1/runs' }, 405, 'METHOD_NOT_ALLOWED'],
    [
      { method: 'POST', url: '/echo', payload: '{"a":', headers: { 'content-type': 'application/json' } },
      400,
      'MALFORMED_JSON',
    ],
    [
      {
        method: 'POST',
        url: '/echo',
        payload: '{"__proto__":{"a":1}}',
        headers: { 'content-type': 'application/json' },
      },
      400,
      'MALFORMED_JSON',
    ],
    [
      { method: 'POST', url: '/echo', payload: '', headers: { 'content-type': 'application/json' } },
      400,
      'MALFORMED_JSON',
    ],
    [
      {
        method: 'POST',
        url: '/echo',
        payload: `{"a":${'['.repeat(64)}${']'.repeat(64)}}`,
        headers: { 'content-type': 'application/json' },
      },
      422,
      'INVALID_INPUT',
    ],
    [
      { method: 'POST', url: '/echo', payload: '<a/>', headers: { 'content-type': 'application/xml' } },
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    [
      { method: 'POST', url: '/echo', payload: '{}', headers: { 'content-type': 'text/plain' } },
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
    [{ method: 'POST', url: '/echo', payload: { a: 'x'.repeat(2_000_000) } }, 413, 'BODY_TOO_LARGE'],
    [{ method: 'POST', url: '/echo' }, 422, 'INVALID_INPUT'],
    [{ method: 'GET', url: '/api/v1/runs/%zz' }, 400, 'USAGE'],
    [{ method: 'GET', url: `/api/v1/runs/${'x'.repeat(201)}` }, 404, 'NOT_FOUND'],
    [{ method: 'GET', url: '/healthz', headers: { host: 'evil.example' } }, 403, 'FORBIDDEN_HOST'],
    [{ method: 'GET', url: '/healthz', headers: { origin: 'http://evil.example' } }, 403, 'FORBIDDEN_HOST'],
  ] as const)('is a problem document: %j', async (request, status, code) => {
    const { app, logged } = await testApi({ endpoints: [echo] })
    const answer = await app.inject(request as InjectOptions)
    expect([answer.statusCode, answer.headers['content-type']]).toEqual([status, 'application/problem+json'])
    const problem = problemSchema.strict().parse(answer.json())
    expect(problem).toMatchObject({ status, code, instance: expect.stringMatching(/^\/.*#[0-9a-f]{8}-\w+$/) })
    expect(logged).toEqual([])
  })

  it('about the method says which are allowed', async () => {
    const { app } = await testApi()
    expect((await app.inject({ method: 'PUT', url: '/api/v1/runs/x' })).headers.allow).toBe('GET, HEAD')
    expect((await app.inject({ method: 'GET', url: '/api/v1/workflows/x/runs' })).headers.allow).toBe('POST')
  })
})

describe('the documentation', () => {
  it('is OpenAPI 3.1 of every route, with schemas whose references lead somewhere', async () => {
    const tree: z.ZodType = z.object({
      name: z.string(),
      get children() {
        return z.array(tree)
      },
    }) as never
    const recursive = endpoint('POST /trees/:id', {
      summary: 'A tree',
      body: tree,
      reply: tree,
      handle: ({ body }) => body as never,
    })
    const { app } = await testApi({ endpoints: [echo, recursive] })
    const document = (await app.inject('/openapi.json')).json()
    expect(document.openapi).toBe('3.1.0')
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining([
        '/healthz',
        '/readyz',
        '/api/v1/runs/{id}/tasks',
        '/api/v1/workflows/{name}/runs',
        '/echo',
        '/trees/{id}',
      ]),
    )
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(
      (match) => match[1] as string,
    )
    expect(references).toContain('Problem')
    for (const name of references) expect(document.components.schemas).toHaveProperty([name])
    const operations = Object.values(document.paths).flatMap((path) => Object.values(path as object))
    expect(new Set(operations.map((operation) => operation.operationId)).size).toBe(operations.length)
    const limit = document.paths['/api/v1/runs'].get.parameters.find(
      (parameter: { name: string }) => parameter.name === 'limit',
    )
    expect(limit).toMatchObject({
      in: 'query',
      required: false,
      schema: { type: 'integer', minimum: 1, maximum: 1000, default: 50 },
    })
    expect(document.paths['/trees/{id}'].post.parameters).toEqual([
      { name: 'id', in: 'path', required: true, schema: { type: 'string' } },
    ])
  })

  it('is shown by Swagger UI, from our own server alone', async () => {
    const { app } = await testApi()
    const page = await app.inject('/docs')
    expect(page.headers['content-security-policy']).toContain("script-src 'self'")
    const links = [...page.payload.matchAll(/(?:href|src)="([^"]+)"/g)].map((match) => match[1] as string)
    expect(links).toHaveLength(4)
    for (const link of links) {
      const file = await app.inject(link)
      expect([link, file.statusCode, file.rawPayload.length > 50]).toEqual([link, 200, true])
    }
    expect((await app.inject('/docs/constructor')).statusCode).toBe(404)
    expect((await app.inject('/docs/..%2Fpackage.json')).statusCode).toBe(404)
  })
})

describe('on a socket', () => {
  const limits = { headersMs: 200, requestMs: 400, checkEveryMs: 50, idleMs: 5_000, headerBytes: 2_048 }

  async function talk(port: number, text: string): Promise<{ socket: Socket; answer: Promise<string> }> {
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => {
      socket.destroy()
    })
    await once(socket, 'connect')
    let received = ''
    socket.on('data', (data) => {
      received += data
    })
    const answer = once(socket, 'close').then(() => received)
    socket.write(text)
    return { socket, answer }
  }

  it.each([
    ['headers that never end', 'GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\nX-A: ', 408, 'REQUEST_TIMEOUT'],
    [
      'a body that never ends',
      'POST /echo HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":',
      408,
      'REQUEST_TIMEOUT',
    ],
    [
      'too many headers',
      `GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\nX-A: ${'a'.repeat(5_000)}\r\n\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    ['something else than HTTP', 'HELLO\r\n\r\n', 400, 'USAGE'],
    [
      'another host',
      'GET /healthz HTTP/1.1\r\nHost: evil.example:PORT\r\nConnection: close\r\n\r\n',
      403,
      'FORBIDDEN_HOST',
    ],
    [
      'another port of ours',
      'GET /healthz HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n',
      403,
      'FORBIDDEN_HOST',
    ],
    ['no host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 403, 'FORBIDDEN_HOST'],
  ])('a client with %s is answered and let go', async (_, text, status, code) => {
    const { listen, logged } = await testApi({ endpoints: [echo], limits })
    const port = Number(new URL(await listen(0)).port)
    const { answer } = await talk(port, text.replace('PORT', String(port)))
    const [head, body] = (await answer).split('\r\n\r\n')
    expect(head).toContain(`HTTP/1.1 ${status} `)
    expect(problemSchema.parse(JSON.parse(body as string))).toMatchObject({ status, code })
    expect(logged).toEqual([])
  })

  it('a client that goes in the middle of its body does no harm', async () => {
    const { listen, logged } = await testApi({ endpoints: [echo], limits })
    const url = await listen(0)
    const port = Number(new URL(url).port)
    const { socket, answer } = await talk(
      port,
      `POST /echo HTTP/1.1\r\nHost: localhost:${port}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":`,
    )
    socket.destroy()
    await answer
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    expect(logged).toEqual([])
  })

  it('answers on the port it says, and to this machine only', async () => {
    const { listen } = await testApi()
    await expect(listen(0, '0.0.0.0')).rejects.toMatchObject({ code: 'CONFIGURATION' })
    const url = await listen(0)
    expect(await (await fetch(`${url.replace('localhost', '127.0.0.1')}/healthz`)).json()).toEqual({ status: 'ok' })
    const other = await testApi()
    await expect(other.listen(Number(new URL(url).port))).rejects.toMatchObject({ code: 'CONFIGURATION' })
  })
})
