import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type TestApi, type TestApiWishes, testApi, testManifest, testWorkflow } from '../../../test/test-api.ts'
import type { WorkflowManifest } from '../../core/manifest.ts'
import { statement } from '../../ports/database.ts'
import type { Capabilities } from '../../sdk/context.ts'

const secret = 'a secret of the tests'
const hook = {
  kind: 'webhook',
  name: 'webhook:push',
  hook: 'push',
  secret: 'push-key',
  toleranceMs: 300_000,
  maxBytes: 200,
} as const
const workflow: WorkflowManifest = {
  ...testWorkflow,
  plans: [
    hook,
    {
      ...hook,
      name: 'webhook:mapped',
      hook: 'mapped',
      params: { file: { $event: ['body', 'head', 'file'] }, lines: 3 },
    },
  ],
}
const now = 1_770_000_000_000

async function hookApi(
  secrets: Readonly<Record<string, string>> = { 'push-key': secret },
): Promise<TestApi & { clock: { now(): number } }> {
  const manifest = { ...testManifest, workflows: [workflow] }
  const clock = { at: now, now: () => clock.at }
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const capabilities = (signal: AbortSignal) =>
    ({
      ...{ log, signal },
      secret: async (name: string) => secrets[name] ?? Promise.reject(new Error('there is no such secret')),
    }) as unknown as Capabilities
  const wishes: TestApiWishes = { manifest: () => manifest, capabilities, clock }
  return { ...(await testApi(wishes)), clock }
}

const sign = (text: string, key = secret) => createHmac('sha256', key).update(text).digest('hex')

function signed(payload: string, { at = now / 1_000, id, key }: { at?: number; id?: string; key?: string } = {}) {
  return {
    payload,
    headers: {
      'content-type': 'application/json',
      'sluice-timestamp': String(at),
      'sluice-signature': sign(`${at}.${payload}`, key),
      ...(id !== undefined && { 'sluice-delivery': id }),
    },
  }
}

const send = (
  { app }: TestApi,
  delivery: { payload: string; headers: Record<string, string> },
  path = 'catalog/push',
) => app.inject({ method: 'POST', url: `/api/v1/hooks/${path}`, ...delivery })

const runRows = statement<{ id: string; plan: string; params: unknown }>(
  'test.hook-runs',
  'select id, plan, params from sluice.runs order by id',
)
const tickRows = statement<{ outcome: string; reason: string; event: string; run_id: string | null }>(
  'test.hook-ticks',
  'select outcome, reason, event, run_id from sluice.ticks order by seq',
)
const pause = statement('test.pause-hooks', 'update sluice.workflows set paused = $1')
const body = '{"file":"a.txt"}'

describe('a delivery', () => {
  it('that is signed starts a run with the body as its parameters, and leaves its tick', async () => {
    const api = await hookApi()
    const answer = await send(api, signed(body, { id: 'd-1' }))
    expect(answer.statusCode).toBe(202)
    const { id, url } = answer.json()
    expect(url).toBe(`/api/v1/runs/${id}`)
    expect(await api.db.query(runRows)).toEqual([{ id, plan: 'webhook:push', params: { file: 'a.txt', lines: 10 } }])
    expect(await api.db.query(tickRows)).toMatchObject([{ outcome: 'fired', event: 'id:d-1', run_id: id }])
  })

  it('that GitHub signed is taken, and fields of its body fill the parameters', async () => {
    const api = await hookApi()
    const payload = '{"head":{"file":"b.txt"},"much":"else"}'
    const headers = {
      'content-type': 'application/json',
      'x-github-delivery': 'g',
      'x-hub-signature-256': `sha256=${sign(payload)}`,
    }
    expect((await send(api, { payload, headers }, 'catalog/mapped')).statusCode).toBe(202)
    expect(await api.db.query(runRows)).toMatchObject([{ params: { file: 'b.txt', lines: 3 } }])
  })

  it('that comes again starts no other run: by its id, and by its signature under another id', async () => {
    const api = await hookApi()
    const first = (await send(api, signed(body, { id: 'd-1' }))).json()
    const again = [
      signed(body, { id: 'd-1' }),
      signed(body, { id: 'd-1', at: now / 1_000 + 60 }),
      signed(body, { id: 'd-2' }),
      signed(body),
      // Its id is that of the first by now.
      signed('{"file":"other.txt"}', { id: 'd-2' }),
    ]
    for (const delivery of again) expect((await send(api, delivery)).json()).toEqual(first)
    expect(await api.db.query(runRows)).toHaveLength(1)
    expect(await api.db.query(tickRows)).toHaveLength(1)
  })

  it('that comes many times at once starts one run', async () => {
    const api = await hookApi()
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) => send(api, signed(body, { id: `d-${index % 3}` }))),
    )
    expect(new Set(answers.map((answer) => `${answer.statusCode} ${answer.json().id}`)).size).toBe(1)
    expect(await api.db.query(runRows)).toHaveLength(1)
  })

  it('of a paused workflow is refused, noted, and taken later', async () => {
    const api = await hookApi()
    await api.db.execute(pause, [true])
    const refused = await send(api, signed(body, { id: 'd-1' }))
    expect([refused.statusCode, refused.json().code]).toEqual([409, 'CONFLICT'])
    expect(await api.db.query(tickRows)).toMatchObject([
      { outcome: 'skipped', reason: expect.stringMatching(/^the workflow is paused/) },
    ])
    await api.db.execute(pause, [false])
    expect((await send(api, signed(body, { id: 'd-1' }))).statusCode).toBe(202)
  })

  it('whose body does not fit is refused field by field, and noted', async () => {
    const api = await hookApi()
    const refused = await send(api, signed('{"file":3,"lins":1}'))
    expect([refused.statusCode, refused.json().code]).toEqual([422, 'INVALID_INPUT'])
    expect(refused.json().errors.map(({ where }: { where: string }) => where)).toEqual(['/params/file', '/params/lins'])
    expect(await api.db.query(tickRows)).toMatchObject([
      { outcome: 'skipped', run_id: null, reason: expect.stringMatching(/do not fit: \/params\/file/) },
    ])
  })
})

describe('nothing starts, and no tick is left, by a delivery', () => {
  const cases: [string, { payload: string; headers: Record<string, string> }, string, number, string][] = [
    [
      'without a signature',
      { payload: body, headers: { 'content-type': 'application/json' } },
      'catalog/push',
      401,
      'SIGNATURE_INVALID',
    ],
    [
      'signed with another secret',
      signed(body, { key: 'another secret of ours' }),
      'catalog/push',
      401,
      'SIGNATURE_INVALID',
    ],
    [
      'with another body than was signed',
      { ...signed(body), payload: '{"file":"b.txt"}' },
      'catalog/push',
      401,
      'SIGNATURE_INVALID',
    ],
    ['that is too old', signed(body, { at: now / 1_000 - 301 }), 'catalog/push', 401, 'SIGNATURE_INVALID'],
    ['that is too long', signed(JSON.stringify({ file: 'x'.repeat(300) })), 'catalog/push', 413, 'BODY_TOO_LARGE'],
    ['that is no JSON', signed('{"file"'), 'catalog/push', 400, 'MALFORMED_JSON'],
    ['that names a field twice', signed('{"file":"a","file":"b"}'), 'catalog/push', 400, 'MALFORMED_JSON'],
    ['that reaches for a prototype', signed('{"__proto__":{"file":"a"}}'), 'catalog/push', 400, 'MALFORMED_JSON'],
    ['that is no object', signed('[1]'), 'catalog/push', 422, 'INVALID_INPUT'],
    ['that is empty', signed(''), 'catalog/push', 400, 'MALFORMED_JSON'],
    ['to a hook that is not there', signed(body), 'catalog/pull', 404, 'NOT_FOUND'],
    ['to a workflow that is not there', signed(body), 'catalogue/push', 404, 'NOT_FOUND'],
    [
      'of another type',
      { ...signed(body), headers: { ...signed(body).headers, 'content-type': 'text/plain' } },
      'catalog/push',
      415,
      'UNSUPPORTED_MEDIA_TYPE',
    ],
  ]
  it('of any of these kinds', async () => {
    const api = await hookApi()
    for (const [what, delivery, path, status, code] of cases) {
      const answer = await send(api, delivery, path)
      expect([what, answer.statusCode, answer.json().code]).toEqual([what, status, code])
    }
    expect([await api.db.query(runRows), await api.db.query(tickRows)]).toEqual([[], []])
    expect(api.logged).toEqual([])
  })

  it.each([
    ['there is no secret', {}],
    ['the secret is empty', { 'push-key': '' }],
    ['the secret is so short that it can be guessed', { 'push-key': 'short' }],
  ])('while %s', async (_, secrets: Record<string, string>) => {
    const api = await hookApi(secrets)
    const answer = await send(api, signed(body, { key: secrets['push-key'] ?? '' }))
    expect([answer.statusCode, answer.json().code]).toEqual([503, 'UNAVAILABLE'])
    expect(answer.body).not.toMatch(/push-key|short/)
    expect(await api.db.query(runRows)).toEqual([])
  })
})
