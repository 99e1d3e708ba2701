import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nextTick, parseCron, ticksBetween } from './schedule.ts'

const minute = 60_000
const day = 1_440 * minute
const at = (text: string): number => Date.parse(text)
const texts = (ticks: number[]): string[] => ticks.map((tick) => new Date(tick).toISOString().slice(5, 16))

/** What a wall clock shows at each minute, read from the formatter's parts; kept per zone and day. */
const shown = new Map<string, number[]>()

function wallsOfDay(zone: string, start: number): number[] {
  const key = `${zone} ${start}`
  let walls = shown.get(key)
  if (walls === undefined) {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'gregory',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
    })
    walls = Array.from({ length: 1_440 }, (_, index) => {
      const [month, date, year, hour, minutes] = format
        .format(start + index * minute)
        .match(/\d+/g)!
        .map(Number)
      return Date.UTC(year!, month! - 1, date, hour, minutes)
    })
    shown.set(key, walls)
  }
  return walls
}

/** Whether one field's text admits the value, item by item. */
function admits(text: string, value: number, low: number): boolean {
  return text.split(',').some((item) => {
    const [range, step = '1'] = item.split('/')
    const [first, last = first] = range === '*' ? [String(low), '99'] : range!.split('-')
    return value >= Number(first) && value <= Number(last) && (value - Number(first)) % Number(step) === 0
  })
}

function matches(pattern: string, wall: number): boolean {
  const [minutes, hours, dom, month, dow] = pattern.split(' ') as [string, string, string, string, string]
  const date = new Date(wall)
  const isLast = new Date(wall + day).getUTCDate() === 1
  const byDay = dom === 'L' ? isLast : admits(dom, date.getUTCDate(), 1)
  const byWeek = admits(dow, date.getUTCDay(), 0)
  const dayFits = dom !== '*' && dow !== '*' ? byDay || byWeek : byDay && byWeek
  return (
    dayFits &&
    admits(minutes, date.getUTCMinutes(), 0) &&
    admits(hours, date.getUTCHours(), 0) &&
    admits(month, date.getUTCMonth() + 1, 1)
  )
}

/**
 * The policy played minute by minute from two days earlier: a fixed hour fires for each local minute that is new, those
 * that the clock jumped over at the minute it jumped to; a star fires for each minute shown.
 */
function played(pattern: string, zone: string, from: number, days: number): number[] {
  const follows = pattern.split(' ')[1]!.startsWith('*')
  const ticks: number[] = []
  let newest: number | undefined
  for (let start = from - 2 * day; start < from + days * day; start += day) {
    wallsOfDay(zone, start).forEach((wall, index) => {
      const instant = start + index * minute
      let fires = follows && matches(pattern, wall)
      for (let fresh = (newest ?? wall - minute) + minute; fresh <= wall; fresh += minute) {
        if (!follows && matches(pattern, fresh)) fires = true
      }
      newest = Math.max(newest ?? wall, wall)
      if (fires && instant >= from) ticks.push(instant)
    })
  }
  return ticks
}

const all = Number.POSITIVE_INFINITY

function expectAsPlayed(pattern: string, zone: string, from: number, days: number): void {
  const ticks = ticksBetween(parseCron(pattern, zone), from - 1, from + days * day - 1, all)
  expect(ticks, `${pattern} in ${zone} from ${new Date(from).toISOString()}`).toEqual(played(pattern, zone, from, days))
}

const patterns = [
  '* * * * *',
  '*/30 * * * *',
  '15 */2 * * *',
  '30 */3 * * 0',
  '*/20 2 * * *',
  '0 2 * * *',
  '30 0,1,2,3 * * *',
  '*/7 1-3 * * *',
  '0 0 * * *',
  '1 0 * * *',
  '59 23 * * *',
  '0 12 * * 5',
  '*/15 0-23 * * *',
  '0 9 30 12 *',
  '30 2 L * 0',
]

const changes: readonly (readonly [string, string])[] = [
  ['Europe/Paris', '2026-03-29'],
  ['Europe/Paris', '2026-10-25'],
  ['America/New_York', '2026-03-08'],
  ['America/New_York', '2026-11-01'],
  ['Australia/Lord_Howe', '2026-04-04'],
  ['Australia/Lord_Howe', '2026-10-03'],
  ['Africa/Casablanca', '2026-02-15'],
  ['Africa/Casablanca', '2026-03-22'],
  ['America/St_Johns', '2006-04-02'],
  ['America/St_Johns', '2006-10-29'],
  ['Asia/Kathmandu', '1985-12-31'],
  ['Pacific/Apia', '2011-12-30'],
  ['UTC', '2026-03-29'],
  ['America/Sao_Paulo', '2018-02-18'],
  ['America/Sao_Paulo', '2018-11-04'],
  ['Asia/Tehran', '2022-03-21'],
  ['Asia/Tehran', '2022-09-21'],
  ['Atlantic/Azores', '2026-03-29'],
  ['Atlantic/Azores', '2026-10-25'],
  ['Antarctica/Troll', '2026-03-29'],
  ['Antarctica/Troll', '2026-10-25'],
  ['Pacific/Kwajalein', '1993-08-21'],
  ['Asia/Pyongyang', '2015-08-14'],
]

describe('the ticks of three days around a change of clocks are those of the policy played minute by minute', () => {
  it.each(changes)('%s %s', (zone, date) => {
    for (const pattern of patterns) expectAsPlayed(pattern, zone, at(`${date}T00:00Z`) - day, 3)
  })
})

const values = (low: number, high: number) => {
  const value = fc.integer({ min: low, max: high })
  const range = fc.tuple(value, value).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`)
  const step = fc.integer({ min: 1, max: high })
  const item = fc.oneof(
    value.map(String),
    range,
    fc.tuple(range, step).map(([r, s]) => `${r}/${s}`),
  )
  return { item, list: fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => items.join(',')), step }
}
const star = (field: ReturnType<typeof values>) =>
  fc.oneof(
    fc.constant('*'),
    field.step.map((step) => `*/${step}`),
    field.list,
  )
const randomPatterns = fc
  .tuple(
    star(values(0, 59)),
    star(values(0, 23)),
    fc.constantFrom('*', '*', '1-15', 'L'),
    fc.constantFrom('*', '1-6'),
    star(values(0, 6)),
  )
  .map((fields) => fields.join(' '))
const zones = fc.constantFrom(...Intl.supportedValuesOf('timeZone'), 'UTC')
const days = fc.integer({ min: at('1973-01-03') / day, max: at('2037-12-01') / day })

describe('nextTick', () => {
  it('gives what the policy played minute by minute gives, for any pattern, zone and day', () => {
    fc.assert(
      fc.property(randomPatterns, zones, days, (pattern, zone, start) => expectAsPlayed(pattern, zone, start * day, 1)),
      { numRuns: 150 },
    )
    fc.assert(
      fc.property(randomPatterns, fc.constantFrom(...changes), (pattern, [zone, date]) =>
        expectAsPlayed(pattern, zone, at(`${date}T00:00Z`), 2),
      ),
      { numRuns: 150 },
    )
  })

  it('gives the same tick from anywhere between two ticks', () => {
    const window = fc.tuple(
      fc.constantFrom(...patterns.filter((pattern) => pattern.endsWith('* * *'))),
      fc.constantFrom(...changes),
      fc.nat(day),
    )
    fc.assert(
      fc.property(window, ([pattern, [zone, date], after]) => {
        const from = at(`${date}T00:00Z`)
        const expected = played(pattern, zone, from - day, 4).find((tick) => tick > from + after)
        expect(nextTick(parseCron(pattern, zone), from + after)).toBe(expected)
        expect(nextTick(parseCron(pattern, zone), from + after + 0.5)).toBe(expected)
      }),
    )
  })

  it('folds a gap into one tick at its end, and fires once in a repeated hour, the first time', () => {
    const paris = (pattern: string, date: string) =>
      texts(ticksBetween(parseCron(pattern, 'Europe/Paris'), at(`${date}T00:00Z`) - 1, at(`${date}T03:00Z`), all))
    expect(paris('*/20 2 * * *', '2026-03-29')).toEqual(['03-29T01:00'])
    expect(paris('0 2,3 * * *', '2026-03-29')).toEqual(['03-29T01:00'])
    expect(paris('*/20 2 * * *', '2026-10-25')).toEqual(['10-25T00:00', '10-25T00:20', '10-25T00:40'])
  })

  it('follows elapsed time through both where the hour is a star', () => {
    const paris = (date: string) =>
      texts(ticksBetween(parseCron('*/30 * * * *', 'Europe/Paris'), at(`${date}T00:30Z`), at(`${date}T02:00Z`), all))
    expect(paris('2026-03-29')).toEqual(['03-29T01:00', '03-29T01:30', '03-29T02:00'])
    expect(paris('2026-10-25')).toEqual(['10-25T01:00', '10-25T01:30', '10-25T02:00'])
  })

  it('gives a day that a zone left out to the day after', () => {
    const apia = (pattern: string) => nextTick(parseCron(pattern, 'Pacific/Apia'), at('2011-12-29T12:00Z'))
    expect(apia('0 9 30 12 *')).toBe(at('2011-12-30T10:00Z'))
    expect(apia('0 */3 30 12 *')).toBe(at('2012-12-29T10:00Z'))
  })

  it('counts from the start of a local minute where the offset has seconds', () => {
    const monrovia = parseCron('0 0 * * *', 'Africa/Monrovia')
    expect(nextTick(monrovia, 0)).toBe(at('1970-01-01T00:44:30Z'))
    // On 7 January 1972 the clocks went from 0:00:00 to 0:44:30.
    expect(
      texts(
        ticksBetween(
          parseCron('*/20 0 * * *', 'Africa/Monrovia'),
          at('1972-01-07T00:00Z'),
          at('1972-01-07T02:00Z'),
          all,
        ),
      ),
    ).toEqual(['01-07T00:44'])
    expect(nextTick(parseCron('*/20 * * * *', 'Africa/Monrovia'), at('1972-01-07T00:44:00Z'))).toBe(
      at('1972-01-07T01:00Z'),
    )
  })

  it('finds a far tick', () => {
    expect(nextTick(parseCron('30 2 29 2 *', 'America/New_York'), at('2096-03-01T00:00Z'))).toBe(
      at('2104-02-29T07:30Z'),
    )
    expect(nextTick(parseCron('30 */2 29 2 *', 'America/New_York'), at('2096-03-01T06:00Z'))).toBe(
      at('2104-02-29T05:30Z'),
    )
  })

  it('ends with the year 9999', () => {
    const yearly = ['0 0 1 1 *', '0 */23 1 1 *']
    for (const pattern of yearly) expect(nextTick(parseCron(pattern, 'UTC'), at('9999-01-02T00:00Z'))).toBeUndefined()
    const minutely = parseCron('* * * * *', 'UTC')
    expect(nextTick(minutely, Date.UTC(10_000) - minute - 1)).toBe(Date.UTC(10_000) - minute)
    for (const after of [Date.UTC(10_000) - minute, Date.UTC(10_000), Number.MAX_VALUE]) {
      expect(nextTick(minutely, after)).toBeUndefined()
      expect(ticksBetween(minutely, after, Number.MAX_VALUE, 5)).toEqual([])
    }
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Date.UTC(1900) - 1])(
    'refuses %s',
    (after) => {
      expect(() => nextTick(parseCron('* * * * *', 'UTC'), after)).toThrow(
        'is not a time in milliseconds since the year 1900',
      )
    },
  )
})

describe('ticksBetween', () => {
  it('leaves out its start, includes its end, and stops at its limit', () => {
    const hourly = parseCron('@hourly', 'UTC')
    const hour = 60 * minute
    expect(ticksBetween(hourly, 0, 3 * hour, all)).toEqual([hour, 2 * hour, 3 * hour])
    expect(ticksBetween(hourly, 0, 3 * hour - 1, all)).toEqual([hour, 2 * hour])
    expect(ticksBetween(hourly, 0, 3 * hour, 2)).toEqual([hour, 2 * hour])
    expect(ticksBetween(hourly, 0, 3 * hour, 0)).toEqual([])
  })
})

describe('parseCron', () => {
  it('gives plain data that works again after JSON', () => {
    const schedule = parseCron('*/20 2 * * 1L', 'Europe/Paris')
    expect(nextTick(JSON.parse(JSON.stringify(schedule)), 0)).toBe(nextTick(schedule, 0))
  })

  it('refuses what is no pattern and what is no zone', () => {
    expect(() => parseCron('0 0 30 2 *', 'UTC')).toThrow('would never fire')
    expect(() => parseCron('0 0 1 2 *', 'Europe/Pari')).toThrow('did you mean "Europe/Paris"?')
  })
})
