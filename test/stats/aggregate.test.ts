/** Aggregation on the tables themselves: what counts, once, in which order, whatever happens in between. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { addPortion } from '../../apps/stats/aggregate/aggregate-lane.ts'
import { lanesWithWork } from '../../apps/stats/aggregate/lanes.ts'
import { type Event, everyLane, StatsWorld } from './stats-world.ts'

let world: StatsWorld
beforeAll(async () => {
  world = await StatsWorld.open()
})
afterAll(() => world?.close())
beforeEach(() => world.clear())

const noon = Date.UTC(2026, 2, 1, 12)
const event = (change: Partial<Event> & { minute?: number } = {}): Event => {
  const { minute = 0, ...fields } = change
  const receivedAt = new Date(noon + minute * 60_000)
  return { token: 't', customer: 'c', content: 'channel', p2p: 10, cdn: 1, sessionDuration: 0, receivedAt, ...fields }
}
const dayMinutes = 24 * 60

describe('a window', () => {
  it('bears the time of its end, and an event at its end belongs to the next', async () => {
    await world.insert(event({ minute: 0 }), event({ minute: 4.9999 }), event({ minute: 5 }))
    expect(await world.aggregate()).toBe(3)
    expect(await world.sums()).toEqual([
      { time: '2026-03-01 12:05', customer: 'c', content: 'channel', cdn: '2', p2p: '20', sessions: '1' },
      { time: '2026-03-01 12:10', customer: 'c', content: 'channel', cdn: '1', p2p: '10', sessions: '0' },
    ])
  })

  it('is one per customer and content, also where their texts joined are the same', async () => {
    await world.insert(event({ customer: 'ab', content: 'c' }), event({ customer: 'a', content: 'bc' }))
    await world.aggregate()
    expect((await world.sums()).map(({ customer, content, sessions }) => [customer, content, sessions])).toEqual([
      ['a', 'bc', '1'],
      ['ab', 'c', '1'],
    ])
  })

  it('keeps sums of 64 bits: they stay at 9223372036854775807 once they are there', async () => {
    const half = 2n ** 62n
    await world.insert(event({ cdn: half, p2p: 2n ** 53n - 1n }), event({ cdn: half - 1n, p2p: 1 }))
    await world.aggregate()
    expect(await world.sums()).toMatchObject([{ cdn: '9223372036854775807', p2p: '9007199254740992' }])
    await world.insert(event({ cdn: 1, p2p: 1 }), event({ cdn: 2n ** 63n - 1n }))
    await world.aggregate()
    expect(await world.sums()).toMatchObject([{ cdn: '9223372036854775807', p2p: '9007199254741003' }])
    expect(await world.sums()).toEqual(await world.oracle())
  })
})

describe('a session', () => {
  const sessionsOf = async (...events: readonly Event[]) => {
    for (const one of events) await world.insert(one)
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
    return (await world.sums()).reduce((sum, { sessions }) => sum + Number(sessions), 0)
  }

  it('begins with a new token whose session is shorter than a window', async () => {
    expect(await sessionsOf(event({ sessionDuration: 299_999 }))).toBe(1)
  })
  it('does not begin with a new token whose session is as long as a window, which is known from then on', async () => {
    expect(await sessionsOf(event({ sessionDuration: 300_000 }), event({ sessionDuration: 0 }))).toBe(0)
  })
  it('begins again with a known token that has streamed nothing', async () => {
    expect(await sessionsOf(event(), event({ cdn: 0, p2p: 0 }), event({ cdn: 0, p2p: 1 }))).toBe(2)
  })
  it('does not begin where nothing was streamed in a session as long as a window', async () => {
    expect(await sessionsOf(event({ cdn: 0, p2p: 0, sessionDuration: 300_000 }))).toBe(0)
  })
  it('begins with a token that another customer has', async () => {
    expect(await sessionsOf(event({ customer: 'c1' }), event({ customer: 'c2' }), event({ customer: 'c1' }))).toBe(2)
  })
  it('is one also where token and customer joined are the same text', async () => {
    expect(await sessionsOf(event({ customer: '1', token: '1:x' }), event({ customer: '11', token: ':x' }))).toBe(2)
  })
  it('begins in commit order, not in that of reception', async () => {
    await world.insert(event({ minute: 20 }))
    await world.insert(event({ minute: 0 }))
    await world.aggregate()
    expect((await world.sums()).map(({ time, sessions }) => [time, sessions])).toEqual([
      ['2026-03-01 12:05', '0'],
      ['2026-03-01 12:25', '1'],
    ])
  })
  it('begins in commit order, not in that in which rows were written', async () => {
    const open = await world.insertOpen(event({ token: 'another' }))
    await world.insert(event({ content: 'second' }))
    await open.insert(event({ content: 'first' }))
    await open.end(true)
    await world.aggregate()
    expect((await world.sums()).map(({ content, sessions }) => [content, sessions])).toEqual([
      ['channel', '1'],
      ['first', '1'],
      ['second', '0'],
    ])
  })
  it('is remembered from the last day on which its token was seen, also where an event of an earlier day comes later', async () => {
    const days = [3, 0, 33]
    expect(await sessionsOf(...days.map((day) => event({ minute: day * dayMinutes })))).toBe(1)
    await world.clear()
    let sum = 0
    for (const day of days) sum = await sessionsOf(event({ minute: day * dayMinutes }))
    expect(sum).toBe(1)
  })
  it('does not begin again when the raw rows are gone', async () => {
    await world.insert(event())
    await world.aggregate()
    await world.query('delete from stats.stats_raw')
    await world.insert(event({ minute: 30 }))
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
    expect((await world.sums()).map(({ sessions }) => sessions)).toEqual(['1', '0'])
  })
  it('begins with a token of 31 days ago and not with one of 30, in one portion as in several', async () => {
    const days = [0, 30, 61, 60, 92]
    const events = days.map((day) => event({ minute: day * dayMinutes }))
    expect(await sessionsOf(...events)).toBe(3)
    await world.clear()
    let sum = 0
    for (const one of events) sum = await sessionsOf(one)
    expect(sum).toBe(3)
  })
})

describe('each row is added once', () => {
  it('whatever the size of the portions, with the same sums', async () => {
    for (let transaction = 0; transaction < 20; transaction += 1) {
      const events = Array.from({ length: 5 }, (_, at) => event({ token: `t${(transaction * at) % 7}`, minute: at }))
      await world.insert(...events)
    }
    expect(await world.aggregate({ rows: 3 })).toBe(100)
    expect(await world.sums()).toEqual(await world.oracle())
    expect(await world.aggregate()).toBe(0)
  })

  it('a transaction is not split: the rows of one that is larger than a portion are added together', async () => {
    await world.insert(...Array.from({ length: 10 }, () => event()))
    await world.quiet()
    const [lane] = await lanesWithWork(world.warehouse)
    const options = { tokenDays: 30, now: new Date(noon), rows: 4 }
    expect(await addPortion(world.warehouse, lane!, options)).toEqual({ added: 10, state: 'more' })
    expect(await addPortion(world.warehouse, lane!, options)).toEqual({ added: 0, state: 'done' })
  })

  it('a row that becomes visible three windows late is added to its window, once', async () => {
    const open = await world.insertOpen(event({ token: 'late', p2p: 500 }))
    for (const minute of [0, 5, 10, 15]) await world.insert(event({ token: 'on time', minute }))
    // Nothing above a transaction that is open counts, for whoever commits it comes first.
    expect(await world.aggregateNow()).toBe(0)
    await open.end(true)
    expect(await world.aggregate()).toBe(5)
    expect(await world.sums()).toEqual(await world.oracle())
    expect((await world.sums())[0]).toMatchObject({ time: '2026-03-01 12:05', p2p: '510', sessions: '2' })
    expect(await world.aggregate()).toBe(0)
  })

  it('a row whose window was aggregated before it came is added to it', async () => {
    for (const minute of [0, 5, 10, 15]) await world.insert(event({ minute }))
    expect(await world.aggregate()).toBe(4)
    await world.insert(event({ token: 'late', p2p: 500 }))
    expect(await world.aggregate()).toBe(1)
    expect((await world.sums())[0]).toMatchObject({ time: '2026-03-01 12:05', p2p: '510', sessions: '2' })
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('a row that was rolled back counts nowhere and holds up nobody afterwards', async () => {
    const open = await world.insertOpen(event({ token: 'never' }))
    await world.insert(event())
    await open.end(false)
    expect(await world.aggregate()).toBe(1)
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('a lane that one aggregator has is left alone by the others, which take the rest', async () => {
    const some = Array.from({ length: 64 }, (_, at) => event({ token: `t${at}` }))
    await world.insert(...some)
    await world.quiet()
    const [first] = await lanesWithWork(world.warehouse)
    await addPortion(world.warehouse, first!, { tokenDays: 30, now: new Date(noon), rows: 1 })
    await world.insert(...some)
    const release = Promise.withResolvers<void>()
    const locked = Promise.withResolvers<void>()
    const holder = world.warehouse.transaction(async (sql) => {
      await sql.query('select lane from stats.lanes where lane = $1 for update', [first!])
      locked.resolve()
      await release.promise
    })
    await locked.promise
    const options = { tokenDays: 30, now: new Date(noon) }
    expect(await addPortion(world.warehouse, first!, options)).toEqual({ added: 0, state: 'busy' })
    release.resolve()
    await holder
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('several aggregators at once give the same sums, and never wait in a circle', async () => {
    // All lanes meet in the same few rows of sums, in many portions.
    for (let transaction = 0; transaction < 30; transaction += 1) {
      await world.insert(
        ...Array.from({ length: 20 }, (_, at) =>
          event({ token: `t${(transaction * 20 + at) % 97}`, content: `c${(at * 7) % 5}`, minute: (at * 3) % 4 }),
        ),
      )
    }
    const work = async (lanes: readonly number[]) => {
      let added = 0
      for (const lane of lanes) {
        for (;;) {
          const portion = await addPortion(world.warehouse, lane, { tokenDays: 30, now: new Date(noon), rows: 10 })
          added += portion.added
          if (portion.state !== 'more') break
        }
      }
      return added
    }
    const added = await Promise.all([
      work(everyLane),
      work(everyLane.toReversed()),
      work(everyLane),
      work(everyLane.toReversed()),
    ])
    const rest = await world.aggregate()
    expect(added.reduce((sum, one) => sum + one, rest)).toBe(600)
    expect(await world.sums()).toEqual(await world.oracle())
  })
})

describe('aggregation that is killed', () => {
  it('half-way and run again gives the identical table', async () => {
    for (let transaction = 0; transaction < 10; transaction += 1) {
      await world.insert(...Array.from({ length: 20 }, (_, at) => event({ token: `t${at}`, minute: transaction })))
    }
    await world.quiet()
    const lanes = await lanesWithWork(world.warehouse)
    expect(lanes.length).toBeGreaterThan(4)
    // Half of the lanes, and the session that has written the next one's sums is killed before it commits.
    for (const lane of lanes.slice(0, lanes.length >> 1)) {
      await addPortion(world.warehouse, lane, { tokenDays: 30, now: new Date(noon) })
    }
    const half = await world.sums()
    const killed = world.withVictim(async (victim, kill) => {
      const next = lanes[lanes.length >> 1]!
      expect((await addPortion(victim, next, { tokenDays: 30, now: new Date(noon) })).added).toBeGreaterThan(0)
      await kill()
    })
    await expect(killed).rejects.toThrow()
    expect(await world.sums()).toEqual(half)
    await world.aggregate()
    expect(await world.sums()).toEqual(await world.oracle())
  })

  it('after its commit, before it heard of it, adds nothing when it is tried again', async () => {
    await world.insert(event(), event({ minute: 5 }))
    await world.quiet()
    const [lane] = await lanesWithWork(world.warehouse)
    const options = { tokenDays: 30, now: new Date(noon) }
    expect((await addPortion(world.warehouse, lane!, options)).added).toBe(2)
    expect((await addPortion(world.warehouse, lane!, options)).added).toBe(0)
    expect(await world.sums()).toEqual(await world.oracle())
  })
})

it('after a restore into another server, whose transactions are counted anew, goes on where it was', async () => {
  await world.insert(event(), event({ token: 'u' }))
  await world.aggregate()
  await world.insert(event({ token: 'v', minute: 1 }))
  // As if the rows came from a server that was at its transaction 10^12: these two of before, that one of after.
  await world.query(`update stats.stats_raw set xid = (xid::text::numeric + 1000000000000)::text::xid8`)
  await world.query(`update stats.lanes set server = 1, xid = (xid::text::numeric + 1000000000000)::text::xid8`)
  await world.insert(event({ token: 'w', minute: 2 }))
  await world.aggregate()
  await world.aggregate()
  const [sum] = await world.sums()
  expect(sum).toMatchObject({ cdn: '4', sessions: '4' })
  expect(await world.aggregate()).toBe(0)
})
