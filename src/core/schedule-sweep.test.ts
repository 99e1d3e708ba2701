/**
 * Ticks against an oracle that knows nothing of our code: it reads what the clocks of a zone show at each minute from the
 * formatter of the JavaScript engine, and plays the policy of schedule.ts over those minutes, one after another.
 *
 * A sample runs with the suite. `SLUICE_SWEEP=all vitest run src/core/schedule-sweep.test.ts` takes the three days around
 * every transition of every zone, and random days elsewhere; `SLUICE_SWEEP_YEARS=2010-2037` and `SLUICE_SWEEP_SEED` say which.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseCron, ticksBetween } from './schedule.ts'

const minuteMs = 60_000
const dayMs = 1_440 * minuteMs
const everything = process.env.SLUICE_SWEEP === 'all'
const seed = Number(process.env.SLUICE_SWEEP_SEED ?? 20_260_329)
const [firstYear, lastYear] = (process.env.SLUICE_SWEEP_YEARS ?? '2010-2037').split('-').map(Number) as [number, number]

const zones = [...Intl.supportedValuesOf('timeZone'), 'UTC']

const patterns = [
  '* * * * *',
  '*/30 * * * *',
  '15 */2 * * *',
  '7,37 */5 * * 0',
  '*/20 2 * * *',
  '0 2 * * *',
  '30 0,1,2,3 * * *',
  '*/7 1-3 * * *',
  '0 0 * * *',
  '1 0 * * *',
  '59 23 * * *',
  '*/15 0-23 * * *',
  '30 2 L * 0',
  '0 9 30 12 *',
]

/** Days (since the epoch) that begin and end with different offsets. */
function transitionDays(zone: string): number[] {
  const format = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' })
  const offset = (day: number) => format.format(day * dayMs).split(', ')[1]
  const [from, to] = [Date.UTC(firstYear) / dayMs, Date.UTC(lastYear + 1) / dayMs]
  const days: number[] = []
  let before = offset(from)
  for (let day = from; day < to; day += 1) {
    const after = offset(day + 1)
    if (after !== before) days.push(day)
    before = after
  }
  return days
}

/** What the clocks show at each minute, as the milliseconds at which a clock in UTC would show it. */
function shownWalls(zone: string, from: number, to: number): number[] {
  const format = new Intl.DateTimeFormat('en-US', {
    ...{ timeZone: zone, calendar: 'gregory', hourCycle: 'h23', year: 'numeric', month: 'numeric' },
    ...{ day: 'numeric', hour: 'numeric', minute: 'numeric' },
  })
  const walls: number[] = []
  for (let instant = from; instant < to; instant += minuteMs) {
    const [month, date, year, hour, minute] = format.format(instant).match(/\d+/g)!.map(Number)
    walls.push(Date.UTC(year!, month! - 1, date, hour, minute))
  }
  return walls
}

/** The values that one field admits, item by item. */
function admitted(text: string, low: number): Set<number> {
  const values = new Set<number>()
  for (const item of text.split(',')) {
    const [range, step = '1'] = item.split('/')
    const [first, last = first] = range === '*' ? [String(low), '59'] : range!.split('-')
    for (let value = Number(first); value <= Number(last); value += Number(step)) values.add(value)
  }
  return values
}

const fieldsOf = (pattern: string) => {
  const [minutes, hours, dom, months, dow] = pattern.split(' ') as [string, string, string, string, string]
  return {
    ...{ minutes: admitted(minutes, 0), hours: admitted(hours, 0), months: admitted(months, 1), dow: admitted(dow, 0) },
    ...{
      dom: dom === 'L' ? undefined : admitted(dom, 1),
      either: dom !== '*' && dow !== '*',
      follows: hours.startsWith('*'),
    },
  } as const
}

function matches(fields: ReturnType<typeof fieldsOf>, wall: number): boolean {
  const date = new Date(wall)
  if (!fields.minutes.has(date.getUTCMinutes()) || !fields.hours.has(date.getUTCHours())) return false
  if (!fields.months.has(date.getUTCMonth() + 1)) return false
  const isLast = new Date(wall + dayMs).getUTCDate() === 1
  const byDate = fields.dom?.has(date.getUTCDate()) ?? isLast
  const byWeek = fields.dow.has(date.getUTCDay())
  return fields.either ? byDate || byWeek : byDate && byWeek
}

/** The policy, literally: an hour that follows fires at each minute shown; a fixed one for each that was not shown before. */
function played(pattern: string, walls: readonly number[], from: number): number[] {
  const fields = fieldsOf(pattern)
  const fired: number[] = []
  let newest = walls[0]! - minuteMs
  walls.forEach((wall, index) => {
    let fires = fields.follows && matches(fields, wall)
    if (!fields.follows) {
      for (let fresh = newest + minuteMs; fresh <= wall && !fires; fresh += minuteMs) fires = matches(fields, fresh)
    }
    newest = Math.max(newest, wall)
    if (fires) fired.push(from + index * minuteMs)
  })
  return fired
}

/** Zones whose clocks show the same in a window have the same ticks: the oracle plays them once. */
const known = new Map<string, number[]>()

function expectedTicks(pattern: string, walls: readonly number[], from: number): number[] {
  const jumps = walls.flatMap((wall, index) =>
    index > 0 && wall - walls[index - 1]! !== minuteMs ? [index, wall - walls[index - 1]!] : [],
  )
  const key = [pattern, from, walls[0], ...jumps].join()
  const found = known.get(key) ?? played(pattern, walls, from)
  known.set(key, found)
  return found
}

let windows = 0
let compared = 0

/** The ticks of `days` days from `day` on are those of the oracle, which plays from two days before. */
function compare(zone: string, day: number, days: number, chosen: readonly string[]): void {
  const [from, to] = [day * dayMs, (day + days) * dayMs]
  const walls = shownWalls(zone, from - 2 * dayMs, to)
  windows += 1
  for (const pattern of chosen) {
    const ticks = ticksBetween(parseCron(pattern, zone), from - 1, to - 1, Number.POSITIVE_INFINITY)
    const expected = expectedTicks(pattern, walls, from - 2 * dayMs).filter((tick) => tick >= from)
    compared += expected.length
    if (ticks.length === expected.length && ticks.every((tick, index) => tick === expected[index])) continue
    expect(ticks, `${pattern} in ${zone} around day ${new Date(from).toISOString()}`).toEqual(expected)
  }
}

const dayArbitrary = fc.integer({ min: Date.UTC(firstYear) / dayMs + 3, max: Date.UTC(lastYear + 1) / dayMs - 4 })

it('ticks of a sample of zones, days and transitions are those of the policy played minute by minute', () => {
  const cases = fc.record({
    zone: fc.constantFrom(...zones),
    day: dayArbitrary,
    pattern: fc.constantFrom(...patterns),
    nth: fc.nat(),
  })
  fc.assert(
    fc.property(cases, ({ zone, day, pattern, nth }) => {
      compare(zone, day, 1, [pattern])
      // In one zone of ten, a transition too: looking for them takes 20 ms.
      const days = nth % 10 === 0 ? transitionDays(zone) : []
      const transition = days[nth % Math.max(1, days.length)]
      if (transition !== undefined) compare(zone, transition - 1, 3, [pattern])
    }),
    { seed, numRuns: 60 },
  )
})

it.skipIf(!everything)(
  'ticks around every transition of every zone, and of random days, are too (SLUICE_SWEEP=all)',
  { timeout: 7_200_000 },
  () => {
    const began = performance.now()
    let transitions = 0
    const random = fc.sample(fc.array(dayArbitrary, { minLength: 6, maxLength: 6 }), { seed, numRuns: zones.length })
    zones.forEach((zone, index) => {
      const days = transitionDays(zone)
      transitions += days.length
      for (const day of days) compare(zone, day - 1, 3, patterns)
      for (const day of random[index]!) compare(zone, day, 1, patterns)
      // What is known is of windows of the same days: zones of a region come one after another.
      if (known.size > 200_000) known.clear()
    })
    const seconds = Math.round((performance.now() - began) / 1_000)
    console.log(
      `${zones.length} zones, ${transitions} transitions of ${firstYear}-${lastYear}, ${windows} windows, ${patterns.length} patterns, ${compared} ticks, 0 differences, seed ${seed}, ${seconds} s`,
    )
    expect(transitions).toBeGreaterThan(zones.length)
  },
)
