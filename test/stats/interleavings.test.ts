/**
 * Random interleavings of inserts (transactions that stay open, are committed late or rolled back), aggregators (several at once, held
 * in the middle, killed), cleaning, forgetting and time that passes: in the end the sums are those of the oracle, and no row
 * was removed before it was added. `STATS_RUNS=1000 STATS_SEED=7` plays more of them.
 */
import fc from 'fast-check'
import type { PostgresClient } from 'sluice'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { addPortion } from '../../apps/stats/aggregate/aggregate-lane.ts'
import { lanesWithWork } from '../../apps/stats/aggregate/lanes.ts'
import { forgetTokens } from '../../apps/stats/clean/forget-tokens.ts'
import { removeRaw } from '../../apps/stats/clean/remove-raw.ts'
import { type Event, everyLane, type OpenTransaction, StatsWorld } from './stats-world.ts'

const runs = Number(process.env.STATS_RUNS ?? 40)
const seed = process.env.STATS_SEED === undefined ? undefined : Number(process.env.STATS_SEED)
const tokenDays = 2

let world: StatsWorld
beforeAll(async () => {
  world = await StatsWorld.open(20)
})
afterAll(() => world?.close())

interface Drawn {
  readonly token: number
  readonly customer: number
  readonly content: number
  readonly lateMinutes: number
  readonly sessionDuration: number
  readonly empty: boolean
}
type Step =
  | { readonly do: 'insert' | 'open'; readonly events: readonly Drawn[] }
  | { readonly do: 'write more'; readonly pick: number; readonly events: readonly Drawn[] }
  | { readonly do: 'end'; readonly pick: number; readonly commit: boolean }
  | { readonly do: 'aggregate'; readonly rows: number; readonly aggregators: number }
  | { readonly do: 'hold'; readonly pick: number; readonly rows: number; readonly added: boolean }
  | { readonly do: 'release'; readonly kill: boolean }
  | { readonly do: 'clean'; readonly rows: number }
  | { readonly do: 'forget' }
  | { readonly do: 'pass'; readonly minutes: number }

const small = (max: number) => fc.integer({ min: 0, max })
const drawn: fc.Arbitrary<Drawn> = fc.record({
  token: small(3),
  customer: small(1),
  content: small(1),
  lateMinutes: fc.oneof(small(20), fc.constant(1_200)),
  sessionDuration: fc.constantFrom(0, 299_999, 300_000),
  empty: fc.boolean(),
})
const events = fc.array(drawn, { minLength: 1, maxLength: 4 })
const portion = fc.integer({ min: 1, max: 4 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('insert' as const), events }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('open' as const), events }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('write more' as const), pick: small(2), events }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('end' as const), pick: small(2), commit: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('aggregate' as const),
      rows: portion,
      aggregators: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('hold' as const), pick: small(7), rows: portion, added: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('release' as const), kill: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('clean' as const), rows: portion }) },
  { weight: 1, arbitrary: fc.constant({ do: 'forget' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('pass' as const), minutes: fc.constantFrom(3, 11, 1_440, 2_880, 4_500) }),
  },
)

it('sums equal the oracle, and no row is removed before it was added', { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      await world.clear()
      await new Play().run(steps)
    }),
    { numRuns: runs, ...(seed === undefined ? {} : { seed }) },
  )
})

class Killed extends Error {}

/** Each event that streamed something is a bit of `p2p`: the sum of all sums says which were added, and whether each once. */
class Play {
  readonly #open: OpenTransaction[] = []
  /** Aggregators that may wait for the one that is held. */
  #waiting: Promise<unknown>[] = []
  #held: { release(kill: boolean): Promise<void> } | undefined
  #now = Date.UTC(2026, 2, 1, 12)
  #count = 0

  async run(steps: readonly Step[]): Promise<void> {
    try {
      for (const one of steps) await this.#take(one)
      while (this.#open.length > 0) await this.#open.shift()!.end(true)
    } finally {
      await this.#release(true)
      for (const open of this.#open) await open.end(false)
    }
    await world.aggregate({ tokenDays, now: this.#time })
    await removeRaw(world.warehouse, { now: this.#time, rawMinutes: 10 })
    expect(await world.sums()).toEqual(await world.oracle(tokenDays))
    this.#now += 1_000 * 60_000
    await removeRaw(world.warehouse, { now: this.#time, rawMinutes: 10 })
    expect(await world.rawCount()).toBe(0)
  }

  get #time() {
    return new Date(this.#now)
  }

  async #take(one: Step): Promise<void> {
    if (one.do === 'insert') await world.insert(...this.#made(one.events))
    else if (one.do === 'open') {
      if (this.#open.length < 3) this.#open.push(await world.insertOpen(...this.#made(one.events)))
    } else if (one.do === 'end') await this.#open.splice(one.pick, 1)[0]?.end(one.commit)
    else if (one.do === 'aggregate') await this.#aggregate(one.rows, one.aggregators)
    else if (one.do === 'hold') await this.#hold(one)
    else if (one.do === 'release') await this.#release(one.kill)
    else if (one.do === 'clean') await this.#clean(one.rows)
    else if (one.do === 'forget') await forgetTokens(world.warehouse, { now: this.#time, tokenDays })
    else if (one.do === 'pass') this.#now += one.minutes * 60_000
  }

  #made(events: readonly Drawn[]): Event[] {
    return events.map(({ token, customer, content, lateMinutes, sessionDuration, empty }) => {
      this.#count += 1
      const p2p = empty || this.#count > 52 ? 0 : 2 ** this.#count
      return {
        ...{
          token: `t${token}`,
          customer: `c${customer}`,
          content: `v${content}`,
          cdn: p2p === 0 && !empty ? 1 : 0,
          p2p,
        },
        ...{ sessionDuration, receivedAt: new Date(this.#now - lateMinutes * 60_000) },
      }
    })
  }

  async #aggregate(rows: number, aggregators: number): Promise<void> {
    const work = async (order: readonly number[]) => {
      for (const lane of order) {
        while ((await addPortion(world.warehouse, lane, { tokenDays, now: this.#time, rows })).state === 'more');
      }
    }
    const lanes = await lanesWithWork(world.warehouse)
    const all = Array.from({ length: aggregators }, (_, at) => work(at % 2 === 0 ? lanes : lanes.toReversed()))
    if (this.#held === undefined) await Promise.all(all)
    else if (this.#waiting.length < 6) this.#waiting.push(...all)
    else await Promise.allSettled([this.#release(true), ...all])
  }

  /** One aggregator stops in its transaction: after it has claimed its lane, or after it has added. */
  async #hold({ pick, rows, added }: { pick: number; rows: number; added: boolean }): Promise<void> {
    if (this.#held !== undefined) return
    const lanes = await lanesWithWork(world.warehouse)
    const lane = lanes[pick % Math.max(1, lanes.length)] ?? everyLane[pick]!
    const reached = Promise.withResolvers<void>()
    const decided = Promise.withResolvers<boolean>()
    const pause = async () => {
      reached.resolve()
      if (await decided.promise) throw new Killed()
    }
    const held: PostgresClient = {
      ...world.warehouse,
      transaction: (work) =>
        world.warehouse.transaction(async (sql) => {
          let statements = 0
          const result = await work({
            async query(text, values) {
              if (!added && statements === 2) await pause()
              statements += 1
              return sql.query(text, values)
            },
          })
          if (added) await pause()
          return result
        }),
    }
    const ended = addPortion(held, lane, { tokenDays, now: this.#time, rows }).catch((thrown: unknown) => {
      if (!(thrown instanceof Killed)) throw thrown
    })
    this.#held = {
      async release(kill) {
        decided.resolve(kill)
        await ended
      },
    }
    await Promise.race([reached.promise, ended])
  }

  async #release(kill: boolean): Promise<void> {
    await this.#held?.release(kill)
    this.#held = undefined
    await Promise.all(this.#waiting)
    this.#waiting = []
  }

  async #clean(rows: number): Promise<void> {
    await removeRaw(world.warehouse, { now: this.#time, rawMinutes: 10, rows })
    const [bits] = await world.query<{ added: string; removed: string }>(`
      select (select coalesce(sum(p2p), 0) from stats.stats)::text as added,
        (select coalesce(sum(p2p), 0) from oracle.events e
          where not exists (select from stats.stats_raw r where r.id = e.id))::text as removed`)
    const added = BigInt(bits!.added)
    const removed = BigInt(bits!.removed)
    expect(added & removed).toBe(removed)
  }
}
