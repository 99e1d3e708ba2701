/** Cleaning: what is old leaves, what is not aggregated stays, and who is behind hears of it. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { backlogBefore, behindText } from '../../apps/stats/aggregate/backlog.ts'
import { forgetTokens } from '../../apps/stats/clean/forget-tokens.ts'
import { removeRaw } from '../../apps/stats/clean/remove-raw.ts'
import { type Event, StatsWorld } from './stats-world.ts'

let world: StatsWorld
beforeAll(async () => {
  world = await StatsWorld.open()
})
afterAll(() => world?.close())
beforeEach(() => world.clear())

const noon = Date.UTC(2026, 2, 1, 12)
const at = (minute: number) => new Date(noon + minute * 60_000)
const event = (minute: number, token = 't'): Event => ({
  ...{ token, customer: 'c', content: 'channel', p2p: 10, cdn: 1, sessionDuration: 0 },
  receivedAt: at(minute),
})
const clean = (minute: number, rows?: number) =>
  removeRaw(world.warehouse, { now: at(minute), rawMinutes: 10, ...(rows === undefined ? {} : { rows }) })
const tokens = async () =>
  (await world.query<{ day: string }>('select last_seen_on::text as day from stats.tokens order by 1')).map(
    ({ day }) => day,
  )

describe('raw rows', () => {
  it('leave ten minutes after they were received, in batches', async () => {
    await world.insert(...Array.from({ length: 25 }, (_, n) => event(n, `t${n}`)))
    await world.aggregate()
    expect(await clean(9)).toBe(0)
    expect(await clean(20, 3)).toBe(10)
    expect(await world.rawCount()).toBe(15)
    expect(await clean(100, 5)).toBe(15)
  })

  it('that are not aggregated stay, however old: aggregation stopped, cleaning left running', async () => {
    await world.insert(...Array.from({ length: 20 }, (_, n) => event(0, `t${n}`)))
    await world.aggregate()
    await world.insert(...Array.from({ length: 30 }, (_, n) => event(1, `u${n}`)))
    expect(await clean(1_000)).toBe(20)
    expect(await clean(10_000, 7)).toBe(0)
    expect(await world.rawCount()).toBe(30)
    const backlog = await backlogBefore(world.warehouse, at(1_000 - 15))
    expect(backlog).toEqual({ events: 30, oldest: at(1) })
    expect(behindText(backlog, 15, at(1_000))).toBe(
      'Events received more than 15 min ago that are not aggregated: 30. The oldest was received at 2026-03-01T12:01:00.000Z, 999 min ago. Their rows are kept. Look at the runs of stats-aggregate (paused? failed?), and for a transaction that has been open for as long: what was committed after its first write waits for its end',
    )
    await world.aggregate()
    expect(await backlogBefore(world.warehouse, at(1_000))).toEqual({ events: 0, oldest: null })
    expect(await clean(1_000)).toBe(30)
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('of a transaction that is committed late stay until they are aggregated, though their lane was further', async () => {
    const open = await world.insertOpen(event(0, 'late'))
    await world.insert(event(1, 'late'))
    await open.end(true)
    await world.aggregate()
    const again = await world.insertOpen(event(0, 'late'))
    await again.end(true)
    expect(await clean(1_000)).toBe(2)
    expect(await world.rawCount()).toBe(1)
    await world.aggregate()
    expect(await clean(1_000)).toBe(1)
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('that came after a restore into another server stay, also where its transactions have lower numbers', async () => {
    await world.insert(event(0, 't'))
    await world.aggregate()
    await world.query(`update stats.lanes set server = 1, xid = '1000000000000'`)
    await world.query(`update stats.stats_raw set xid = '1000000000000'`)
    await world.insert(event(0, 't'))
    expect(await clean(1_000)).toBe(1)
    expect(await world.rawCount()).toBe(1)
    expect((await backlogBefore(world.warehouse, at(1_000))).events).toBe(1)
  })

  it('that another cleaner removes at this moment are left to it', async () => {
    await world.insert(...Array.from({ length: 20 }, (_, n) => event(0, `t${n}`)))
    await world.aggregate()
    const removed = await world.warehouse.transaction(async (sql) => {
      const first = await removeRaw(sql, { now: at(1_000), rawMinutes: 10, rows: 100 })
      expect(await clean(1_000)).toBe(0)
      return first
    })
    expect(removed).toBe(20)
  })
})

describe('tokens', () => {
  const day = 24 * 60
  const forget = (minute: number, rows?: number) =>
    forgetTokens(world.warehouse, { now: at(minute), tokenDays: 30, ...(rows === undefined ? {} : { rows }) })

  it('are forgotten when no event can find them: 30 days after their last event, and a day for late ones', async () => {
    await world.insert(event(0, 'a'), event(0, 'b'), event(day, 'b'))
    await world.aggregate()
    expect(await tokens()).toEqual(['2026-03-01', '2026-03-02'])
    expect(await forget(31 * day)).toBe(0)
    expect(await forget(32 * day, 1)).toBe(1)
    expect(await tokens()).toEqual(['2026-03-02'])
    // So the sums are those of one who forgets nothing.
    await world.insert(event(31 * day, 'a'), event(32 * day, 'b'))
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('are all remembered while an event of more than a day ago is not aggregated', async () => {
    await world.insert(event(0))
    await world.aggregate()
    await world.insert(event(30 * day))
    expect(await forget(40 * day)).toBe(0)
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
    expect((await world.sums()).map(({ sessions }) => sessions)).toEqual(['1', '0'])
    expect(await forget(70 * day)).toBe(1)
  })

  it('are kept as hashes alone', async () => {
    await world.insert(event(0, 'c98arf53-ae39-4c9d-af44-c6957ee2f748'))
    await world.aggregate()
    const [row] = await world.query<{ row: string }>('select t::text as row from stats.tokens t')
    expect(row!.row).not.toContain('c98arf53')
  })
})
