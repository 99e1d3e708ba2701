/**
 * What becomes of work when the process that holds it is told to stop, is killed, or was stopped for so long that another
 * one holds it now. Real processes; nodes that share a database stand for machines.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { openFiles } from '../src/objects/files.ts'
import { openDatabase } from '../src/postgres/pool.ts'
import { embeddedUrl } from './chaos/embedded-url.ts'
import { type HeldOrigin, startHeldOrigin } from './chaos/held-origin.ts'
import { House, type HouseOptions, until } from './chaos/house.ts'
import { kill, killAll, postmasterOf, processesOf, type Role } from './chaos/processes.ts'
import { type TestDatabase, testDatabase } from './database.ts'
import { breaches } from './invariants/check.ts'

/** Processes of a busy machine take their time; nothing here waits for a time to pass. */
const limitMs = 60_000
const timeout = 240_000
/** A lease that nobody could wait for. */
const endless = 600_000

let origin: HeldOrigin
const houses = new Set<House>()

beforeAll(async () => {
  origin = await startHeldOrigin(() => 0)
})
afterEach(async () => {
  origin.letGo()
  for (const house of houses) await house.close({ keep: false })
  houses.clear()
})
afterAll(() => origin.close())

async function openHouse(options: Partial<HouseOptions> = {}): Promise<House> {
  const house = await House.make({ originUrl: origin.url, databaseUrl: undefined, shardProcesses: 1, ...options })
  houses.add(house)
  return house
}

async function startHouse(options: Partial<HouseOptions> = {}): Promise<House> {
  const house = await openHouse(options)
  await house.start()
  return house
}

const pidsOf = (house: House, role: Role) =>
  processesOf(house.home).flatMap((found) => (found.role === role ? [found.pid] : []))

const isThere = (pid: number) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

function start(house: House, workflow: string, params: object): Promise<{ readonly id: string }> {
  const headers = { 'content-type': 'application/json' }
  return house.ask(`/api/v1/workflows/${workflow}/runs`, { method: 'POST', headers, body: JSON.stringify({ params }) })
}

const ended = (house: House, id: string) =>
  until(
    `the end of ${id}`,
    () => house.ask<{ state: string }>(`/api/v1/runs/${id}`),
    ({ state }) => state !== 'queued' && state !== 'running',
    limitMs,
  )

/** The attempt `nth` of a run of `late`. */
const attemptOf = (house: House, name: string, nth: number) => {
  const file = (what: string) => join(house.folder, `${name}.${nth}.${what}`)
  const appears = (what: string) =>
    until(
      `${name}.${nth}.${what}`,
      async () => existsSync(file(what)),
      (there) => there,
      limitMs,
    )
  return {
    started: () => appears('started'),
    go: () => writeFileSync(file('go'), ''),
    told: async () => {
      await appears('told')
      return readFileSync(file('told'), 'utf8')
    },
  }
}

async function rows<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return client.query<Row>(sql).then(
    async (result) => {
      await client.end()
      return result.rows
    },
    async (thrown) => {
      await client.end()
      throw thrown
    },
  )
}

async function broken(house: House, url: string, atRest = true) {
  const db = openDatabase({ url, applicationName: 'recovery test', max: 2 })
  try {
    return await breaches(db, { atRest, objects: openFiles(join(house.home, 'objects')), home: house.home })
  } finally {
    await db.close()
  }
}

describe('two nodes on one database', () => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await testDatabase({ migrated: false })
  })
  afterAll(() => database.drop())

  it('a node that is told to stop hands its runs over at once; one that is killed loses them with its lease', {
    timeout,
  }, async () => {
    const first = await startHouse({ databaseUrl: database.url, leaseMs: endless })
    const { id } = await start(first, 'late', { dir: first.folder, name: 'handed' })
    await attemptOf(first, 'handed', 1).started()
    const second = await startHouse({ databaseUrl: database.url, leaseMs: 2_000 })
    expect(await first.stop()).toBe(0)
    await attemptOf(first, 'handed', 2).started()

    const third = await startHouse({ databaseUrl: database.url, leaseMs: 2_000 })
    await killAll(second.home)
    const last = attemptOf(first, 'handed', 3)
    await last.started()
    last.go()
    expect(await last.told()).toBe('written')
    expect(await ended(third, id)).toMatchObject({ state: 'success' })
    expect(await broken(third, database.url)).toEqual([])
  })

  it('an engine that was stopped past its lease is refused what its attempt writes late', { timeout }, async () => {
    const zombie = await startHouse({ databaseUrl: database.url, leaseMs: endless })
    const { id } = await start(zombie, 'late', { dir: zombie.folder, name: 'zombie' })
    const first = attemptOf(zombie, 'zombie', 1)
    await first.started()
    const [engine] = pidsOf(zombie, 'engine')
    kill(engine!, 'SIGSTOP')
    // As if the lease had lapsed: by its own clock it has not, so that it goes on where it was.
    await rows(database.url, `update sluice.nodes set lease_until = '-infinity' where pid = ${engine}`)
    const healthy = await startHouse({ databaseUrl: database.url, leaseMs: 2_000 })
    const second = attemptOf(zombie, 'zombie', 2)
    await second.started()
    second.go()
    expect(await second.told()).toBe('written')
    expect(await ended(healthy, id)).toMatchObject({ state: 'success' })
    // The runner is none the wiser: it asks its engine to write, which is asked when it wakes up.
    first.go()
    kill(engine!, 'SIGCONT')
    expect(await first.told()).toBe('FENCED')
    expect(
      await rows(database.url, `select body from sluice.documents where collection = 'late' and key = 'zombie'`),
    ).toEqual([{ body: { attempt: 2 } }])
    expect(await rows(database.url, `select attempt, result from sluice.tasks where run_id = '${id}'`)).toEqual([
      { attempt: 2, result: '2' },
    ])
    expect(await broken(healthy, database.url)).toEqual([])
  })
})

describe('the runners of an engine that is stopped', () => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await testDatabase({ migrated: false })
  })
  afterAll(() => database.drop())

  it('end their attempts before another engine begins them again, which the stopped one finds out', {
    timeout,
  }, async () => {
    // Its runners end 3 s before its lease does, which a busy machine does not make up for.
    const stopped = await startHouse({ databaseUrl: database.url, leaseMs: 20_000 })
    const { id } = await start(stopped, 'late', { dir: stopped.folder, name: 'stopped' })
    await attemptOf(stopped, 'stopped', 1).started()
    const worker = Number(readFileSync(join(stopped.folder, 'stopped.1.started'), 'utf8'))
    // With a lease of its own that a busy machine does not endanger.
    const healthy = await startHouse({ databaseUrl: database.url })
    const [engine] = pidsOf(stopped, 'engine')
    kill(engine!, 'SIGSTOP')
    const second = attemptOf(stopped, 'stopped', 2)
    await second.started()
    expect(isThere(worker)).toBe(false)
    expect(isThere(engine!)).toBe(true)
    second.go()
    expect(await second.told()).toBe('written')
    expect(await ended(healthy, id)).toMatchObject({ state: 'success' })
    // What it does when it goes on: it has no run, and works as any other.
    kill(engine!, 'SIGCONT')
    await healthy.stop()
    const next = await start(stopped, 'sums', { n: 2 })
    expect(await ended(stopped, next.id)).toMatchObject({ state: 'success' })
    expect(await rows(database.url, `select attempt, losses from sluice.tasks where run_id = '${id}'`)).toEqual([
      { attempt: 2, losses: 1 },
    ])
    expect(await broken(stopped, database.url)).toEqual([])
  })
})

describe('a shard', () => {
  interface Holder {
    readonly pid: number
    readonly epoch: number
  }
  const holder = async (house: House) => {
    const found = await rows<Holder>(
      embeddedUrl(house.home),
      `select n.pid, s.epoch::int as epoch from sluice.shards s join sluice.nodes n on n.id = s.holder where s.stream = 'images'`,
    )
    return found[0]
  }
  const anotherThan = (house: House, before: Holder) =>
    until(
      'another holder',
      () => holder(house),
      (now) => now !== undefined && now.epoch > before.epoch && now.pid !== before.pid,
      limitMs,
    )
  const atRest = (house: House, received: number) =>
    until(
      'rest',
      () => house.ask<{ totals: Record<string, number> }>('/api/v1/streams/images'),
      ({ totals }) => totals.received === received && totals.pending === 0,
      limitMs,
    )

  /** The origin holds all its answers: the records are in their steps. */
  async function inFlight(house: House, count: number): Promise<Holder> {
    origin.hold()
    const text = Array.from({ length: count }, (_, at) => `https://one.test/12/12?seed=${house.home}${at}\n`).join('')
    const headers = { 'content-type': 'text/plain' }
    await house.ask('/api/v1/catalogs?name=held', { method: 'POST', headers, body: text })
    await until(
      'records in flight',
      async () => origin.inFlight,
      (asked) => asked > 0,
      limitMs,
    )
    return (await holder(house))!
  }

  it('whose process is told to stop commits what ends meanwhile, and is taken by another at once', {
    timeout,
  }, async () => {
    const house = await startHouse({ leaseMs: endless, shardProcesses: 2 })
    const before = await inFlight(house, 12)
    kill(before.pid, 'SIGTERM')
    origin.letGo()
    await anotherThan(house, before)
    expect(await atRest(house, 12)).toMatchObject({ totals: { written: 12, duplicate: 0 } })
    expect(await broken(house, embeddedUrl(house.home))).toEqual([])
  })

  it('whose process is killed is free as soon as that is started again', { timeout }, async () => {
    const house = await startHouse({ leaseMs: endless })
    const before = await inFlight(house, 12)
    kill(before.pid)
    origin.letGo()
    await anotherThan(house, before)
    expect(await atRest(house, 12)).toMatchObject({ totals: { written: 12, duplicate: 0 } })
    expect(await broken(house, embeddedUrl(house.home))).toEqual([])
  })

  it('that another took while its process was stopped is refused the commit of what it had in flight', {
    timeout,
  }, async () => {
    const house = await startHouse({ leaseMs: endless, shardProcesses: 2 })
    const zombie = await inFlight(house, 12)
    kill(zombie.pid, 'SIGSTOP')
    // As if its leases had lapsed: by its own clock they have not, so that it goes on where it was.
    await rows(
      embeddedUrl(house.home),
      `update sluice.nodes set lease_until = '-infinity' where pid = ${zombie.pid};
       update sluice.shards set lease_until = '-infinity' where stream = 'images'; notify sluice_shards`,
    )
    await anotherThan(house, zombie)
    origin.letGo()
    const { totals } = await atRest(house, 12)
    expect(totals).toMatchObject({ written: 12, duplicate: 0 })
    kill(zombie.pid, 'SIGCONT')
    await until(
      'the refusal',
      async () => readFileSync(house.log, 'utf8'),
      (log) => /shard: .*"images:0".*FENCED/.test(log),
      limitMs,
    )
    expect((await atRest(house, 12)).totals).toEqual(totals)
    expect(await broken(house, embeddedUrl(house.home))).toEqual([])
  })

  it('and the engine go on when the main process or a session of PostgreSQL is killed', { timeout }, async () => {
    const house = await startHouse({ leaseMs: 10_000 })
    const { supervisor } = house
    await inFlight(house, 12)
    kill(postmasterOf(house.home)!)
    origin.letGo()
    expect(await atRest(house, 12)).toMatchObject({ totals: { written: 12, duplicate: 0 } })
    const [session] = await until(
      'a session of the engine',
      () =>
        rows<{ pid: number }>(
          embeddedUrl(house.home),
          `select pid from pg_stat_activity where application_name like 'sluice engine%' limit 1`,
        ),
      (found) => found.length > 0,
      limitMs,
    )
    kill(session!.pid)
    const { id } = await until(
      'an API that takes a run',
      () => start(house, 'sums', { n: 3 }),
      () => true,
      limitMs,
    )
    await until(
      'its end',
      () => ended(house, id),
      ({ state }) => state === 'success',
      limitMs,
    )
    expect(house.supervisor).toBe(supervisor)
    expect(await broken(house, embeddedUrl(house.home))).toEqual([])
  })
})

describe('a home', () => {
  it('whose supervisor was killed is taken over from processes that do not end by themselves', {
    timeout,
  }, async () => {
    const house = await startHouse()
    const left = (['serving', 'shard', 'engine'] as const).flatMap((role) => pidsOf(house, role))
    expect(left).toHaveLength(3)
    // They hold the port, the shard and the runs, and notice nothing.
    for (const pid of left) kill(pid, 'SIGSTOP')
    kill(house.supervisor!)
    await house.gone()
    await house.start()
    expect(left.filter(isThere)).toEqual([])
    const { id } = await start(house, 'sums', { n: 2 })
    expect(await ended(house, id)).toMatchObject({ state: 'success' })
  })

  it('that two supervisors start on at the same moment has one', { timeout }, async () => {
    const house = await openHouse()
    const [one, other] = await Promise.allSettled([house.start(), house.start()])
    const failures = [one, other].flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []))
    expect(failures).toHaveLength(1)
    expect(failures[0]).toContain('already')
    expect(await house.ask('/readyz')).toMatchObject({ status: 'ready' })
    await killAll(house.home)
  })

  it('with files that were cut short, or that name processes of others, is started on as ever', {
    timeout,
  }, async () => {
    const house = await startHouse()
    await killAll(house.home)
    const stranger = process.pid
    const { hash } = JSON.parse(readFileSync(join(house.home, 'versions/last-build.json'), 'utf8')) as { hash: string }
    for (const file of ['server.json', 'versions/last-build.json', `versions/${hash}/manifest.json`])
      writeFileSync(join(house.home, file), readFileSync(join(house.home, file)).subarray(0, 20))
    const known = JSON.parse(readFileSync(join(house.home, 'processes.json'), 'utf8')) as { host: string }
    const processes = [{ pid: stranger, began: '1' }]
    writeFileSync(join(house.home, 'processes.json'), JSON.stringify({ ...known, processes }))
    await house.start()
    expect(isThere(stranger)).toBe(true)
    await killAll(house.home)

    writeFileSync(join(house.home, 'processes.json'), '{"host":')
    // A record of a supervisor whose number has been given to somebody else, who happens to be a Sluice, too.
    const other = await startHouse()
    writeFileSync(join(house.home, 'server.json'), JSON.stringify({ url: other.url, pid: other.supervisor }))
    await house.command('stop')
    expect(await other.ask('/healthz')).toEqual({ status: 'ok' })
    await house.start()
    expect(await house.stop()).toBe(0)
  })

  it('goes on with the new version when processes are killed while they are replaced', { timeout }, async () => {
    const house = await openHouse()
    await house.start('dev')
    const before = [...pidsOf(house, 'shard'), ...pidsOf(house, 'serving')]
    const source = `import { action, workflow } from 'sluice'
const one = action('one', { run: () => 1 })
export const fresh = workflow('fresh', { define: () => void one() })
`
    writeFileSync(join(house.folder, 'more/fresh.ts'), source)
    const [next] = await until(
      'a process of the new version',
      async () => pidsOf(house, 'shard').filter((pid) => !before.includes(pid)),
      (pids) => pids.length > 0,
      limitMs,
    )
    kill(next!)
    const { id } = await until(
      'the new workflow',
      () => start(house, 'fresh', {}),
      () => true,
      limitMs,
    )
    expect(await ended(house, id)).toMatchObject({ state: 'success' })
    await until(
      'readiness',
      () => house.ask<{ status: string }>('/readyz'),
      ({ status }) => status === 'ready',
      limitMs,
    )
    expect(await house.stop()).toBe(0)
    expect(processesOf(house.home)).toEqual([])
  })
})
