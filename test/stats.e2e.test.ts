/** What a demanding user tries on the statistics collector, in the processes that users have. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { embeddedUrl } from './chaos/embedded-url.ts'
import { killAll } from './chaos/processes.ts'
import { type Project, type RunningSluice, startSluice, until } from './sluice-process.ts'
import { post, sample } from './stats/events.ts'
import { statsProject } from './stats/stats-project.ts'
import { StatsWorld } from './stats/stats-world.ts'

/** A busy machine may take its time; nothing here is measured. */
const patienceMs = 120_000
const timeout = patienceMs * 2

let project: Project
let server: RunningSluice

beforeAll(async () => {
  project = await statsProject()
  server = await startSluice(project)
}, timeout)
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

interface Run {
  readonly id: string
  readonly state: string
}

/** Beside the runs of its plan. */
async function run(workflow: string): Promise<Run> {
  const started = await post(server.url, `/api/v1/workflows/${workflow}/runs`, {})
  expect(started.status).toBe(201)
  const { id } = (await started.json()) as Run
  const ended = ({ state }: Run) => state === 'success' || state === 'failed'
  return until(() => server.get<Run>(`/api/v1/runs/${id}`), ended, patienceMs)
}

async function say(workflow: string, what: 'pause' | 'resume'): Promise<void> {
  expect((await post(server.url, `/api/v1/workflows/${workflow}/${what}`, {})).ok).toBe(true)
}

interface Raw {
  readonly items: readonly { readonly id: string; readonly token: string; readonly aggregated: boolean }[]
}
const rawOf = async (query: string) => (await server.get<Raw>(`/api/v1/stats/raw?limit=1000&${query}`)).items

it('the payload of the documentation is stored, readable at once, and summed in its window by the next aggregation', {
  timeout,
}, async () => {
  await say('stats-aggregate', 'pause')
  const answer = await post(server.url, '/stats', sample)
  expect(answer.status).toBe(202)
  expect(await answer.json()).toEqual({ id: expect.any(String), status: 'stored' })
  expect(await rawOf(`token=${sample.token}`)).toMatchObject([{ ...sample, aggregated: false }])
  await say('stats-aggregate', 'resume')
  await run('stats-aggregate')
  expect(await rawOf(`token=${sample.token}`)).toMatchObject([{ ...sample, aggregated: true }])
  const { items } = await server.get<{ items: object[] }>('/api/v1/stats?customer=Customer1&content=channel1')
  expect(items).toEqual([
    {
      ...{ time: expect.stringMatching(/:[0-5][05]:00\.000Z$/), customer: 'Customer1', content: 'channel1' },
      ...{ cdn: 321123, p2p: 560065, sessions: 1 },
    },
  ])
})

it('an event is readable as soon as it is acknowledged, and after everything was killed right behind the answer', {
  timeout,
}, async () => {
  const headers = { 'idempotency-key': 'before-the-kill' }
  expect((await post(server.url, '/stats', { ...sample, token: 'survivor' }, headers)).status).toBe(202)
  await killAll(project.home)
  server = await startSluice(project)
  expect(await rawOf('token=survivor')).toMatchObject([{ id: 'before-the-kill' }])
  // Who did not hear of the answer posts it again.
  const again = await post(server.url, '/stats', { ...sample, token: 'survivor' }, headers)
  expect(await again.json()).toEqual({ id: 'before-the-kill', status: 'duplicate' })
  expect(await rawOf('token=survivor')).toHaveLength(1)
})

it.each([
  ['in the header Idempotency-Key', 'header', {}, { 'idempotency-key': 'thrice' }],
  ['in the field id', 'field', { id: 'thrice more' }, {}],
])('the same id three times at once, %s, gives one row', { timeout }, async (_, token, field, headers) => {
  const answers = await Promise.all(
    [1, 2, 3].map(() => post(server.url, '/stats', { ...sample, token, ...field }, headers as Record<string, string>)),
  )
  expect(answers.map(({ status }) => status)).toEqual([202, 202, 202])
  const ends = (await Promise.all(answers.map((answer) => answer.json()))) as { status: string }[]
  expect(ends.map(({ status }) => status).sort()).toEqual(['duplicate', 'duplicate', 'stored'])
  expect(await rawOf(`token=${token}`)).toHaveLength(1)
})

it('a batch of 100 with 3 bad ones stores 97 and names the 3', { timeout }, async () => {
  const bad = new Map<number, object>([
    [7, { p2p: -1 }],
    [42, { customer: '' }],
    [99, { sessionDuration: 'long' }],
  ])
  const batch = Array.from({ length: 100 }, (_, at) => ({ ...sample, token: 'batch', ...bad.get(at) }))
  const answer = await post(server.url, '/stats/batch', batch)
  expect(answer.status).toBe(207)
  const result = (await answer.json()) as { items: { status: string; errors?: { where: string }[] }[] }
  expect(result).toMatchObject({ stored: 97, duplicate: 0, rejected: 3 })
  const refused = result.items.flatMap(({ status, errors }, at) =>
    status === 'rejected' ? [[at, errors!.map(({ where }) => where)]] : [],
  )
  expect(refused).toEqual([
    [7, ['/body/7/p2p']],
    [42, ['/body/42/customer']],
    [99, ['/body/99/sessionDuration']],
  ])
  expect(await rawOf('token=batch')).toHaveLength(97)
})

it.each([
  ['malformed JSON', '/stats', '{"token":', 400, 'MALFORMED_JSON'],
  ['a body over its limit', '/stats', { ...sample, token: 'x'.repeat(70_000) }, 413, 'BODY_TOO_LARGE'],
  ['a batch over its number', '/stats/batch', Array.from({ length: 1_001 }, () => 0), 413, 'BODY_TOO_LARGE'],
  ['a text for a number', '/stats', { ...sample, p2p: '5' }, 422, 'INVALID_INPUT'],
  ['a fraction of a byte', '/stats', { ...sample, cdn: 0.5 }, 422, 'INVALID_INPUT'],
  ['more bytes than JSON says exactly', '/stats', { ...sample, cdn: 2 ** 53 }, 422, 'INVALID_INPUT'],
  ['an empty token', '/stats', { ...sample, token: '' }, 422, 'INVALID_INPUT'],
  ['a missing content', '/stats', { ...sample, content: undefined }, 422, 'INVALID_INPUT'],
  ['a customer of 257 characters', '/stats', { ...sample, customer: 'c'.repeat(257) }, 422, 'INVALID_INPUT'],
  ['a character that cannot be stored', '/stats', { ...sample, content: 'a\0b' }, 422, 'INVALID_INPUT'],
  ['a list for an event', '/stats', [sample], 422, 'INVALID_INPUT'],
  ['an event for a batch', '/stats/batch', sample, 422, 'INVALID_INPUT'],
])('%s is refused by a problem document', { timeout }, async (_, path, body, status, code) => {
  const before = (await rawOf('')).length
  const answer = await post(server.url, path, body)
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  expect([answer.status, await answer.json()]).toMatchObject([status, { status, code }])
  expect((await rawOf('')).length).toBe(before)
})

it('texts of 256 characters of four bytes are keys of the sums', { timeout }, async () => {
  const long = '🎬'.repeat(128)
  expect((await post(server.url, '/stats', { ...sample, customer: long, content: long })).status).toBe(202)
  await run('stats-aggregate')
  const { items } = await server.get<{ items: object[] }>(`/api/v1/stats?customer=${encodeURIComponent(long)}`)
  expect(items).toHaveLength(1)
})

it('aggregation stopped and cleaning left running: nothing of it is removed, and the run that fails says why', {
  timeout,
}, async () => {
  await run('stats-aggregate')
  await say('stats-aggregate', 'pause')
  for (let at = 0; at < 5; at += 1) await post(server.url, '/stats', { ...sample, token: 'overdue', content: `c${at}` })
  const world = await StatsWorld.at({ url: embeddedUrl(project.home), applicationName: 'stats test', max: 2 })
  try {
    await world.query(`update stats.stats_raw set received_at = received_at - interval '20 minutes'`)
    const cleaned = await run('stats-clean')
    expect(cleaned.state).toBe('failed')
    // What was aggregated has left; what was not has stayed.
    expect((await rawOf('')).map(({ token }) => token)).toEqual(['overdue', 'overdue', 'overdue', 'overdue', 'overdue'])
    const { items } = await server.get<{ items: { state: string; error: string | null }[] }>(
      `/api/v1/runs/${cleaned.id}/tasks`,
    )
    expect(items.map(({ state }) => state).sort()).toEqual(['failed', 'success', 'success'])
    expect(items.find(({ state }) => state === 'failed')?.error).toMatch(
      /^WORK_BEHIND: Events received more than 15 min ago that are not aggregated: 5\. The oldest/,
    )
    expect(await server.get('/api/v1/stats/progress')).toMatchObject({ waiting: 5, overdue: 5, behind: true })
    await say('stats-aggregate', 'resume')
    await run('stats-aggregate')
    expect(await server.get('/api/v1/stats/progress')).toMatchObject({ waiting: 0, overdue: 0, behind: false })
    expect((await run('stats-clean')).state).toBe('success')
    expect(await rawOf('')).toEqual([])
  } finally {
    await world.close()
  }
})

it('aggregates and cleans every minute', { timeout }, async () => {
  const plans = async (workflow: string) => JSON.stringify(await server.get(`/api/v1/workflows/${workflow}`))
  expect(await plans('stats-aggregate')).toContain('"every:1m"')
  expect(await plans('stats-clean')).toContain('"every:1m@2026-01-01T00:00:30.000Z"')
})

describe('reading', () => {
  const at = (minute: number) => new Date(Date.UTC(2026, 2, 1, 12, minute)).toISOString()
  const range = `from=${at(0)}&to=${at(60)}`
  const most = 2n ** 63n - 1n

  beforeAll(async () => {
    const world = await StatsWorld.at({ url: embeddedUrl(project.home), applicationName: 'stats test', max: 2 })
    // Two customers, a window each five minutes, from 12:00 to 13:10.
    await world.query(
      `insert into stats.stats (time, customer, content, cdn, p2p, sessions)
       select $1::timestamptz + n * interval '5 minutes', customer, content, 10, n, 1
       from generate_series(0, 14) as n, (values ('reader a', 'x'), ('reader a', 'y'), ('reader b', 'x')) as v (customer, content)`,
      [at(0)],
    )
    await world.query(`insert into stats.stats values ($1, 'reader c', 'most', $2, $2, $2)`, [at(5), String(most)])
    await world.close()
  }, timeout)

  interface Listed {
    readonly items: readonly { readonly time: string; readonly customer: string; readonly content: string }[]
    readonly nextCursor: string | null
  }

  it('pages go on where the one before ended, in the order of time, customer, content, without a gap', {
    timeout,
  }, async () => {
    const found: string[] = []
    let cursor = ''
    do {
      const path = `/api/v1/stats?${range}&customer=reader+a&limit=7${cursor}`
      const { items, nextCursor } = await server.get<Listed>(path)
      expect(items.length).toBeLessThanOrEqual(7)
      found.push(...items.map(({ time, content }) => `${time} ${content}`))
      cursor = nextCursor === null ? '' : `&cursor=${nextCursor}`
    } while (cursor !== '')
    const wanted = Array.from({ length: 12 }, (_, n) => [`${at(5 + n * 5)} x`, `${at(5 + n * 5)} y`]).flat()
    expect(found).toEqual(wanted)
  })

  it('a chart has a point for each step, and totals are their sum', { timeout }, async () => {
    const asked = `${range}&customer=reader+a`
    const chart = await server.get<{ points: object[] }>(`/api/v1/stats/series?${asked}&step=15m`)
    expect(chart).toEqual({
      step: '15m',
      points: [
        { time: at(15), cdn: 60, p2p: 12, sessions: 6 },
        { time: at(30), cdn: 60, p2p: 30, sessions: 6 },
        { time: at(45), cdn: 60, p2p: 48, sessions: 6 },
        { time: at(60), cdn: 60, p2p: 66, sessions: 6 },
      ],
    })
    const totals = await server.get(`/api/v1/stats/totals?${asked}`)
    expect(totals).toEqual({ windows: 24, cdn: 240, p2p: 156, sessions: 24 })
    expect(await server.get(`/api/v1/stats/totals?${asked}&content=y`)).toMatchObject({ windows: 12, cdn: 120 })
  })

  it('customers and contents are listed with their sums', { timeout }, async () => {
    const first = await server.get<{ items: object[]; nextCursor: string }>(`/api/v1/stats/customers?${range}&limit=1`)
    expect(first.items).toEqual([{ customer: 'reader a', contents: 2, cdn: 240, p2p: 156, sessions: 24 }])
    const next = await server.get(`/api/v1/stats/customers?${range}&limit=1&cursor=${first.nextCursor}`)
    expect(next).toMatchObject({ items: [{ customer: 'reader b', contents: 1, cdn: 120 }] })
    expect(await server.get(`/api/v1/stats/contents?${range}&customer=reader+a`)).toMatchObject({
      items: [
        { content: 'x', cdn: 120 },
        { content: 'y', cdn: 120 },
      ],
      nextCursor: null,
    })
  })

  it('sums of 64 bits are written to their last digit, and so are sums of those', { timeout }, async () => {
    const text = async (path: string) => (await fetch(`${server.url}${path}?customer=reader+c`)).text()
    expect(await text('/api/v1/stats')).toContain('"cdn":9223372036854775807,')
    expect(await text('/api/v1/stats/totals')).toBe(
      '{"windows":1,"cdn":9223372036854775807,"p2p":9223372036854775807,"sessions":9223372036854775807}',
    )
  })

  it.each([
    ['a cursor that is none', '?cursor=abc', 400, 'INVALID_CURSOR'],
    ['a cursor of another list', `?cursor=${Buffer.from('["a"]').toString('base64url')}`, 400, 'INVALID_CURSOR'],
    [
      'a cursor with another time',
      `?cursor=${Buffer.from('["x","a","b"]').toString('base64url')}`,
      400,
      'INVALID_CURSOR',
    ],
    ['a time without a zone', '?from=2026-03-01T12:00:00', 422, 'INVALID_INPUT'],
    ['a range that is empty', `?from=${at(5)}&to=${at(5)}`, 422, 'INVALID_INPUT'],
    ['a limit over 1,000', '?limit=1001', 422, 'INVALID_INPUT'],
    ['a name that is not known', '?costumer=x', 422, 'INVALID_INPUT'],
    ['a chart of too many points', '/series?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z', 422, 'INVALID_INPUT'],
    ['a step that is none', '/series?step=7m', 422, 'INVALID_INPUT'],
    ['contents of nobody', '/contents', 422, 'INVALID_INPUT'],
  ])('%s is refused', { timeout }, async (_, query, status, code) => {
    const answer = await fetch(`${server.url}/api/v1/stats${query}`)
    expect([answer.status, await answer.json()]).toMatchObject([status, { status, code }])
  })

  it('settings are read, set as a whole, and refused where they make no sense', { timeout }, async () => {
    const defaults = { tokenDays: 30, rawMinutes: 10, alertMinutes: 15 }
    expect(await server.get('/api/v1/stats/settings')).toEqual(defaults)
    const put = (body: object) =>
      fetch(`${server.url}/api/v1/stats/settings`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    expect((await put({ ...defaults, tokenDays: 0 })).status).toBe(422)
    expect((await put({ tokenDays: 7 })).status).toBe(422)
    expect((await put({ ...defaults, tokenDays: 7 })).status).toBe(200)
    expect(await server.get('/api/v1/stats/settings')).toEqual({ ...defaults, tokenDays: 7 })
  })
})
