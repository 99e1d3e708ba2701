/**
 * Known events, each posted until it is acknowledged and some of them more often, while API, engine, shards and runners are killed: every
 * event is stored once, and the sums are those that other SQL counts by force.
 *
 * `STATS_EVENTS=10000 STATS_KILLS=24 STATS_SEED=7 npx vitest run test/stats-kills.e2e.test.ts` plays more of it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { embeddedUrl } from './chaos/embedded-url.ts'
import { kill, processesOf, type Role } from './chaos/processes.ts'
import { type Project, type RunningSluice, startSluice, until } from './sluice-process.ts'
import { knownEvents, type Posted, post, randomOf } from './stats/events.ts'
import { statsProject } from './stats/stats-project.ts'
import { StatsWorld } from './stats/stats-world.ts'

const count = Number(process.env.STATS_EVENTS ?? 1_000)
const kills = Number(process.env.STATS_KILLS ?? 6)
const seed = Number(process.env.STATS_SEED ?? 1)
const clients = 16
/** A busy machine may take its time; nothing here is measured. */
const patienceMs = 300_000
const timeout = Math.max(900_000, count * 200)

let project: Project
let server: RunningSluice
let world: StatsWorld
beforeAll(async () => {
  project = await statsProject()
  server = await startSluice(project)
  world = await StatsWorld.recordingAt({ url: embeddedUrl(project.home), applicationName: 'stats test', max: 2 })
}, patienceMs)
afterAll(async () => {
  await world?.close()
  await server?.stop()
  await project?.remove()
})

/** Whether it is acknowledged. What was not answered, or answered by 503, is not. */
async function tryOnce(path: string, body: object): Promise<boolean> {
  const answer = await post(server.url, path, body).catch(() => undefined)
  if (answer === undefined) return false
  const text = await answer.text().catch(() => '')
  if (answer.status >= 300 && answer.status !== 503) {
    throw new Error(`${path} was answered by ${answer.status}: ${text.slice(0, 500)}`)
  }
  return answer.status < 300
}

async function postUntilAcknowledged(path: string, body: object): Promise<void> {
  while (!(await tryOnce(path, body))) await delay(50)
}

/** One event, or some of them as a batch; each client goes through its own. */
async function postAll(events: readonly Posted[], random: () => number, acknowledged: (count: number) => void) {
  for (let at = 0; at < events.length; ) {
    const size = random() < 0.2 ? 1 + Math.floor(random() * 20) : 1
    const some = events.slice(at, at + size)
    const [path, body] = size === 1 ? (['/stats', some[0]!] as const) : (['/stats/batch', some] as const)
    await postUntilAcknowledged(path, body)
    if (random() < 0.2) await tryOnce(path, body)
    at += some.length
    acknowledged(some.length)
  }
}

const victims: readonly Role[] = ['serving', 'engine', 'shard', 'runner']

/** One after another, from one that the seed decides on; each when so much more is acknowledged, in the middle of an aggregation. */
async function killAlong(first: number, progress: () => number, stop: () => boolean): Promise<Role[]> {
  const killed: Role[] = []
  while (killed.length < kills && !stop()) {
    if (progress() < ((killed.length + 1) / (kills + 1)) * count) {
      await delay(10)
      continue
    }
    await post(server.url, '/api/v1/workflows/stats-aggregate/runs', {}).catch(() => {})
    const role = victims[(first + killed.length) % victims.length]!
    const found = await until(
      async () => processesOf(project.home).find((one) => one.role === role),
      (one) => one !== undefined,
      patienceMs,
    )
    if (kill(found!.pid)) killed.push(role)
  }
  return killed
}

interface Progress {
  readonly aggregated: number
  readonly waiting: number
}

it(`${count} known events under ${kills} kills equal the oracle (seed ${seed})`, { timeout }, async () => {
  const random = randomOf(seed)
  const events = knownEvents(count, random)
  let acknowledged = 0
  let failed = false
  const shares = Array.from({ length: clients }, (_, client) => events.filter((_, at) => at % clients === client))
  const posting = Promise.all(
    shares.map((share, client) =>
      postAll(share, randomOf(seed * 1_000 + client), (more) => {
        acknowledged += more
      }),
    ),
  ).catch((thrown: unknown) => {
    failed = true
    throw thrown
  })
  const [killed] = await Promise.all([
    killAlong(
      Math.floor(random() * victims.length),
      () => acknowledged,
      () => failed,
    ),
    posting,
  ])
  expect([acknowledged, killed.length]).toEqual([count, kills])
  console.info(`${count} events acknowledged, killed: ${killed.join(', ')}`)

  // Each is stored once, as it was posted.
  const stored = await world.query<Posted>(`
    select event_id as id, token, customer, content, timespan::float8 as timespan, p2p::float8 as p2p, cdn::float8 as cdn,
      session_duration::float8 as "sessionDuration"
    from oracle.events order by event_id collate "C"`)
  expect(stored).toEqual(events.toSorted((a, b) => (a.id < b.id ? -1 : 1)))

  // In the end all is summed, though no plan was asked to hurry.
  const ask = async () => {
    await post(server.url, '/api/v1/workflows/stats-aggregate/runs', {}).catch(() => {})
    await delay(200)
    return server.get<Progress>('/api/v1/stats/progress').catch(() => ({ aggregated: 0, waiting: count }))
  }
  const last = await until(ask, ({ waiting }) => waiting === 0, patienceMs)
  expect(last.aggregated).toBe(count)
  expect(await world.sums()).toEqual(await world.oracle())

  const { totals } = await server.get<{ totals: Record<string, number> }>('/api/v1/streams/stats-events')
  expect(totals).toMatchObject({ written: count, pending: 0, rejected: 0, dead: 0 })
  expect(totals.received).toBe(totals.written! + totals.duplicate!)
})
