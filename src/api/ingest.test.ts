import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { IngestWorld, keyedEvents, sample, statsEvents } from '../../test/ingest-world.ts'
import { openTestApi, type TestApi } from '../../test/test-api.ts'
import { endpoint } from '../sdk/endpoint.ts'
import { http } from '../sdk/http-source.ts'
import { z } from '../sdk/schema.ts'
import { type HttpStream, stream } from '../sdk/stream.ts'

let world: IngestWorld
let api: TestApi
beforeEach(async () => {
  world = await IngestWorld.open()
  api = await serve()
})
afterEach(async () => {
  await api.close()
  await world.close()
})

async function serve(): Promise<TestApi> {
  const { points } = await world.serve()
  return openTestApi(world.db, { ingest: points.map((point) => ({ point, file: 'apps/stats/ingest.ts' })) })
}

const headers = { host: 'localhost', 'content-type': 'application/json' }
type Headers = Readonly<Record<string, string>>

async function send(url: string, payload: string | Buffer | undefined, more: Headers = {}) {
  const answer = await api.app.inject({
    ...{ method: 'POST', url, headers: { ...headers, ...more } },
    ...(payload === undefined ? {} : { payload }),
  })
  return {
    status: answer.statusCode,
    type: answer.headers['content-type'],
    body: answer.json(),
    headers: answer.headers,
  }
}
const sendOne = (value: unknown, more?: Headers) => send('/stats', JSON.stringify(value), more)
const sendBatch = (value: unknown, more?: Headers) => send('/stats/batch', JSON.stringify(value), more)
const numbered = (count: number) => Array.from({ length: count }, (_, n) => ({ ...sample, id: `e${n}` }))

describe('a single event by HTTP', () => {
  it('is answered 202 with its id once it is stored', async () => {
    const { status, type, body } = await sendOne(sample)
    expect([status, type, body]).toEqual([202, 'application/json; charset=utf-8', { id: 'made-1', status: 'stored' }])
    expect(await world.rows()).toMatchObject([{ eventId: 'made-1', token: sample.token }])
  })

  it('is stored once under its id, or under the Idempotency-Key where it has none', async () => {
    expect((await sendOne({ ...sample, id: 'a' })).body).toEqual({ id: 'a', status: 'stored' })
    expect((await sendOne({ ...sample, id: 'a' }, { 'idempotency-key': 'k' })).body).toEqual({
      id: 'a',
      status: 'duplicate',
    })
    expect((await sendOne(sample, { 'idempotency-key': 'k' })).body).toEqual({ id: 'k', status: 'stored' })
    const again = await sendOne(sample, { 'idempotency-key': 'k' })
    expect([again.status, again.body]).toEqual([202, { id: 'k', status: 'duplicate' }])
    expect(await world.rows()).toHaveLength(2)
  })

  it('is the first that came under an id, whatever comes later under it', async () => {
    await sendOne({ ...sample, id: 'a', p2p: 1 })
    expect(await sendOne({ ...sample, id: 'a', p2p: 2 })).toMatchObject({ status: 202, body: { status: 'duplicate' } })
    expect(await world.rows()).toMatchObject([{ eventId: 'a', p2p: 1 }])
  })

  it.each([
    ['a wrong type', { ...sample, token: 5 }, '/body/token'],
    ['a missing field', { ...sample, token: undefined }, '/body/token'],
    ['an empty text', { ...sample, customer: '' }, '/body/customer'],
    ['a negative number', { ...sample, cdn: -1 }, '/body/cdn'],
    ['a fraction', { ...sample, cdn: 0.5 }, '/body/cdn'],
    ['no object', 5, '/body'],
    ['null', null, '/body'],
    ['an array', [sample], '/body'],
    ['an empty id', { ...sample, id: '' }, '/body'],
    ['a long id', { ...sample, id: 'x'.repeat(1_001) }, '/body'],
    ['NUL in a text', { ...sample, content: 'a\0b' }, '/body/content'],
    ['half of a surrogate pair', { ...sample, content: 'a\ud800' }, '/body/content'],
  ])('is refused with 422 that names the field: %s', async (_, value, where) => {
    const { status, type, body } = await sendOne(value)
    expect([status, type]).toEqual([422, 'application/problem+json'])
    expect(body).toMatchObject({ code: 'INVALID_INPUT', status: 422, errors: [{ where }] })
    expect(await world.rows()).toEqual([])
  })

  it.each([
    ['2^53', '9007199254740992'],
    ['2^63', '9223372036854775808'],
    ['a long number', '1'.repeat(200)],
    ['beyond all numbers', '1e999'],
    ['beyond all numbers, in digits', '9'.repeat(400)],
  ])('is refused when a number cannot be kept exactly: %s', async (_, digits) => {
    const text = JSON.stringify(sample).replace('560065', digits)
    expect(await send('/stats', text)).toMatchObject({ status: 422, body: { errors: [{ where: '/body/p2p' }] } })
  })

  it('keeps the largest whole number that JSON of JavaScript holds', async () => {
    expect((await sendOne({ ...sample, p2p: Number.MAX_SAFE_INTEGER })).status).toBe(202)
    expect(await world.rows()).toMatchObject([{ p2p: Number.MAX_SAFE_INTEGER }])
  })

  it.each([
    ['not JSON', '{"token":', 400, 'MALFORMED_JSON'],
    ['nothing', '', 400, 'MALFORMED_JSON'],
    ['a name twice', '{"token":"a","token":"b"}', 400, 'MALFORMED_JSON'],
    ['a name twice by an escape', '{"token":"a","\\u0074oken":"b"}', 400, 'MALFORMED_JSON'],
    ['__proto__', '{"__proto__":{"token":"a"}}', 400, 'MALFORMED_JSON'],
    ['__proto__ by an escape', '{"\\u005f_proto__":{}}', 400, 'MALFORMED_JSON'],
    ['constructor.prototype', '{"constructor":{"prototype":{}}}', 400, 'MALFORMED_JSON'],
    ['deep', `${'['.repeat(500)}${']'.repeat(500)}`, 422, 'INVALID_INPUT'],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), 400, 'MALFORMED_JSON'],
    ['too long', JSON.stringify({ ...sample, content: 'x'.repeat(4_096) }), 413, 'BODY_TOO_LARGE'],
  ])('is refused when its body is %s', async (_, payload, status, code) => {
    const answer = await send('/stats', payload)
    expect([answer.status, answer.body.code]).toEqual([status, code])
    expect(answer.type).toBe('application/problem+json')
  })

  it.each([
    ['another content type', { 'content-type': 'text/plain' }, 415],
    ['an encoding', { 'content-encoding': 'gzip' }, 415],
    ['a key with a space', { 'idempotency-key': 'a b' }, 422],
    ['a strange host', { host: 'evil.example' }, 403],
    ['the page of another site', { origin: 'https://evil.example' }, 403],
  ])('is refused by its headers: %s', async (_, more, status) => {
    expect((await sendOne(sample, more as unknown as Headers)).status).toBe(status)
    expect(await world.rows()).toEqual([])
  })

  it('is refused with a query, with another method, and below its path', async () => {
    expect(await send('/stats?x=1', JSON.stringify(sample))).toMatchObject({
      status: 422,
      body: { errors: [{ where: '/query/x' }] },
    })
    const got = await api.app.inject({ method: 'GET', url: '/stats', headers })
    expect([got.statusCode, got.headers.allow]).toEqual([405, 'POST'])
    expect((await send('/stats/other', '{}')).status).toBe(404)
  })

  it('takes what the author throws as a refusal: a SluiceError with its message, a bug with its own', async () => {
    expect(await sendOne({ ...sample, customer: 'nobody' })).toMatchObject({
      status: 422,
      body: { detail: 'nobody is no customer' },
    })
    expect(await sendOne({ ...sample, customer: 'bug' })).toMatchObject({
      status: 422,
      body: { detail: 'row: customer is a bug', errors: [{ where: '/body' }] },
    })
    await sendOne(sample)
    expect((await world.totals()).rejectedByReason).toEqual({ 'function failed': 1, refused: 1 })
  })
})

describe('a batch by HTTP', () => {
  it('of 100 with 3 bad ones stores 97 and names the 3', async () => {
    const events: object[] = numbered(100)
    events[3] = { ...sample, token: 7 }
    events[50] = { ...sample, cdn: 'many' }
    events[99] = {}
    const { status, body } = await sendBatch(events)
    expect([status, body.stored, body.duplicate, body.rejected]).toEqual([207, 97, 0, 3])
    expect(body.items).toHaveLength(100)
    expect(body.items[0]).toEqual({ id: 'e0', status: 'stored' })
    expect(body.items[3]).toMatchObject({
      status: 'rejected',
      code: 'INVALID_INPUT',
      errors: [{ where: '/body/3/token' }],
    })
    expect(body.items[50]).toMatchObject({ status: 'rejected', errors: [{ where: '/body/50/cdn' }] })
    expect(body.items[99].errors).toHaveLength(7)
    expect(await world.rows()).toHaveLength(97)
    expect(await world.totals()).toMatchObject({
      received: 100,
      written: 97,
      rejected: 3,
      rejectedByReason: { malformed: 3 },
    })
    expect(await world.breaches()).toEqual([])
  })

  it('is 202 when all are stored or were before, 422 when none is', async () => {
    expect(await sendBatch(numbered(2))).toMatchObject({ status: 202, body: { stored: 2, duplicate: 0, rejected: 0 } })
    const again = await sendBatch([...numbered(3), { ...sample, id: 'e2' }])
    expect(again).toMatchObject({ status: 202, body: { stored: 1, duplicate: 3, rejected: 0 } })
    expect(again.body.items.map(({ status }: { status: string }) => status)).toEqual([
      'duplicate',
      'duplicate',
      'stored',
      'duplicate',
    ])
    const none = await sendBatch([{}, 5])
    expect(none).toMatchObject({
      ...{ status: 422, type: 'application/problem+json' },
      body: { code: 'INVALID_INPUT', errors: [{ where: '/body/0/token' }, { where: '/body/1' }], items: [{}, {}] },
    })
  })

  it.each([
    ['return=minimal', true],
    ['respond-async, return="minimal"', true],
    ['Return = Minimal; foo=bar', true],
    ['return=representation', false],
    ['return=minimalist', false],
    ['noreturn=minimal', false],
  ])('names its events or not, as the request prefers: %s', async (prefer, minimal) => {
    const events = numbered(2)
    const { status, body, headers } = await sendBatch(events, { prefer })
    expect([status, body.stored, headers['preference-applied']]).toEqual([
      202,
      2,
      minimal ? 'return=minimal' : undefined,
    ])
    expect(body).toEqual({ stored: 2, duplicate: 0, rejected: 0, ...(minimal ? {} : { items: expect.any(Array) }) })
    const some = await sendBatch([{}, ...events], { prefer })
    expect([some.status, some.body.duplicate, some.body.items.length]).toEqual([207, 2, 3])
  })

  it.each([
    ['not an array', sample, 422, 'INVALID_INPUT'],
    ['empty', [], 422, 'INVALID_INPUT'],
    ['over its number', numbered(101), 413, 'BODY_TOO_LARGE'],
  ])('is refused when it is %s', async (_, value, status, code) => {
    const answer = await sendBatch(value)
    expect([answer.status, answer.body.code]).toEqual([status, code])
    expect(await world.rows()).toEqual([])
  })

  it('ends an event that cannot be kept alone, and refuses the whole for what makes JSON doubtful', async () => {
    const text = JSON.stringify([sample, { ...sample, content: 'a\0' }, { ...sample, p2p: 77 }]).replace(
      '77',
      '9007199254740993',
    )
    const { status, body } = await send('/stats/batch', text)
    expect([status, body.stored, body.rejected]).toEqual([207, 1, 2])
    expect(body.items[1].errors[0].where).toBe('/body/1/content')
    expect(body.items[2].errors[0].where).toBe('/body/2/p2p')
    expect((await send('/stats/batch', '[{"token":"a"},{"token":"a","token":"b"}]')).status).toBe(400)
    expect((await send('/stats/batch', '[{"token":"a"},')).status).toBe(400)
  })

  it('gives its events ids of the Idempotency-Key and their place', async () => {
    const key = { 'idempotency-key': 'b1' }
    expect((await sendBatch([sample, { ...sample, id: 'own' }], key)).body.items).toMatchObject([
      { id: 'b1#0' },
      { id: 'own' },
    ])
    expect((await sendBatch([sample, { ...sample, id: 'own' }], key)).body).toMatchObject({ stored: 0, duplicate: 2 })
    expect(await world.rows()).toHaveLength(2)
  })

  it('rejects an event that the table refuses, and stores the others', async () => {
    const events = numbered(20).map((one, n) => (n === 7 ? { ...one, p2p: 13 } : one))
    const { status, body } = await sendBatch(events)
    expect([status, body.stored, body.rejected]).toEqual([207, 19, 1])
    expect(body.items[7]).toMatchObject({ status: 'rejected', code: 'INVALID_INPUT' })
    expect(body.items[7].detail).toMatch(/^not storable/)
    expect(await world.rows()).toHaveLength(19)
    // Its id is not taken: mended, it is stored.
    expect((await sendOne(numbered(8)[7])).body).toEqual({ id: 'e7', status: 'stored' })
    expect(await world.breaches()).toEqual([])
  })
})

describe('what is told of ingest', () => {
  it('is in the OpenAPI document, with schemas, examples and errors', async () => {
    const document = (await api.app.inject({ method: 'GET', url: '/openapi.json', headers })).json()
    const single = document.paths['/stats'].post
    expect(single.requestBody.content['application/json'].schema.properties.token).toMatchObject({ type: 'string' })
    expect(single.responses['202'].content['application/json'].example).toMatchObject({ status: 'stored' })
    expect(Object.keys(single.responses)).toEqual(
      expect.arrayContaining(['202', '400', '403', '413', '415', '422', '503']),
    )
    const batch = document.paths['/stats/batch'].post
    expect(batch.requestBody.content['application/json'].schema).toMatchObject({
      type: 'array',
      minItems: 1,
      maxItems: 100,
    })
    expect(batch.responses['207'].content['application/json'].example.items).toHaveLength(2)
  })

  it('names a stream whose path is taken, and serves the others', async () => {
    const again = (name: string, path: string): HttpStream =>
      stream(name, {
        from: http(path, { schema: z.object({ token: z.string() }) }),
        row: () => ({}) as never,
        to: keyedEvents.options.to,
      }) as HttpStream
    const streams = [
      statsEvents,
      again('twice', 'POST /stats'),
      again('own', 'POST /healthz'),
      again('at-endpoint', 'POST /mine'),
    ]
    const { points } = await world.serve({ streams: streams as never })
    const mine = endpoint('POST /mine', { summary: 'Mine', handle: () => ({}) })
    const other = await openTestApi(world.db, {
      endpoints: [mine],
      ingest: points.map((point) => ({ point, file: `${point.stream}.ts` })),
    })
    expect(other.faults).toEqual([
      { where: 'twice.ts', message: 'POST /stats of stream twice is contributed by another definition too' },
      {
        where: 'own.ts',
        message: "POST /healthz of stream own would take the place of /healthz, which is the platform's",
      },
      { where: 'at-endpoint.ts', message: 'POST /mine of stream at-endpoint is contributed by another definition too' },
    ])
    await other.close()
  })
})
