/**
 * Whatever is sent, in the shape of the OpenAPI document, near it or far from it: never an error of ours, always a problem
 * document or an answer of its schema, and only what was acknowledged has happened.
 *
 * More of it: `FUZZ_REQUESTS=100000 FUZZ_SEED=1 npx vitest run src/api/fuzz.test.ts`; a failure prints its seed.
 */
import { Agent, request as httpRequest } from 'node:http'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type CatalogState, nothingRead } from '../../apps/images/catalog/catalog-state.ts'
import { type ImagesApi, openImagesApi } from '../../test/images-api.ts'
import { storePictures } from '../../test/stored-pictures.ts'
import { insertRun, insertTask } from '../../test/test-api.ts'
import { taskIdOf } from '../core/ids.ts'
import { errorTable } from '../errors.ts'
import { statement } from '../ports/database.ts'
import { z } from '../sdk/schema.ts'
import { type FetchHost, tellHosts } from '../store/fetch-hosts.ts'
import { registerNode } from '../store/nodes.ts'
import { acquire, ensureShards } from '../store/shards.ts'
import { append, ensureTopic } from '../store/topics.ts'
import { problemSchema } from './problem.ts'
import { answersIn, exchange } from './raw-http.fixture.ts'
import {
  type Json,
  type Known,
  type Operation,
  operationsOf,
  type Request,
  requestsOf,
  text,
} from './requests.fixture.ts'

const count = Number(process.env.FUZZ_REQUESTS ?? 1_500)
const seed = Number(process.env.FUZZ_SEED ?? 20_260_328)
const node = '0199c7a8-5f2e-7c31-9d0a-5b8000000001'
const mebibyte = 1_048_576

const letters = [0, 1, 2, 3, 4, 5]
const putLetters = statement(
  'test.fuzz_letters',
  `
  insert into sluice.stream_waiting (stream, partition, "offset", record_id, key, value, state, attempts, reason, since)
  select 'images', 0, n, 'r' || n, 'k' || n % 2, json_build_object('id', 'r' || n)::text, 'dead', 5, 'timeout', sluice.sluice_now()
  from unnest($1::int[]) as n`,
)
const dieAgain = statement(
  'test.fuzz_die_again',
  `update sluice.stream_waiting set state = 'dead', since = sluice.sluice_now() where state <> 'dead'`,
)
const troubledHost: FetchHost = {
  ...{ connection: 'web', host: 'h.test', circuit: 'open', inFlight: 1, queued: 2, requests: 3 },
  ...{ lastError: 'refused: nobody', retryAt: new Date() },
}
const birds: CatalogState = {
  ...{ name: 'birds', version: 'a'.repeat(64), bytes: 100, lines: 5, blank: 0, malformed: 0, generation: 1 },
  ...{ prefix: nothingRead, tail: null, unfinished: false, versions: [] },
  ...{ insertedAt: '2026-03-28T00:00:00.000Z', updatedAt: '2026-03-28T00:00:00.000Z' },
}

let api: ImagesApi
let operations: Operation[]
let schemas: Json
let known: Known
const agent = new Agent({ keepAlive: true, maxSockets: 4 })

beforeAll(async () => {
  api = await openImagesApi({ bodyBytes: 60_000 })
  const { db } = api
  const runId = await insertRun(db, { workflow: 'catalog', params: {} })
  await insertTask(db, runId, [0, -1], 'success', { result: 1 })
  await insertTask(db, runId, [1, -1], 'failed', { error: 'no' })
  const other = await insertRun(db, { workflow: 'empty', params: {} })
  await ensureTopic(db, 'urls', 2)
  await ensureShards(db, 'images', 'urls')
  await registerNode(db, { id: node, kind: 'engine', host: 'here', pid: 1, leaseMs: 600_000_000 })
  await acquire(db, ['images'], node, 600_000_000, 2)
  await append(db, 'urls', [{ id: '1', key: null, value: '{}' }])
  await db.execute(putLetters, [letters])
  const hosts = Array.from({ length: 3 }, (_, at) => ({ ...troubledHost, host: `h${at}.test` }))
  await tellHosts(db, node, hosts)
  const images = await storePictures(api.capabilities, { count: 5, catalog: 'birds' })
  await api.capabilities.documents<CatalogState>('catalogs').put('birds', birds)
  const document = JSON.parse((await send('GET', '/openapi.json', {}, undefined)).body.toString())
  operations = operationsOf(document)
  schemas = document.components.schemas
  const names = {
    runs: [runId, other],
    tasks: [taskIdOf(runId, 0, -1), taskIdOf(runId, 1, -1), runId],
    workflows: ['catalog', 'empty'],
    streams: ['images'],
    catalogs: ['birds'],
    images: [...images, '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'],
    'derived name': ['thumbnail-256'],
    'derived version': ['1'],
    'dead-letters partition': ['0'],
    'dead-letters offset': letters.map(String),
    docs: ['start.js', 'swagger-ui.css', '../package.json'],
  }
  const cursors: string[] = []
  const lists = [
    ...['/api/v1/runs', `/api/v1/runs/${runId}/tasks`, '/api/v1/workflows', '/api/v1/images', '/api/v1/hosts'],
    '/api/v1/streams/images/dead-letters',
  ]
  for (const path of lists) {
    const { nextCursor } = JSON.parse((await send('GET', `${path}?limit=1`, {}, undefined)).body.toString())
    expect([path, typeof nextCursor]).toEqual([path, 'string'])
    cursors.push(nextCursor)
  }
  known = { names, cursors }
})
afterAll(async () => {
  agent.destroy()
  await api?.close()
})

interface Answer {
  readonly status: number
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: Buffer
}

const deadlineMs = 30_000

/** @throws Error when there is no answer within the deadline: it hangs. */
function send(method: string, path: string, headers: Json, body: string | Uint8Array | undefined): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(
      { host: '127.0.0.1', port: api.port, agent, method, path, headers: { ...headers } as never },
      (response) => {
        const parts: Buffer[] = []
        response.on('data', (part) => parts.push(part))
        response.on('error', reject)
        response.on('end', () =>
          resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts) }),
        )
      },
    )
    asked.setTimeout(deadlineMs, () => asked.destroy(new Error(`no answer to ${method} ${path}`)))
    asked.on('error', reject)
    asked.setHeader('host', `localhost:${api.port}`)
    if (body !== undefined) asked.setHeader('content-length', Buffer.byteLength(body))
    asked.end(body)
  })
}

interface Rows {
  readonly runs: number
  readonly inbox: number
  readonly documents: number
  readonly records: number
  readonly dead: number
  readonly edits: number
}

const rows = statement<Rows>(
  'test.fuzz_rows',
  `select (select count(*) from sluice.runs)::int as runs, (select count(*) from sluice.inbox)::int as inbox,
    (select count(*) from sluice.documents)::int as documents, (select count(*) from sluice.topic_records)::int as records,
    (select count(*) from sluice.stream_waiting where state = 'dead')::int as dead,
    (select count(*) from sluice.record_edits)::int as edits`,
)
const rowsNow = async () => (await api.db.query(rows))[0]!

const compiled = new Map<object, z.ZodType>()

/** The schema that the document gives for this answer; undefined where it is not of JSON. */
function answerSchema({ responses }: Operation, status: number): z.ZodType | undefined {
  const schema = responses[status]?.content?.['application/json']?.schema
  if (schema === undefined) return undefined
  const known = compiled.get(schema)
  if (known) return known
  const inPlace = JSON.stringify({ ...schema, $defs: schemas }).replaceAll('#/components/schemas/', '#/$defs/')
  const made = z.fromJSONSchema(JSON.parse(inPlace))
  compiled.set(schema, made)
  return made
}

function expectExplained({ method }: Pick<Request, 'method'>, { status, headers, body }: Answer): void {
  expect(headers['content-type']).toBe('application/problem+json')
  expect(headers['x-content-type-options']).toBe('nosniff')
  if (method === 'HEAD') return
  const problem = problemSchema.strict().parse(JSON.parse(body.toString()))
  expect(Object.keys(errorTable)).toContain(problem.code)
  expect(problem.status).toBe(status)
  // 503 is said by its name only; any other 5xx is a fault of ours.
  if (status >= 500) expect([problem.code, status]).toEqual(['UNAVAILABLE', 503])
}

it('explains every refusal, answers as it says, and does what it acknowledges and nothing else', async () => {
  const seen = new Map<string, number>()
  const memory = process.memoryUsage().rss
  const property = fc.asyncProperty(
    fc.nat(1_000).chain((at) => requestsOf(operations[at % operations.length]!, known)),
    async (request) => {
      const before = await rowsNow()
      const answer = await send(request.method, request.url, request.headers, request.body)
      const after = await rowsNow()
      const asked = `${request.operation.method} ${request.operation.path} ${answer.status}`
      seen.set(asked, (seen.get(asked) ?? 0) + 1)
      if (answer.status >= 400) {
        expectExplained(request, answer)
        expect(after).toEqual(before)
        return
      }
      const isRead = request.method === 'GET' || request.method === 'HEAD'
      if (isRead) expect(after).toEqual(before)
      else expectDone(request, answer, before, after)
      if (after.dead < letters.length) await api.db.execute(dieAgain)
      // A shard that is new, or was set back, is taken by whoever holds shards; here by nobody else.
      if (/\/(scale|rewind)$/.test(request.operation.path)) await acquire(api.db, ['images'], node, 600_000_000, 256)
      if (request.method === request.operation.method && answer.body.length > 0) {
        answerSchema(request.operation, answer.status)?.parse(JSON.parse(answer.body.toString()))
      }
    },
  )
  await fc.assert(property, { numRuns: count, seed })
  expect(api.logged).toEqual([])
  expect((await send('GET', '/healthz', {}, undefined)).body.toString()).toBe('{"status":"ok"}')
  expect(process.memoryUsage().rss - memory).toBeLessThan(512 * mebibyte)
  // The property says something only if every route was reached and answered, and refused in many ways.
  const statuses = new Set([...seen.keys()].map((key) => Number(key.split(' ')[2])))
  expect([...statuses]).toEqual(expect.arrayContaining([200, 201, 202, 400, 403, 404, 405, 415, 422]))
  for (const { method, path } of operations) {
    const answered = [...seen.keys()].filter((key) => key.startsWith(`${method} ${path} `))
    expect([path, answered.length > 0]).toEqual([path, true])
    const found = answered.some((key) => key.endsWith(' 200'))
    if (stored.test(path) && method === 'GET') expect([path, found]).toEqual([path, true])
  }
}, 3_600_000)

/** Of what the world has: each must have been found at least once. */
const stored = /^\/api\/v1\/(images|catalogs|hosts|streams)/

const replayed = z.object({ replayed: z.int() })
const replayKeys = new Set<string>()
const started = z.object({ id: z.string().optional(), runId: z.string().optional() })
const runs = new Set<string>()
const cancelled = new Set<string>()

/**
 * A start is one run more, or the run of an earlier request; a cancel is one message, once; a replay takes as many letters as it
 * says, once for a key; an edit is one, or none where the value is as it was.
 */
function expectDone({ operation, headers }: Request, { status, body }: Answer, before: Rows, after: Rows): void {
  const answer = JSON.parse(body.toString())
  const { id, runId } = started.loose().parse(answer)
  const made: { -readonly [Name in keyof Rows]: Rows[Name] } = { ...before }
  const key = headers['idempotency-key']
  if (operation.path.endsWith('/replay')) {
    if (key === undefined || !replayKeys.has(key)) made.dead -= replayed.parse(answer).replayed
    if (key !== undefined) replayKeys.add(key)
  } else if (operation.method === 'PUT') made.edits += after.edits > before.edits ? 1 : 0
  else if (operation.path.endsWith('/cancel')) {
    if (!cancelled.has(id!)) made.inbox += 1
    cancelled.add(id!)
  } else if (status === 201 || (status === 202 && runId !== undefined)) {
    const run = (runId ?? id)!
    if (!runs.has(run)) made.runs += 1
    runs.add(run)
  }
  expect(after).toEqual(made)
}

it('answers or hangs up on bytes that are hardly HTTP, and goes on', async () => {
  const part = fc.oneof(
    fc.constantFrom('GET', 'POST', 'TRACE', '/', '/healthz', '/api/v1/catalogs?name=x', 'HTTP/1.1', 'HTTP/9.9', 'HTTP'),
    fc.constantFrom(
      ' ',
      '\t',
      '\r\n',
      '\n',
      '\r',
      '\0',
      ':',
      '\r\n\r\n',
      'Host: localhost',
      'Host:',
      'Connection: close',
    ),
    fc.constantFrom(
      'Transfer-Encoding: chunked',
      'Content-Length: 5',
      'Content-Type: text/plain',
      'Expect: x',
      '5\r\n',
    ),
    fc.constantFrom(
      'Upgrade: h2c',
      'Connection: Upgrade',
      'Content-Length: 99999999999999999999',
      '0\r\n\r\n',
      'ffffffff',
    ),
    text,
  )
  const start = fc.constantFrom(
    '',
    'GET /healthz HTTP/1.1\r\n',
    'POST /api/v1/catalogs?name=x HTTP/1.1\r\nHost: localhost\r\n',
  )
  const bytes = fc.tuple(start, fc.array(part, { maxLength: 12 })).map(([first, rest]) => first + rest.join(''))
  await fc.assert(
    fc.asyncProperty(bytes, async (sent) => {
      const before = await rowsNow()
      // What follows is no HTTP whatever came before: so the server need not wait for the rest.
      const received = await exchange(api.port, Buffer.from(`${sent}\r\n\r\n\0\0\r\n\r\n`), 'end')
      for (const { status, headers, body } of answersIn(received)) {
        if (status >= 400) expectExplained({ method: 'GET' }, { status, headers, body: Buffer.from(body) })
      }
      expect(await rowsNow()).toEqual(before)
    }),
    { numRuns: Math.ceil(count / 5), seed },
  )
  expect(api.logged).toEqual([])
  expect((await send('GET', '/healthz', {}, undefined)).status).toBe(200)
}, 3_600_000)
