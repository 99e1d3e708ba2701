/**
 * Producers that are killed, in virtual time: real streams over a real database, whose clock is the test's, as are all timers. Nothing
 * here depends on how quick the machine is.
 */
import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { noObjects, plainCapabilities, StreamWorld } from '../../../test/stream-world.ts'
import { accountsOf, itemStream, itemTables, putItems, type TestItem } from '../../../test/timer-world.ts'
import { streamAdapters } from '../../app/stream-adapters.ts'
import { type Database, statement } from '../../ports/database.ts'
import { openDatabase, type PooledDatabase } from '../../postgres/pool.ts'
import { totals } from '../../store/ledger.ts'
import { openStreams, type Streams } from '../streams.ts'
import { Timers } from './timers.ts'

const begin = Date.UTC(2026, 2, 28, 12)
const stepMs = 250

const clockTables = `
  create table sluice.test_clock (at timestamptz not null);
  insert into sluice.test_clock values (to_timestamp(${begin} / 1000.0));
  create or replace function sluice.sluice_now() returns timestamptz language sql volatile
    as 'select at from sluice.test_clock';
  alter table test_runs alter begun_at set default sluice.sluice_now();`
const clockStatement = statement('test.set-clock', 'update sluice.test_clock set at = $1')
const runsStatement = statement<{ item: string; node: string; begunAt: Date }>(
  'test.takeover-runs',
  'select item, node, begun_at as "begunAt" from test_runs order by begun_at',
)

const never = new Promise<never>(() => {})

/** A process of its own: it has connections, a node and a list of items. Once it is killed nothing of it reaches anybody. */
class Producer {
  readonly node = randomUUID()
  readonly #pool: PooledDatabase
  readonly #database: Database
  #streams: Streams | undefined
  #dead = false
  busy = 0

  constructor(pool: PooledDatabase) {
    this.#pool = pool
    const asked = async <Result>(work: () => Promise<Result>): Promise<Result> => {
      if (this.#dead) return never
      this.busy += 1
      try {
        const result = await work()
        return this.#dead ? never : result
      } catch (thrown) {
        if (this.#dead) return never
        throw thrown
      } finally {
        this.busy -= 1
      }
    }
    this.#database = {
      ...pool,
      query: (one, values) => asked(() => pool.query(one, values)),
      execute: (one, values) => asked(() => pool.execute(one, values)),
      transaction: (work) => asked(() => pool.transaction(work)),
    }
  }

  async open(leaseMs: number, perProducer?: number): Promise<void> {
    const database = this.#database
    const definition = itemStream(database, this.node, perProducer)
    const timers = new Timers({ capabilities: plainCapabilities, report: () => {} })
    this.#streams = await openStreams({
      ...{ database, streams: [definition], node: this.node, random: () => 0.5, leaseMs },
      ...{ adapters: streamAdapters({ db: database, objects: noObjects, timers }), capabilities: plainCapabilities },
    })
  }

  get held(): number {
    return this.#dead ? 0 : (this.#streams?.held().length ?? 0)
  }

  kill(): void {
    this.#dead = true
    this.busy = 0
  }

  async close(): Promise<void> {
    if (!this.#dead) await this.#streams?.stop(0)
    await this.#pool.close()
  }
}

let world: StreamWorld
let producers: Producer[]
let now: number
beforeEach(async () => {
  world = await StreamWorld.open()
  await world.db.script(itemTables)
  await world.db.script(clockTables)
  producers = []
  now = begin
  vi.useFakeTimers({
    now,
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
  })
})
afterEach(async () => {
  vi.useRealTimers()
  for (const producer of producers) await producer.close()
  const breaches = await world.breaches()
  await world.close()
  expect(breaches).toEqual([])
})

async function start(leaseMs: number, perProducer?: number): Promise<Producer> {
  const producer = new Producer(openDatabase({ ...world.options, max: 6 }))
  producers.push(producer)
  await producer.open(leaseMs, perProducer)
  return producer
}

/** Lets time pass, and waits after every step of it for what that began at the database. */
async function pass(ms: number): Promise<void> {
  for (const end = now + ms; now < end; ) {
    now += stepMs
    await world.db.execute(clockStatement, [new Date(now)])
    await vi.advanceTimersByTimeAsync(stepMs)
    for (let quiet = 0; quiet < 5; ) {
      quiet = producers.every(({ busy }) => busy === 0) ? quiet + 1 : 0
      await turn()
    }
  }
}

/** Of every interval some quick ones, and one that takes 2 s. */
const items = (...seconds: number[]): TestItem[] =>
  seconds.flatMap((s) =>
    [0, 1, 2, 3].map((n) => ({ id: `every-${s}-${n}`, every_ms: s * 1_000, ms: n === 0 ? 2_000 : 0 })),
  )

/** Within which the items of a dead producer are to be checked again. */
const boundOf = (every_ms: number, leaseMs: number) => Math.max(2 * every_ms, leaseMs + 5_000)

async function expectAllResumed(victim: Producer, killedAt: number, all: readonly TestItem[], leaseMs: number) {
  const runs = await world.db.query(runsStatement)
  const theirs = new Set(runs.filter(({ node }) => node === victim.node).map(({ item }) => item))
  expect(theirs.size).toBeGreaterThan(3)
  const late = all.flatMap(({ id, every_ms }) => {
    const next = runs.find(({ item, begunAt }) => item === id && begunAt.getTime() > killedAt)
    const after = (next?.begunAt.getTime() ?? Number.POSITIVE_INFINITY) - killedAt
    return after > boundOf(every_ms, leaseMs) ? [{ id, after }] : []
  })
  expect(late).toEqual([])
}

/** Every tick is there or is counted, and what is between two records of an item is within the bound, in whole intervals. */
async function expectAllAccounted(all: readonly TestItem[], leaseMs: number) {
  vi.useRealTimers()
  for (const producer of producers) await producer.close()
  const { ticks, written, missed, folded, scheduled } = await accountsOf(world.db, all)
  const { received, waiting } = await totals(world.db, 'timed')
  expect(received).toBe(written + waiting)
  expect({ accounted: received + missed + folded }).toEqual({ accounted: ticks })
  const gaps = all.flatMap(({ id, every_ms }) => {
    const times = scheduled.get(id) ?? []
    const longest = Math.max(...times.slice(1).map((at, nth) => at - times[nth]!))
    // Who comes back before its next tick but one loses none.
    const most = every_ms >= leaseMs + 5_000 ? every_ms : Math.ceil(boundOf(every_ms, leaseMs) / every_ms) * every_ms
    return times.length > 1 && longest <= most ? [] : [{ id, longest, most, records: times.length }]
  })
  expect(gaps).toEqual([])
  return { missed }
}

describe('the items of a producer that is killed', { timeout: 300_000 }, () => {
  it('are checked again within two intervals or the lease and 5 s, kill after kill', async () => {
    const [leaseMs, all] = [10_000, items(5, 6, 7, 12, 20, 30)]
    await putItems(world.db, all)
    const three = [await start(leaseMs), await start(leaseMs), await start(leaseMs)]
    await pass(21_250)
    expect(three.map(({ held }) => held).sort()).toEqual([1, 1, 2])
    // At different places between two renewals, one after the other; one more comes in between.
    for (const [nth, afterMs] of [
      [0, 0],
      [1, 1_750],
    ] as const) {
      await pass(afterMs)
      const victim = three[nth]!
      const killedAt = now
      victim.kill()
      await pass(17_000)
      if (nth === 0) await start(leaseMs)
      await pass(21_000)
      await expectAllResumed(victim, killedAt, all, leaseMs)
    }
    const { missed } = await expectAllAccounted(all, leaseMs)
    expect(missed).toBeGreaterThan(0)
  })

  it('are so whatever the lease is, and no tick of those is lost whose interval is as long', async () => {
    const [leaseMs, all] = [40_000, items(5, 20, 45)]
    await putItems(world.db, all)
    const victim = await start(leaseMs)
    await pass(12_500)
    await start(leaseMs)
    // Just after a renewal; at every third of a lease the other one would look just before the lapse, and then long after it.
    await pass(54_750)
    const killedAt = now
    victim.kill()
    await pass(95_000)
    await expectAllResumed(victim, killedAt, all, leaseMs)
    await expectAllAccounted(all, leaseMs)
  })

  it('are taken by one that held nothing before, where one is enough for all', async () => {
    const [leaseMs, all] = [10_000, items(5, 15)]
    await putItems(world.db, all)
    const [holder, idle] = [await start(leaseMs, 1_000), await start(leaseMs, 1_000)]
    await pass(20_500)
    expect([holder.held, idle.held]).toEqual([4, 0])
    const killedAt = now
    holder.kill()
    await pass(31_000)
    expect(idle.held).toBe(4)
    await expectAllResumed(holder, killedAt, all, leaseMs)
    await expectAllAccounted(all, leaseMs)
  })
})
