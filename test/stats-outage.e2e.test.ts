/**
 * Two Sluices on one PostgreSQL, behind which a player may find either. PostgreSQL is gone for a while: what is posted meanwhile is answered by 503 with Retry-After, and in the end exactly what was
 * acknowledged is stored. `STATS_OUTAGE_S=60 npx vitest run test/stats-outage.e2e.test.ts` has it gone for so many seconds.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type TestDatabase, testDatabase } from './database.ts'
import { proxyFor, type TcpProxy } from './faults/tcp-proxy.ts'
import { type Project, type RunningSluice, startSluice, until } from './sluice-process.ts'
import { post, sample } from './stats/events.ts'
import { statsProject } from './stats/stats-project.ts'
import { StatsWorld } from './stats/stats-world.ts'

const outageS = Number(process.env.STATS_OUTAGE_S ?? 0)
/** Answers by 503 that are waited for. */
const refusalsWanted = 20
/** A busy machine may take its time; nothing here is measured. */
const patienceMs = 300_000

let test: TestDatabase
let proxy: TcpProxy
let project: Project
let server: RunningSluice
let world: StatsWorld
beforeAll(async () => {
  test = await testDatabase({ migrated: false })
  const through = await proxyFor(test.url)
  proxy = through.proxy
  project = await statsProject({ SLUICE_DATABASE_URL: through.url })
  server = await startSluice(project)
  world = await StatsWorld.at({ ...test.options, max: 1 })
}, patienceMs)
afterAll(async () => {
  proxy?.set({ kind: 'pass' })
  await server?.stop()
  await world?.close()
  await proxy?.close()
  await test?.drop()
  await project?.remove()
})

it('two Sluices on one database store each event once, whichever is asked, and their aggregators give one answer', {
  timeout: patienceMs,
}, async () => {
  const other = await statsProject({ SLUICE_DATABASE_URL: test.url })
  const second = await startSluice(other)
  try {
    const urls = [server.url, second.url]
    const ids = Array.from({ length: 100 }, (_, at) => `both-${at}`)
    const ends = await Promise.all(
      ids.flatMap((id, at) =>
        urls.map(async (url) => {
          const answer = await post(url, '/stats', { ...sample, id, token: `t${at % 40}`, customer: 'both' })
          return ((await answer.json()) as { status: string }).status
        }),
      ),
    )
    expect(ends.filter((status) => status === 'stored')).toHaveLength(100)
    expect(ends.filter((status) => status === 'duplicate')).toHaveLength(100)
    const totals = async (url: string) => (await fetch(`${url}/api/v1/stats/totals?customer=both`)).json()
    const summed = until(
      async () => {
        await Promise.all(urls.map((url) => post(url, '/api/v1/workflows/stats-aggregate/runs', {})))
        return (await totals(server.url)) as { cdn: number }
      },
      ({ cdn }) => cdn >= 100 * sample.cdn,
      patienceMs,
    )
    expect(await summed).toMatchObject({ cdn: 100 * sample.cdn, p2p: 100 * sample.p2p, sessions: 40 })
    expect(await totals(second.url)).toEqual(await totals(server.url))
  } finally {
    await second.stop()
    await other.remove()
  }
})

it('PostgreSQL gone gives 503 with Retry-After, and afterwards what is stored is what was acknowledged', {
  timeout: patienceMs * 2 + outageS * 1_000,
}, async () => {
  const acknowledged: string[] = []
  let refusals = 0
  let over = false
  /** Posts one event after another, each until it is acknowledged. */
  const client = async (name: string) => {
    for (let at = 0; !over; at += 1) {
      const id = `${name}-${at}`
      for (;;) {
        const answer = await post(server.url, '/stats', { ...sample, id, customer: 'alone' })
        const body = await answer.json()
        if (answer.status === 202) {
          acknowledged.push(id)
          break
        }
        expect([answer.status, body]).toMatchObject([503, { status: 503, code: expect.any(String) }])
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
        refusals += 1
        await delay(20)
      }
    }
  }
  const clients = Promise.all(['a', 'b', 'c', 'd'].map(client))
  const soon = (what: () => boolean) => Promise.race([until(async () => what(), Boolean, patienceMs), clients])
  await soon(() => acknowledged.length >= 20)
  proxy.set({ kind: 'refuse' })
  proxy.reset()
  const before = acknowledged.length
  await soon(() => refusals >= refusalsWanted)
  await delay(outageS * 1_000)
  // What was on its way when the connections broke may have been acknowledged, and nothing since.
  expect(acknowledged.length - before).toBeLessThanOrEqual(4)
  proxy.set({ kind: 'pass' })
  const again = acknowledged.length
  await soon(() => acknowledged.length >= again + 20)
  over = true
  await clients

  const stored = await world.query<{ id: string }>(
    `select event_id as id from stats.stats_raw where customer = 'alone' order by event_id collate "C"`,
  )
  expect(stored.map(({ id }) => id)).toEqual(acknowledged.toSorted())
})
