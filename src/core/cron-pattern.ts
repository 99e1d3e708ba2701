/**
 * The five fields of a cron pattern and the local times they match; time zones are not its matter.
 *
 * | field        | values          | also                                                                        |
 * |--------------|-----------------|-----------------------------------------------------------------------------|
 * | minute       | 0-59            |                                                                             |
 * | hour         | 0-23            |                                                                             |
 * | day of month | 1-31            | `?` for any, `L` for the last day                                           |
 * | month        | 1-12 or JAN-DEC |                                                                             |
 * | day of week  | 0-7 or SUN-SAT  | `?` for any, 0 and 7 are Sunday, `5L` the last Friday, `5#2` the second one |
 *
 * Each takes a star for all, lists `1,15`, ranges `1-5`, and steps over a range `10-40/5` or over a star.
 * Where both days are restricted (neither is a star or `?`), a day matches that fits one of them, as in every cron.
 * Macros: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.
 */
import { type Fault, inOneLine, SluiceError } from '../errors.ts'

const minuteMs = 60_000
const dayMs = 86_400_000

export interface CronPattern {
  readonly text: string
  /** `minutes[m]`, `hours[h]`, `months[m]` (1-12) say whether the value matches. */
  readonly minutes: readonly boolean[]
  readonly hours: readonly boolean[]
  readonly months: readonly boolean[]
  /** `undefined` where any day does. */
  readonly monthDays: MonthDays | undefined
  readonly weekdays: Weekdays | undefined
  /** Whether the hour field is a star, with or without a step: such a pattern follows elapsed time (see schedule.ts). */
  readonly everyHour: boolean
}

interface MonthDays {
  readonly days: readonly boolean[]
  readonly last: boolean
}

interface Weekdays {
  readonly days: readonly boolean[]
  /** `last[5]`: the last Friday of the month. */
  readonly last: readonly boolean[]
  /** `nth[5]?.[2]`: the second Friday of the month. */
  readonly nth: readonly (readonly boolean[])[]
}

const macros: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
}

interface Field {
  readonly name: string
  readonly low: number
  readonly high: number
  /** Names of the values, from `low` on. */
  readonly names: readonly string[]
  readonly special: string
}

const fields = [
  { name: 'minute', low: 0, high: 59, names: [], special: '' },
  { name: 'hour', low: 0, high: 23, names: [], special: '' },
  { name: 'day of month', low: 1, high: 31, names: [], special: ', ? or L' },
  {
    name: 'month',
    low: 1,
    high: 12,
    names: ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'],
    special: '',
  },
  {
    name: 'day of week',
    low: 0,
    high: 7,
    names: ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'],
    special: ', ?, 5L or 5#2',
  },
] as const satisfies readonly Field[]

/**
 * @throws SluiceError DEFINITION_INVALID with one fault per field that cannot be read, or when no day ever matches.
 */
export function parsePattern(text: string): CronPattern {
  const trimmed = text.trim()
  const expanded = trimmed.startsWith('@') ? macros[trimmed.toLowerCase()] : trimmed
  if (expanded === undefined) {
    throw invalid(text, [
      { where: 'pattern', message: `there is no "${trimmed}"; ${Object.keys(macros).join(', ')} are` },
    ])
  }
  const texts = expanded.split(/\s+/)
  if (trimmed === '' || texts.length !== fields.length) {
    const count = trimmed === '' ? 0 : texts.length
    const message = `it has ${count} fields and needs 5: ${fields.map((field) => field.name).join(', ')}`
    throw invalid(text, [{ where: 'pattern', message }])
  }
  const faults: Fault[] = []
  const [minutes, hours, monthDays, months, weekdays] = fields.map((field, index) => {
    const read = readField(field, texts[index]!)
    if (typeof read === 'string') faults.push({ where: field.name, message: read })
    return typeof read === 'string' ? nothing(field) : read
  })
  if (faults.length > 0) throw invalid(text, faults)
  const pattern: CronPattern = {
    text,
    minutes: minutes!.values,
    hours: hours!.values,
    months: months!.values,
    monthDays: isAny(texts[2]!) ? undefined : { days: monthDays!.values, last: monthDays!.last.includes(true) },
    weekdays: isAny(texts[4]!) ? undefined : { ...weekdays!, days: weekdays!.values },
    everyHour: /^\*(\/\d+)?$/.test(texts[1]!),
  }
  // The calendar repeats after 400 years.
  if (nextWall(pattern, Date.UTC(2000, 0, 1), 2399) === undefined) {
    const message = `no month of "${texts[3]}" has a day "${texts[2]}", so it would never fire`
    throw invalid(text, [{ where: 'day of month', message }])
  }
  return pattern
}

function invalid(text: string, faults: readonly Fault[]): SluiceError {
  return new SluiceError('DEFINITION_INVALID', `The cron pattern "${text}" is not valid: ${inOneLine(faults)}`, {
    faults,
  })
}

const isAny = (text: string): boolean => text === '*' || text === '?'

interface FieldValues {
  readonly values: boolean[]
  readonly last: boolean[]
  readonly nth: boolean[][]
}

function nothing(field: Field): FieldValues {
  const values = Array.from({ length: field.high + 1 }, () => false)
  return { values, last: [...values], nth: values.map(() => []) }
}

/** The values of one field, or what is wrong with it. */
function readField(field: Field, text: string): FieldValues | string {
  const read = nothing(field)
  if (text === '?' && field.special.includes('?')) return read
  for (const item of text.split(',')) {
    const wrong = field.special !== '' && readDay(field, item, read) ? undefined : readItem(field, item, read)
    if (wrong !== undefined) return wrong
  }
  return read
}

/** Where a value is kept: 7 is Sunday, as 0 is. */
const slot = (field: Field, value: number): number => (field.high === 7 ? value % 7 : value)

/** Reads `L`, `5L` and `5#2`; false where the item is none of these. */
function readDay(field: Field, item: string, into: FieldValues): boolean {
  if (field.name === 'day of month') {
    if (item.toUpperCase() === 'L') into.last[0] = true
    return item.toUpperCase() === 'L'
  }
  const [, day = '', nth] = /^(\w+?)(?:l|L|#([1-5]))$/.exec(item) ?? []
  const value = readValue(field, day)
  if (value === undefined) return false
  if (nth === undefined) into.last[slot(field, value)] = true
  else into.nth[slot(field, value)]![Number(nth)] = true
  return true
}

/** Reads a star, a value or a range, with or without a step; gives what is wrong. */
function readItem(field: Field, item: string, into: FieldValues): string | undefined {
  const [, from, to, stepText] = /^([^-/]+)(?:-([^-/]+))?(?:\/(\d{1,2}))?$/.exec(item) ?? []
  if (from === undefined) return `"${item}" cannot be read; ${allowed(field)}`
  const whole = from === '*' && to === undefined
  const low = whole ? field.low : readValue(field, from)
  const high = whole ? field.high - Number(field.high === 7) : to === undefined ? low : readEnd(field, to, low)
  if (low === undefined || high === undefined) {
    return `"${low === undefined ? from : to}" is not one of its values; ${allowed(field)}`
  }
  if (low > high) return `the range "${item}" runs backwards; write it as two ranges`
  const step = stepText === undefined ? 1 : Number(stepText)
  if (step < 1 || step > field.high) return `the step of "${item}" must be from 1 to ${field.high}`
  if (stepText !== undefined && !whole && to === undefined) {
    return `the step of "${item}" has no range; write "${from}-${field.high}/${step}" or "*/${step}"`
  }
  for (let value = low; value <= high; value += step) into.values[slot(field, value)] = true
  return undefined
}

function readValue(field: Field, text: string): number | undefined {
  const named = field.names.indexOf(text.toUpperCase())
  if (named >= 0) return field.low + named
  const value = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN
  return value >= field.low && value <= field.high ? value : undefined
}

/** The end of a range; a week may end on Sunday (`FRI-SUN`). */
function readEnd(field: Field, text: string, low: number | undefined): number | undefined {
  const value = readValue(field, text)
  return value === 0 && field.high === 7 && low !== 0 ? 7 : value
}

function allowed(field: Field): string {
  const names = field.names.length === 0 ? '' : ` or ${field.names[0]}-${field.names.at(-1)}`
  return `allowed are ${field.low}-${field.high}${names}, *, lists (a,b), ranges (a-b), steps (*/n)${field.special}`
}

/**
 * The first matching local time at or after `wall` (milliseconds, see local-time.ts), on a whole minute; `undefined`
 * when there is none up to the end of `lastYear`.
 */
export function nextWall(pattern: CronPattern, wall: number, lastYear = 9_999): number | undefined {
  const from = Math.ceil(wall / minuteMs) * minuteMs
  let day = Math.floor(from / dayMs)
  let minute = (from - day * dayMs) / minuteMs
  for (;;) {
    const date = new Date(day * dayMs)
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()]
    if (!(year <= lastYear)) return undefined
    if (!pattern.months[month + 1]) {
      day = Date.UTC(year, month + 1, 1) / dayMs
      minute = 0
      continue
    }
    const found = dayMatches(pattern, date) ? nextMinute(pattern, minute) : undefined
    if (found !== undefined) return day * dayMs + found * minuteMs
    day += 1
    minute = 0
  }
}

function dayMatches({ monthDays, weekdays }: CronPattern, date: Date): boolean {
  const day = date.getUTCDate()
  const left = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate() - day
  const weekday = date.getUTCDay()
  const byMonth = monthDays?.days[day] || (monthDays?.last && left === 0)
  const byWeek =
    weekdays?.days[weekday] || (weekdays?.last[weekday] && left < 7) || weekdays?.nth[weekday]?.[Math.ceil(day / 7)]
  return (monthDays === undefined && weekdays === undefined) || Boolean(byMonth) || Boolean(byWeek)
}

/** The first matching minute of the day at or after this one. */
function nextMinute({ hours, minutes }: CronPattern, minute: number): number | undefined {
  for (let hour = Math.floor(minute / 60), first = minute % 60; hour < 24; hour += 1, first = 0) {
    const found = hours[hour] ? minutes.indexOf(true, first) : -1
    if (found >= 0) return hour * 60 + found
  }
  return undefined
}
