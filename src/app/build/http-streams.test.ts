import { expect, it } from 'vitest'
import { endpoint } from '../../sdk/endpoint.ts'
import { type HttpSourceOptions, http } from '../../sdk/http-source.ts'
import { z } from '../../sdk/schema.ts'
import { stream } from '../../sdk/stream.ts'
import { table } from '../../sdk/table.ts'
import { collect } from '../definitions.ts'
import { manifestOf } from './manifest-of.ts'

const schema = z.object({ id: z.string().optional(), token: z.string() })
const raw = table('stats.raw', { schema: z.object({ token: z.string() }) })
const row = (event: { token: string }) => ({ token: event.token })

const places = { ofDefinition: (kind: string, name: string) => `${kind} ${name}`, ofThrown: () => undefined }
const described = (exports: Record<string, unknown>) =>
  manifestOf(collect([{ file: 'workflows/stats.ts', exports }]), places)

it('a stream that is fed by HTTP is in the manifest, with its paths', () => {
  const from = http('POST /stats', { schema, batch: 'POST /stats/batch', auth: 'open' })
  const { streams, faults } = described({ stats: stream('stats', { from, id: (one) => one.id, row, to: raw }) })
  expect(faults).toEqual([])
  expect(streams).toMatchObject([
    {
      ...{ name: 'stats', topic: 'POST /stats', steps: [] },
      source: { kind: 'http', name: 'POST /stats', paths: ['/stats', '/stats/batch'], auth: 'open' },
      sink: { kind: 'table', table: 'stats.raw' },
    },
  ])
})

it.each([
  ['no method', 'stats', undefined, 'write POST /path'],
  ['another method', 'PUT /stats', undefined, 'write POST /path'],
  ['a parameter', 'POST /stats/:id', undefined, 'without parameters'],
  ['a slash at its end', 'POST /stats/', undefined, 'without a slash at its end'],
  ['a batch that is none', 'POST /stats', '/stats/batch', '"/stats/batch": write POST /path'],
  ['one path for both', 'POST /stats', 'POST /stats', 'need a path each'],
])('a path is refused: %s', (_, path, batch, message) => {
  expect(() => http(path, { schema, ...(batch !== undefined && { batch }) })).toThrow(message)
})

const source = (options: Partial<HttpSourceOptions<unknown>> = {}, path = 'POST /stats') =>
  http(path, { schema, ...options } as HttpSourceOptions<z.infer<typeof schema>>)
const one = (options: object) => ({ stats: stream('stats', { from: source(), row, to: raw, ...options } as never) })

it.each<[string, Record<string, unknown>, string]>([
  ['no row', one({ row: undefined }), 'row must be a function that makes a row of an event'],
  ['an async row', one({ row: async () => ({ token: '' }) }), 'row must not be async'],
  ['steps', one({ steps: () => {} }), 'steps is not for a stream from http(...)'],
  ['retries', one({ retry: { attempts: 3 } }), 'retry is not for a stream from http(...)'],
  ['an id that is no function', one({ id: 'id' }), 'id must be a function of the event'],
  ['no sink', one({ to: undefined }), 'to must be documents(...), a table or a topic'],
  ['no schema', one({ from: source({ schema: {} as never }) }), 'schema must be a zod schema'],
  ['a path of Sluice', one({ from: source({}, 'POST /api/v1/runs') }), '/api/v1/runs is a path of Sluice itself'],
  ['a batch path of Sluice', one({ from: source({ batch: 'POST /metrics' }) }), '/metrics is a path of Sluice itself'],
  ['a large batch', one({ from: source({ maxBatch: 10_001 }) }), 'maxBatch is 10001'],
  ['no bytes', one({ from: source({ maxBytes: 0 }) }), 'maxBytes is 0'],
  ['an unknown auth', one({ from: source({ auth: 'nobody' as never }) }), 'allowed are open, users'],
  ['a memory without end', one({ from: source({ rememberIds: '2y' }) }), 'allowed are 1m to 1y'],
  ['a memory that is no time', one({ from: source({ rememberIds: 'long' }) }), 'is not a duration'],
  [
    'a path of an endpoint',
    { mine: endpoint('POST /stats', { summary: 'Mine', handle: () => ({}) }), ...one({}) },
    'POST /stats is an endpoint of workflows/stats.ts already',
  ],
  [
    'a path of another stream',
    {
      first: stream('first', { from: source({ batch: 'POST /stats' }, 'POST /other'), row, to: raw } as never),
      ...one({}),
    },
    'POST /stats is a path of stream first of workflows/stats.ts already',
  ],
])('a stream is refused: %s', (_, exports, message) => {
  const { faults, streams } = described(exports)
  expect(faults).toMatchObject([{ where: 'stream stats', message: expect.stringContaining(message) }])
  expect(streams.map(({ name }) => name)).not.toContain('stats')
})
