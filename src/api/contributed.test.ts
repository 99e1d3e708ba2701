import { Readable } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { testApi } from '../../test/test-api.ts'
import { endpoint, problem, reply } from '../sdk/endpoint.ts'
import { z } from '../sdk/schema.ts'
import { pathFault } from './contributed.ts'

const image = endpoint('GET /api/v1/images/:id', {
  summary: 'An image',
  params: z.object({ id: z.string().regex(/^[0-9a-f]{4}$/) }),
  query: z.object({ width: z.coerce.number().int().max(100).optional() }),
  reply: z.object({ id: z.string(), width: z.number() }),
  handle: ({ params, query }) => {
    if (params.id === 'dead') problem('NOT_FOUND', 'no such image')
    if (params.id === 'baad') return { id: params.id, secret: 'hunter2' } as never
    if (params.id === 'f00d') throw new Error('a password is hunter2')
    return { id: params.id, width: query.width ?? 1, secret: 'hunter2' }
  },
})

describe('a contributed endpoint', () => {
  it('gets what its schemas made of the request, and answers what its schema lets through', async () => {
    const { app } = await testApi({ endpoints: [image] })
    const answer = await app.inject('/api/v1/images/00ff?width=7')
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toEqual({ id: '00ff', width: 7 })
  })

  it('refuses with every field that is wrong', async () => {
    const { app } = await testApi({ endpoints: [image] })
    const answer = await app.inject('/api/v1/images/XX?width=1000')
    expect(answer.statusCode).toBe(422)
    expect(answer.headers['content-type']).toBe('application/problem+json')
    expect(answer.json()).toMatchObject({
      code: 'INVALID_INPUT',
      errors: [{ where: '/path/id' }, { where: '/query/width' }],
    })
  })

  it('ends with the problem that it says', async () => {
    const { app, logged } = await testApi({ endpoints: [image] })
    const answer = await app.inject('/api/v1/images/dead')
    expect(answer.json()).toMatchObject({ status: 404, code: 'NOT_FOUND', detail: 'no such image' })
    expect(logged).toEqual([])
  })

  it.each(['baad', 'f00d'])('tells an error of its own to the log alone (%s)', async (id) => {
    const { app, logged } = await testApi({ endpoints: [image] })
    const answer = await app.inject(`/api/v1/images/${id}`)
    expect(answer.statusCode).toBe(500)
    expect(answer.payload).not.toContain('hunter2')
    expect(answer.payload).not.toMatch(/\bat .*\.ts/)
    expect(logged).toHaveLength(1)
    expect(logged[0]?.fields?.instance).toBe(answer.json().instance)
  })

  it('answers with bytes, streams, texts, JSON and nothing', async () => {
    const answers: Record<string, () => ReturnType<typeof reply>> = {
      bytes: () => reply(200, new Uint8Array([1, 2, 3]).subarray(1), { 'Content-Type': 'image/png', etag: '"x"' }),
      stream: () => reply(200, Readable.from([Buffer.from('ab'), Buffer.from('c')])),
      iterable: () => reply(200, chunks()),
      text: () => reply(200, 'a,b', { 'content-type': 'text/csv' }),
      json: () => reply(202, { a: 1 }),
      string: () => reply(200, 'a'),
      nothing: () => reply(204, undefined),
    }
    const any = endpoint('GET /any/:kind', {
      summary: 'Any',
      handle: ({ params }) => answers[(params as { kind: string }).kind]!(),
    })
    const { app } = await testApi({ endpoints: [any] })
    const seen = Object.fromEntries(
      await Promise.all(
        Object.keys(answers).map(async (kind) => {
          const { statusCode, headers, rawPayload } = await app.inject(`/any/${kind}`)
          return [kind, [statusCode, headers['content-type'], rawPayload.toString('latin1')]]
        }),
      ),
    )
    expect(seen).toEqual({
      bytes: [200, 'image/png', '\x02\x03'],
      stream: [200, 'application/octet-stream', 'abc'],
      iterable: [200, 'application/octet-stream', 'xy'],
      text: [200, 'text/csv', 'a,b'],
      json: [202, 'application/json; charset=utf-8', '{"a":1}'],
      string: [200, 'application/json; charset=utf-8', '"a"'],
      nothing: [204, undefined, ''],
    })
    async function* chunks() {
      yield Buffer.from('x')
      yield Buffer.from('y')
    }
  })

  it.each([
    ['a status that is none', () => reply(99, {})],
    ['a header with a line break', () => reply(200, {}, { 'x-a': 'a\r\nset-cookie: b' })],
    ['a body that JSON cannot hold', () => reply(200, { n: 1n })],
  ])('fails as ours with %s', async (_, make) => {
    const { app, logged } = await testApi({ endpoints: [endpoint('GET /bad', { summary: 'Bad', handle: make })] })
    const answer = await app.inject('/bad')
    expect(answer.json()).toMatchObject({ status: 500, code: 'INTERNAL' })
    expect(logged).toHaveLength(1)
  })

  it('takes uploads of its types and size, and JSON beside them', async () => {
    const upload = endpoint('POST /files', {
      summary: 'A file',
      body: z.object({ urls: z.array(z.string()) }),
      upload: { types: ['text/plain', 'application/octet-stream'], maxBytes: 10 },
      async handle({ upload, body }) {
        if (!upload) return { urls: body.urls.length }
        let bytes = 0
        for await (const chunk of upload) bytes += chunk.length
        return { bytes }
      },
    })
    const { app, listen } = await testApi({ endpoints: [upload] })
    const post = (type: string, payload: string | Buffer) =>
      app.inject({ method: 'POST', url: '/files', payload, headers: { 'content-type': type } })
    expect((await post('text/plain; charset=utf-8', 'twelve'.slice(2))).json()).toEqual({ bytes: 4 })
    expect((await post('application/json', '{"urls":["a"]}')).json()).toEqual({ urls: 1 })
    expect((await post('application/json', '{}')).json()).toMatchObject({
      status: 422,
      errors: [{ where: '/body/urls' }],
    })
    expect((await post('text/plain', 'x'.repeat(11))).json()).toMatchObject({ status: 413, code: 'BODY_TOO_LARGE' })
    expect((await post('image/png', 'x')).json()).toMatchObject({ status: 415, code: 'UNSUPPORTED_MEDIA_TYPE' })

    const url = await listen(0)
    const chunked = await fetch(`${url}/files`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain' },
      body: new Blob(['x'.repeat(500_000)]).stream(),
      duplex: 'half',
    } as RequestInit)
    expect(await chunked.json()).toMatchObject({ status: 413, code: 'BODY_TOO_LARGE' })
  })

  it('is aborted when its client goes', async () => {
    const gone = Promise.withResolvers<string>()
    const begun = Promise.withResolvers<void>()
    const slow = endpoint('GET /slow', {
      summary: 'Slow',
      handle: ({ signal }) => {
        begun.resolve()
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            gone.resolve(String((signal.reason as Error).message))
            resolve(reply(200, {}))
          })
        })
      },
    })
    const { listen } = await testApi({ endpoints: [slow] })
    const url = await listen(0)
    const client = new AbortController()
    onTestFinished(() => client.abort())
    const answer = fetch(`${url}/slow`, { signal: client.signal }).catch(() => 'aborted')
    await begun.promise
    client.abort()
    expect(await answer).toBe('aborted')
    expect(await gone.promise).toBe('The client has gone')
  })

  it('starts runs whose parameters fit', async () => {
    const start = endpoint('POST /start', {
      summary: 'Start',
      body: z.object({ file: z.string().optional() }),
      handle: ({ body, start }) => start({ name: 'catalog' } as never, body),
    })
    const { app } = await testApi({ endpoints: [start] })
    const post = (payload: object) => app.inject({ method: 'POST', url: '/start', payload })
    expect((await post({ file: 'a.txt' })).json().runId).toMatch(/^[0-9a-f-]{36}$/)
    expect((await post({})).json()).toMatchObject({ status: 422, errors: [{ where: '/body/params/file' }] })
  })

  it('that cannot be served is named, and the others are served', async () => {
    const get = (path: string) => endpoint(`GET ${path}`, { summary: 'X', handle: () => ({ ok: true }) })
    const { app, faults } = await testApi({
      endpoints: [get('/api/v1/runs/:id/x'), get('/a/:b'), get('/a/:c'), get('/ok')],
    })
    expect(faults.map((fault) => fault.message)).toEqual([
      "GET /api/v1/runs/:id/x would take the place of /api/v1/runs, which is the platform's",
      'GET /a/:c is contributed by workflows/endpoints.ts too',
    ])
    expect((await app.inject('/ok')).json()).toEqual({ ok: true })
    expect((await app.inject('/api/v1/workflows')).json().faults).toContainEqual(
      expect.objectContaining({ file: 'workflows/endpoints.ts', line: null }),
    )
  })
})

describe('a contributed path', () => {
  const platform = [{ path: '/healthz' }, { path: '/api/v1/runs/:id' }]
  it.each(['/api/v1/images', '/api/v1/images/:id/raw', '/stats', '/stats/batch', '/a.b'])('may be %s', (path) => {
    expect(pathFault(path, platform)).toBeUndefined()
  })
  it.each([
    '/healthz',
    '/:any',
    '/api/v1/runs',
    '/api/v1/runs/x/y',
    '/api/v1/:a',
    '/api/:v/runs',
    '/docs/x',
    '/',
    '/a//b',
    '/a/',
    '/a/:',
    '/a/:b-:c',
    '/metrics',
  ])('may not be %s', (path) => {
    expect(pathFault(path, platform)).toBeTypeOf('string')
  })
})
