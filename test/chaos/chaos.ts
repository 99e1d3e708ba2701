/**
 * Kills parts of a Sluice at random moments while catalogs and batch runs come in, and counts again what came of them.
 *
 * 1. Whenever something is killed at least one record is in flight: the origin holds its answer back.
 * 2. After every kill the stream commits again, and the API is ready again, within the lease and five seconds.
 * 3. After every round of kills all work comes to rest: nothing that was acknowledged is lost, nothing is there twice.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { openFiles } from '../../src/objects/files.ts'
import { openDatabase } from '../../src/postgres/pool.ts'
import { breaches, Memory } from '../invariants/check.ts'
import { expectedOf } from './catalogs.ts'
import { embeddedUrl } from './embedded-url.ts'
import { type HeldOrigin, startHeldOrigin } from './held-origin.ts'
import { House, until } from './house.ts'
import { processesOf } from './processes.ts'
import { type Randomness, randomness } from './randomness.ts'
import { type Ask, brokenAtRest, brokenNow } from './recount.ts'
import { UserServer } from './user-server.ts'
import { type Blow, blowOf, strike, type Victim, victimsFor } from './victims.ts'
import { Work } from './work.ts'

export interface ChaosOptions {
  readonly count: number
  readonly seed: number
  /** Kills after which everything has to come to rest; default 20. */
  readonly round?: number
  /** A version of PostgreSQL that is installed here, to be started as a user's; or the address of one that runs. */
  readonly server?: { readonly version: string } | { readonly url: string }
  /** Only these. */
  readonly victims?: readonly Victim[]
  /** Default 10 s. */
  readonly leaseMs?: number
  /** How long a recovery may take; default the lease and 5 s. */
  readonly limitMs?: number
  readonly tell?: (line: string) => void
}

export interface Kill {
  readonly nth: number
  readonly victims: readonly Victim[]
  /** Processes that were struck. */
  readonly processes: number
  /** Records that the origin had not answered. */
  readonly inFlight: number
  readonly atAcknowledgement: boolean
  /** Milliseconds until the stream has committed again, and until the API is ready. */
  readonly commitMs: number
  readonly readyMs: number
}

export interface ChaosReport {
  readonly seed: number
  readonly kills: readonly Kill[]
  readonly received: number
  readonly catalogs: number
  readonly runs: number
}

/** What does not hold, with the folder in which everything is left as it was. */
export class Broken extends Error {
  readonly breaches: readonly string[]
  constructor(when: string, breaches: readonly string[], folder: string) {
    super(`${when}:\n${breaches.map((breach) => `- ${breach}`).join('\n')}\nAll is left in ${folder}`)
    this.breaches = breaches
  }
}

/** @throws Broken; Error when something does not come up, or come to rest, at all. */
export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const random = randomness(options.seed)
  const pauses = random.fork()
  const origin = await startHeldOrigin(() => pauses.whole(100, 1_200))
  const server =
    options.server !== undefined && 'version' in options.server
      ? await UserServer.make(options.server.version)
      : undefined
  const databaseUrl = options.server !== undefined && 'url' in options.server ? options.server.url : server?.url
  const { leaseMs = 10_000 } = options
  const house = await House.make({ originUrl: origin.url, databaseUrl, leaseMs })
  const run = new ChaosRun({ ...options, leaseMs }, random, origin, house, server, databaseUrl)
  let failed = true
  try {
    const report = await run.all()
    failed = false
    return report
  } catch (thrown) {
    await run.keepFacts().catch(() => {})
    throw thrown
  } finally {
    run.abandon()
    await house.close({ keep: failed })
    await server?.remove()
    await origin.close()
  }
}

class ChaosRun {
  readonly #options: ChaosOptions & { readonly leaseMs: number }
  readonly #random: Randomness
  readonly #origin: HeldOrigin
  readonly #house: House
  readonly #server: UserServer | undefined
  readonly #databaseUrl: string | undefined
  readonly #work: Work
  readonly #victims: readonly Victim[]
  readonly #kills: Kill[] = []
  readonly #memory = new Memory()
  #workFailed: unknown

  constructor(
    options: ChaosOptions & { readonly leaseMs: number },
    random: Randomness,
    origin: HeldOrigin,
    house: House,
    server: UserServer | undefined,
    databaseUrl: string | undefined,
  ) {
    this.#options = options
    this.#random = random
    this.#origin = origin
    this.#house = house
    this.#server = server
    this.#databaseUrl = databaseUrl
    this.#work = new Work(house, random.fork())
    const all = victimsFor(databaseUrl === undefined ? 'embedded' : server === undefined ? 'given' : 'own')
    this.#victims = options.victims === undefined ? all : all.filter((victim) => options.victims!.includes(victim))
    if (this.#victims.length === 0) throw new Error('none of these victims is there with this server')
  }

  async all(): Promise<ChaosReport> {
    const { count, round = 20, seed } = this.#options
    await this.#house.start()
    while (this.#kills.length < count) {
      this.#work.start((thrown) => {
        this.#workFailed = thrown
      })
      const end = Math.min(count, this.#kills.length + round)
      while (this.#kills.length < end) await this.#killOnce()
      await this.#work.stop()
      await this.#rest()
    }
    const { catalogs, runs } = this.#work
    const received = catalogs.reduce((sum, { records }) => sum + records.length, 0)
    return { seed, kills: this.#kills, received, catalogs: catalogs.length, runs: runs.length }
  }

  /** What the database says of runs, for whoever looks for the cause: its server is gone afterwards. */
  async keepFacts(): Promise<void> {
    for (const [name, sql] of Object.entries(facts)) {
      const rows = await this.#asking((ask) => ask(sql))
      await writeFile(join(this.#house.folder, `${name}.jsonl`), rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
    }
  }

  /** Hands over nothing more, and waits for nothing. */
  abandon(): void {
    this.#work.abandon()
  }

  async #killOnce(): Promise<void> {
    const random = this.#random
    const wanted = random.chance(0.15)
      ? [random.pick(this.#victims), random.pick(this.#victims)]
      : [random.pick(this.#victims)]
    const atAcknowledgement = random.chance(0.3)
    const afterMs = random.whole(0, 1_500)
    const heldMs = random.whole(0, 300)
    await delay(afterMs)
    this.#origin.hold()
    await until(
      'a record in flight',
      async () => this.#origin.inFlight,
      (inFlight) => inFlight > 0,
      180_000,
    )
    if (atAcknowledgement) await Promise.race([this.#work.acknowledgement(), delay(2_000)])
    if (this.#workFailed !== undefined) throw this.#workFailed
    const { struck, victims, inFlight, at } = this.#strike([...new Set(wanted)])
    const letGo = delay(heldMs).then(() => this.#origin.letGo())
    const limitMs = this.#options.limitMs ?? this.#options.leaseMs + 5_000
    const [commitMs, readyMs] = await Promise.all([
      this.#commits(at),
      this.#ready(at),
      letGo,
      this.#startAgain(victims),
    ])
    const kill = {
      nth: this.#kills.length + 1,
      victims,
      processes: struck,
      inFlight,
      atAcknowledgement,
      commitMs,
      readyMs,
    }
    this.#kills.push(kill)
    this.#options.tell?.(killText(kill, this.#options.count))
    const when = `after kill ${kill.nth} (${victims.join(' and ')})`
    // What came while it is looked at would make each look longer than the one before.
    this.#work.hold()
    this.#check(when, await this.#asking((ask) => brokenNow(ask)))
    this.#check(when, await this.#invariants(false))
    this.#work.goOn()
    if (Math.max(commitMs, readyMs) > limitMs)
      this.#check(when, [`commits after ${commitMs} ms, ready after ${readyMs} ms; allowed are ${limitMs}`])
  }

  /** Strikes all at once. A victim that is not there at this moment, such as a runner that starts, is left out. */
  #strike(wanted: readonly Victim[]) {
    const found = processesOf(this.#house.home)
    const blows = new Map<Victim, Blow>()
    for (const victim of wanted) {
      const blow = blowOf(victim, found, this.#random, this.#house, this.#server)
      if (blow.pids.length > 0) blows.set(victim, blow)
    }
    if (blows.size === 0) blows.set('supervisor', { signal: 'SIGKILL', pids: [this.#house.supervisor!] })
    const { inFlight } = this.#origin
    if (inFlight === 0) throw new Error('no record is in flight')
    const at = Date.now()
    let struck = 0
    for (const blow of blows.values()) struck += strike(blow)
    return { struck, victims: [...blows.keys()], inFlight, at }
  }

  /** What nobody else starts again: the supervisor, as its user would, and the user's server. */
  async #startAgain(victims: readonly Victim[]): Promise<void> {
    const struck = (...some: Victim[]) => some.some((victim) => victims.includes(victim))
    if (this.#server && struck('postmaster', 'server-stop-fast', 'server-stop-immediate')) await this.#server.start()
    if (!struck('supervisor', 'sluice', 'everything')) return
    await this.#house.gone()
    await this.#house.start()
  }

  async #commits(at: number): Promise<number> {
    await until(
      'the stream commits again',
      () => this.#asking((ask) => ask<{ at: Date | null }>('select max(committed_at) as at from sluice.shards')),
      ([row]) => row!.at !== null && row!.at.getTime() > at + 20,
      120_000,
    )
    return Date.now() - at
  }

  async #ready(at: number): Promise<number> {
    // What was struck has still to be noticed as gone.
    await delay(50)
    await until(
      'the API is ready again',
      () => this.#house.ask('/readyz'),
      () => true,
      120_000,
    )
    return Date.now() - at
  }

  async #rest(): Promise<void> {
    const { catalogs, runs } = this.#work
    const expected = await expectedOf(catalogs, this.#origin)
    const when = `at rest after ${this.#kills.length} kills`
    // A plan of the application may fire while it is looked at: then it was not at rest.
    for (let begun = -1; begun !== (await this.#begun()); ) {
      begun = await this.#begun()
      const found = await this.#notAtRest(expected)
      if (begun === (await this.#begun())) this.#check(when, found)
    }
    this.#options.tell?.(
      `${when}: ${expected.received} records of ${catalogs.length} catalogs and ${runs.length} runs are as they must be`,
    )
  }

  /** How many runs have begun so far. */
  async #begun(): Promise<number> {
    const [row] = await this.#asking((ask) => ask<{ begun: number }>('select count(*)::int as begun from sluice.runs'))
    return row!.begun
  }

  /** Waits until nothing is under way, and gives what is not as it must be then. */
  async #notAtRest(expected: Awaited<ReturnType<typeof expectedOf>>): Promise<string[]> {
    const { catalogs, runs } = this.#work
    interface Detail {
      readonly totals: Readonly<Record<string, number>>
      readonly shards: readonly Readonly<Record<string, number>>[]
    }
    const unfinished = `select count(*)::int as left from sluice.runs where state in ('queued', 'running')`
    await until(
      'all runs have ended',
      () => this.#asking((ask) => ask<{ left: number }>(unfinished)),
      ([row]) => row!.left === 0,
      240_000,
    )
    const { totals, shards } = await until(
      'the stream is at rest',
      () => this.#house.ask<Detail>('/api/v1/streams/images'),
      (detail) => detail.totals.pending === 0 && detail.totals.received! >= expected.received,
      240_000,
    ).catch(async (thrown: Error) => {
      const lost = await this.#asking((ask) => brokenAtRest(ask, this.#house.home, catalogs, expected))
      throw new Broken(thrown.message, lost, this.#house.folder)
    })
    const figures = await this.#figures(shards)
    const sums = ['received', 'written', 'duplicate', 'rejected'] as const
    return [
      ...sums.flatMap((sum) =>
        totals[sum] === expected[sum] ? [] : [`${sum} is ${totals[sum]} by the API, and should be ${expected[sum]}`],
      ),
      ...['pending', 'queued', 'waiting', 'dead', 'filtered'].flatMap((sum) =>
        totals[sum] === 0 ? [] : [`${sum} is ${totals[sum]} at rest`],
      ),
      ...figures,
      ...(await this.#asking((ask) => brokenNow(ask))),
      ...(await this.#asking((ask) => brokenAtRest(ask, this.#house.home, catalogs, expected))),
      ...(await this.#asking((ask) => lostRuns(ask, runs))),
      ...(await this.#invariants(true)),
    ]
  }

  /** The figures of what is in memory are those of the last commit or renewal: a third of a lease old at most. */
  async #figures(shards: readonly Readonly<Record<string, number>>[]): Promise<string[]> {
    const of = (shard: Readonly<Record<string, number>>) =>
      ['lag', 'inFlight', 'parked', 'waiting', 'retrying', 'dead'].flatMap((name) =>
        shard[name] === 0 ? [] : [`${name} of shard ${shard.partition} is ${shard[name]} at rest`],
      )
    if (shards.flatMap(of).length === 0) return []
    await delay(this.#options.leaseMs / 2)
    const again = await this.#house.ask<{ shards: typeof shards }>('/api/v1/streams/images')
    return again.shards.flatMap(of)
  }

  /** What must always hold of any Sluice, beside what is known of this work. */
  async #invariants(atRest: boolean): Promise<string[]> {
    const { home } = this.#house
    const url = this.#databaseUrl ?? embeddedUrl(home)
    // It looks at all that there is, beside everything that it kills, and thinks about it between two questions.
    const patience = { answerTimeoutMs: 240_000, idleInTransactionMs: 240_000 }
    const db = openDatabase({ url, applicationName: 'chaos', max: 2, ...patience })
    try {
      const found = await breaches(db, {
        atRest,
        acknowledged: { runs: this.#work.acknowledged },
        memory: this.#memory,
        graceMs: this.#options.leaseMs + 20_000,
        ...(atRest ? { objects: openFiles(join(home, 'objects')), home } : {}),
      })
      return found.map(({ invariant, what }) => `invariant ${invariant}: ${what}`)
    } finally {
      await db.close()
    }
  }

  #check(when: string, breaches: readonly string[]): void {
    if (breaches.length > 0) throw new Broken(when, breaches, this.#house.folder)
  }

  async #asking<Answer>(work: (ask: Ask) => Promise<Answer>): Promise<Answer> {
    const client = new pg.Client({ connectionString: this.#databaseUrl ?? embeddedUrl(this.#house.home) })
    client.on('error', () => {})
    try {
      await client.connect()
      return await work(async (sql, values) => (await client.query(sql, values as unknown[])).rows)
    } finally {
      await client.end().catch(() => {})
    }
  }
}

const facts = {
  nodes: 'select *, sluice.sluice_now() as now from sluice.nodes',
  runs: 'select * from sluice.runs order by id',
  tasks: 'select * from sluice.tasks order by run_id, node, map_index',
  transitions: `select *, to_char(at, 'HH24:MI:SS.US') as time from sluice.transitions order by at, run_id, seq`,
  limits: 'select * from sluice.limits',
  grants: 'select * from sluice.limit_grants',
} as const

async function lostRuns(ask: Ask, runs: readonly { readonly id: string; readonly sum: number }[]): Promise<string[]> {
  const rows = await ask<{ run_id: string; result: string }>(
    `select run_id, result from sluice.tasks where run_id = any ($1::uuid[]) and result like '%"sum"%'`,
    [runs.map(({ id }) => id)],
  )
  const results = new Map(rows.map((row) => [row.run_id, (JSON.parse(row.result) as { sum: number }).sum]))
  return runs.flatMap(({ id, sum }) =>
    results.get(id) === sum
      ? []
      : [`the acknowledged run ${id} has the result ${results.get(id)}, and should have ${sum}`],
  )
}

function killText(
  { nth, victims, processes, inFlight, atAcknowledgement, commitMs, readyMs }: Kill,
  count: number,
): string {
  const what = `${victims.join(' and ')} (${processes} processes)${atAcknowledgement ? ' at an acknowledgement' : ''}`
  return `${nth}/${count} ${what}: ${inFlight} in flight, commits after ${commitMs} ms, ready after ${readyMs} ms`
}
