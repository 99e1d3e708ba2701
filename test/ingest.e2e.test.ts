/** Events by HTTP as users send them: to `sluice serve`, which is killed and stopped meanwhile. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Project, type RunningSluice, startSluice, until } from './sluice-process.ts'

let project: Project
let server: RunningSluice

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-ingest-'))
  await cp(join(import.meta.dirname, 'programs/ingest-project'), folder, { recursive: true })
  const home = join(folder, '.sluice')
  const environment = { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home }
  project = { folder, home, environment, remove: () => rm(folder, { recursive: true, force: true }) }
  server = await startSluice(project)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

interface Seen {
  readonly pid: number
  readonly events: readonly string[]
}
const seen = () => server.get<Seen>('/doors/seen')

const send = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

/** Sends an event until it is acknowledged; gives the statuses that came before. */
async function insist(id: string): Promise<number[]> {
  const before: number[] = []
  const giveUpAt = performance.now() + 60_000
  for (;;) {
    const answer = await send('/doors', { id, door: 'north', people: 1 }).catch(() => undefined)
    if (answer?.status === 202) return before
    if (performance.now() > giveUpAt) throw new Error(`${id} is not acknowledged: ${before.slice(-5)}`)
    before.push(answer?.status ?? 0)
    await delay(20)
  }
}

/** Sends events, some at a time, each until it is acknowledged. */
async function insistAll(ids: readonly string[], atOnce: number, each: (done: number) => void = () => {}) {
  const left = [...ids]
  const before: number[] = []
  let done = 0
  const one = async () => {
    for (let id = left.shift(); id !== undefined; id = left.shift()) {
      before.push(...(await insist(id)))
      done += 1
      each(done)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, one))
  return before
}

const idsOf = (name: string, count: number) => Array.from({ length: count }, (_, n) => `${name}-${n}`)

it('an acknowledged event can be read at once, and after kill -9 right behind the acknowledgement', async () => {
  const answer = await send('/doors', { door: 'north', people: 3 }, { 'idempotency-key': 'first' })
  expect([answer.status, await answer.json()]).toEqual([202, { id: 'first', status: 'stored' }])
  expect((await seen()).events).toEqual(['first'])
  expect((await send('/doors', { id: 'second', door: 'north', people: 3 })).status).toBe(202)
  await server.stop('SIGKILL')
  server = await startSluice(project)
  expect((await seen()).events).toEqual(['first', 'second'])
}, 60_000)

it('a batch is answered event by event', async () => {
  const answer = await send('/doors/batch', [
    { id: 'b1', door: 'south', people: 1 },
    { id: 'b2', door: '', people: 1 },
  ])
  expect(answer.status).toBe(207)
  expect(await answer.json()).toMatchObject({
    stored: 1,
    rejected: 1,
    items: [{ id: 'b1' }, { errors: [{ where: '/body/1/door' }] }],
  })
})

it('the serving process is killed while events come: each is stored once', async () => {
  const ids = idsOf('killed', 300)
  await insistAll(ids, 8, (done) => {
    if (done === 60 || done === 180)
      void seen().then(
        ({ pid }) => process.kill(pid, 'SIGKILL'),
        () => {},
      )
  })
  const stored = (await seen()).events.filter((event) => event.startsWith('killed-'))
  expect(stored.toSorted()).toEqual(ids.toSorted())
}, 120_000)

it('SIGTERM while events come: what was taken is answered, nothing is lost or doubled', async () => {
  const ids = idsOf('stopped', 200)
  let stopping: Promise<number | null> | undefined
  let code: number | null | undefined
  const before = await insistAll(ids, 8, (done) => {
    if (done !== 80) return
    stopping = server.stop('SIGTERM').then(async (exit) => {
      code = exit
      server = await startSluice(project)
      return exit
    })
  })
  await stopping
  expect(code).toBe(0)
  expect(before.every((status) => status === 0 || status === 503)).toBe(true)
  const stored = (await seen()).events.filter((event) => event.startsWith('stopped-'))
  expect(stored.toSorted()).toEqual(ids.toSorted())
}, 120_000)

it('the ledger of the stream adds up, and the server says that it takes events', async () => {
  const figures = await until(
    () => server.get<{ totals: Record<string, number> }>('/api/v1/streams/passed'),
    ({ totals }) => totals !== undefined,
  )
  const { received, written, duplicate, rejected, pending } = figures.totals as Record<string, number>
  expect(written).toBe((await seen()).events.length)
  expect([received, rejected, pending]).toEqual([written! + duplicate! + rejected!, 1, 0])
  const ready = await server.get<{ checks: { name: string; ok: boolean }[] }>('/readyz')
  expect(ready.checks.find(({ name }) => name === 'ingest')).toMatchObject({ ok: true })
})
