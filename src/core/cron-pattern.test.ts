import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import { nextWall, parsePattern } from './cron-pattern.ts'

function caught(text: string): SluiceError {
  try {
    parsePattern(text)
  } catch (error) {
    if (error instanceof SluiceError) return error
  }
  throw new Error(`"${text}" was accepted`)
}

/** The matching local times from a day on, as text. */
function walls(text: string, from: string, count: number): string[] {
  const pattern = parsePattern(text)
  const found: string[] = []
  let wall = Date.parse(`${from}T00:00:00Z`)
  while (found.length < count) {
    wall = nextWall(pattern, wall)!
    found.push(new Date(wall).toISOString().slice(0, 16))
    wall += 1
  }
  return found
}

/** The same pattern with every value written out. */
function plain(text: string): unknown {
  return { ...parsePattern(text), text: '', everyHour: false }
}

describe('parsePattern', () => {
  it.each([
    ['*/15 * * * *', '0,15,30,45 * * * *'],
    ['10-40/15 * * * *', '10,25,40 * * * *'],
    ['5-7,1,50-59/9 * * * *', '1,5,6,7,50,59 * * * *'],
    ['0 */6 * * *', '0 0,6,12,18 * * *'],
    ['0 0 * jan,MAR-May *', '0 0 * 1,3,4,5 *'],
    ['0 0 * */5 *', '0 0 * 1,6,11 *'],
    ['0 0 * * FRI-SUN', '0 0 * * 0,5,6'],
    ['0 0 * * 5-7', '0 0 * * 0,5,6'],
    ['0 0 * * SUN-TUE', '0 0 * * 0,1,2'],
    ['0 0 * * 7', '0 0 * * sun'],
    ['0 0 * * SUN-SUN', '0 0 * * 0'],
    ['0 0 * * 7L,7#2', '0 0 * * 0l,SUN#2'],
    ['0 0 ? * 1', '0 0 * * 1'],
    ['0 0 1 * ?', '0 0 1 * *'],
    ['0 0 ? * ?', '0 0 * * *'],
    ['0 0 * * */2', '0 0 * * 0,2,4,6'],
    ['  0   0 *\t* * ', '0 0 * * *'],
    ['@hourly', '0 * * * *'],
    ['@Daily', '0 0 * * *'],
    ['@midnight', '0 0 * * *'],
    ['@weekly', '0 0 * * 0'],
    ['@monthly', '0 0 1 * *'],
    ['@yearly', '0 0 1 1 *'],
    ['@annually', '0 0 1 1 *'],
  ])('reads %s as %s', (given, same) => {
    expect(plain(given)).toEqual(plain(same))
  })

  it.each([
    ['* * * * *', true],
    ['0 */2 * * *', true],
    ['@hourly', true],
    ['0 0-23 * * *', false],
    ['0 0-23/2 * * *', false],
    ['0 1,*/2 * * *', false],
    ['* 2 * * *', false],
  ])('knows whether the hour of %s follows elapsed time: %s', (text, everyHour) => {
    expect(parsePattern(text).everyHour).toBe(everyHour)
  })

  it.each([
    [
      '60 * * * *',
      'minute',
      '"60" is not one of its values; allowed are 0-59, *, lists (a,b), ranges (a-b), steps (*/n)',
    ],
    ['x * * * *', 'minute', '"x" is not one of its values'],
    ['1.5 * * * *', 'minute', '"1.5" is not one of its values'],
    ['-1 * * * *', 'minute', '"-1" cannot be read'],
    ['1, * * * *', 'minute', '"" cannot be read'],
    ['1-2-3 * * * *', 'minute', '"1-2-3" cannot be read'],
    ['*-5 * * * *', 'minute', '"*" is not one of its values'],
    ['1-60 * * * *', 'minute', '"60" is not one of its values'],
    ['*/0 * * * *', 'minute', 'the step of "*/0" must be from 1 to 59'],
    ['*/60 * * * *', 'minute', 'the step of "*/60" must be from 1 to 59'],
    ['*/x * * * *', 'minute', '"*/x" cannot be read'],
    ['5/15 * * * *', 'minute', 'the step of "5/15" has no range; write "5-59/15" or "*/15"'],
    ['? * * * *', 'minute', '"?" is not one of its values'],
    ['L * * * *', 'minute', '"L" is not one of its values'],
    ['0 24 * * *', 'hour', '"24" is not one of its values; allowed are 0-23,'],
    ['0 22-2 * * *', 'hour', 'the range "22-2" runs backwards; write it as two ranges'],
    [
      '0 0 0 * *',
      'day of month',
      '"0" is not one of its values; allowed are 1-31, *, lists (a,b), ranges (a-b), steps (*/n), ? or L',
    ],
    ['0 0 32 * *', 'day of month', '"32" is not one of its values'],
    ['0 0 5L * *', 'day of month', '"5L" is not one of its values'],
    ['0 0 * 13 *', 'month', '"13" is not one of its values; allowed are 1-12 or JAN-DEC,'],
    ['0 0 * MON *', 'month', '"MON" is not one of its values'],
    ['0 0 * 0-3 *', 'month', '"0" is not one of its values'],
    ['0 0 * * 8', 'day of week', 'allowed are 0-7 or SUN-SAT, *, lists (a,b), ranges (a-b), steps (*/n), ?, 5L or 5#2'],
    ['0 0 * * L', 'day of week', '"L" is not one of its values'],
    ['0 0 * * 5#6', 'day of week', '"5#6" is not one of its values'],
    ['0 0 * * 8L', 'day of week', '"8L" is not one of its values'],
    ['0 0 * * 0-7/8', 'day of week', 'the step of "0-7/8" must be from 1 to 7'],
    ['0 0 30 2 *', 'day of month', 'no month of "2" has a day "30", so it would never fire'],
    ['0 0 31 feb,4,6,9,11 ?', 'day of month', 'would never fire'],
    ['', 'pattern', 'it has 0 fields and needs 5: minute, hour, day of month, month, day of week'],
    ['0 0 * * * *', 'pattern', 'it has 6 fields and needs 5'],
    [
      '@reboot',
      'pattern',
      'there is no "@reboot"; @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually are',
    ],
  ])('refuses %s: %s', (text, where, message) => {
    const thrown = caught(text)
    expect(thrown.code).toBe('DEFINITION_INVALID')
    expect(thrown.faults).toEqual([{ where, message: expect.stringContaining(message) }])
    expect(thrown.message).toContain(`The cron pattern "${text}" is not valid: ${where}: `)
  })

  it('tells all fields that are wrong at once', () => {
    expect(caught('60 24 0 13 8').faults.map((fault) => fault.where)).toEqual([
      'minute',
      'hour',
      'day of month',
      'month',
      'day of week',
    ])
  })
})

describe('nextWall', () => {
  it.each([
    ['0 0 L * *', '2027-12-15', ['2027-12-31T00:00', '2028-01-31T00:00', '2028-02-29T00:00', '2028-03-31T00:00']],
    ['0 0 15,L * *', '2027-02-01', ['2027-02-15T00:00', '2027-02-28T00:00', '2027-03-15T00:00']],
    ['0 0 * * 5L', '2026-01-01', ['2026-01-30T00:00', '2026-02-27T00:00', '2026-03-27T00:00']],
    ['0 0 * * 1#2,2#5', '2026-01-01', ['2026-01-12T00:00', '2026-02-09T00:00', '2026-03-09T00:00', '2026-03-31T00:00']],
    ['0 0 13 * 5', '2026-02-01', ['2026-02-06T00:00', '2026-02-13T00:00', '2026-02-20T00:00']],
    ['0 0 30 2 1', '2026-01-01', ['2026-02-02T00:00', '2026-02-09T00:00', '2026-02-16T00:00']],
    ['30 6 29 2 *', '2094-01-01', ['2096-02-29T06:30', '2104-02-29T06:30']],
    ['0 0 ? 2 4#5', '2024-03-01', ['2052-02-29T00:00', '2080-02-29T00:00', '2120-02-29T00:00']],
    ['59 23 31 12 *', '2026-01-01', ['2026-12-31T23:59', '2027-12-31T23:59']],
  ])('finds what %s matches from %s on', (text, from, expected) => {
    expect(walls(text, from, expected.length)).toEqual(expected)
  })

  it('includes the time itself, and goes to the next whole minute', () => {
    const pattern = parsePattern('* * * * *')
    expect(nextWall(pattern, 120_000)).toBe(120_000)
    expect(nextWall(pattern, 120_001)).toBe(180_000)
    expect(nextWall(parsePattern('5 7 * * *'), Date.UTC(2026, 0, 1, 6, 30))).toBe(Date.UTC(2026, 0, 1, 7, 5))
  })

  it('ends with the last year', () => {
    const pattern = parsePattern('0 0 1 1 *')
    expect(nextWall(pattern, Date.UTC(2030, 0, 1), 2030)).toBe(Date.UTC(2030, 0, 1))
    expect(nextWall(pattern, Date.UTC(2030, 0, 1) + 1, 2030)).toBeUndefined()
    expect(nextWall(pattern, Date.UTC(9999, 0, 2))).toBeUndefined()
  })

  it('leaves nothing out: each matching day of three years, by another count of days', () => {
    const days = fc.record({
      dom: fc.constantFrom('*', '1', '28-31', 'L', '*/9', '?'),
      month: fc.constantFrom('*', '2', '1-6', '*/3', 'APR,DEC'),
      dow: fc.constantFrom('*', '1-5', '0', '6L', '3#1', '4#5', '?'),
      year: fc.integer({ min: 1970, max: 2100 }),
    })
    fc.assert(
      fc.property(days, ({ dom, month, dow, year }) => {
        const expected: string[] = []
        for (let day = Date.UTC(year); day < Date.UTC(year + 3); day += 86_400_000) {
          const date = new Date(day)
          if (monthFits(month, date) && dayFits(dom, dow, date))
            expected.push(`${date.toISOString().slice(0, 10)}T07:05`)
        }
        expect(walls(`5 7 ${dom} ${month} ${dow}`, `${year}-01-01`, expected.length)).toEqual(expected)
      }),
      { numRuns: 60 },
    )
  })
})

function monthFits(text: string, date: Date): boolean {
  const month = date.getUTCMonth() + 1
  const fits: Record<string, boolean> = {
    '*': true,
    '2': month === 2,
    '1-6': month <= 6,
    '*/3': month % 3 === 1,
    'APR,DEC': month === 4 || month === 12,
  }
  return fits[text]!
}

function dayFits(dom: string, dow: string, date: Date): boolean {
  const day = date.getUTCDate()
  const weekday = date.getUTCDay()
  const inDays = (days: number) => new Date(date.getTime() + days * 86_400_000)
  const isLast = inDays(1).getUTCDate() === 1
  const byDay = { '1': day === 1, '28-31': day >= 28, L: isLast, '*/9': [1, 10, 19, 28].includes(day) }[dom]
  const byWeek = {
    '1-5': weekday !== 0 && weekday !== 6,
    '0': weekday === 0,
    '6L': weekday === 6 && inDays(7).getUTCMonth() !== date.getUTCMonth(),
    '3#1': weekday === 3 && inDays(-7).getUTCMonth() !== date.getUTCMonth(),
    '4#5': weekday === 4 && inDays(-28).getUTCMonth() === date.getUTCMonth(),
  }[dow]
  if (byDay === undefined && byWeek === undefined) return true
  return byDay === true || byWeek === true
}
