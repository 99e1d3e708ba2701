/**
 * What the clocks of a time zone show. A "wall" is what they show, as the milliseconds at which a clock in UTC would show
 * the same; so `wall = instant + offset`. Offsets come from the time zone data of the JavaScript engine.
 */
import { SluiceError } from '../errors.ts'
import { nearest } from './nearest.ts'

const dayMs = 86_400_000

/** No clock is or was further than this from UTC, in milliseconds (the widest were 15 h 57 min, until 1867). */
export const widestOffsetMs = 16 * 3_600_000

/** A time `start <= instant < end`, all of it in one UTC day, in which the offset stays the same. */
export interface Stretch {
  readonly start: number
  readonly end: number
  readonly offset: number
}

export interface LocalTime {
  /** The stretch that holds the instant. */
  stretchAt(instant: number): Stretch
}

const zones = new Map<string, LocalTime>()

/**
 * The clocks of an IANA time zone (`Europe/Paris`, `UTC`, in any case).
 * @throws SluiceError DEFINITION_INVALID when there is none of this name.
 */
export function localTime(zone: string): LocalTime {
  const known = zones.get(zone)
  if (known !== undefined) return known
  const made = zoneOf(formatterOf(zone))
  zones.set(zone, made)
  return made
}

function formatterOf(zone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' })
  } catch (cause) {
    const meant = meantZone(zone)
    const hint = meant === undefined ? 'write an IANA name such as Europe/Paris, or UTC' : `did you mean "${meant}"?`
    const message = `there is no time zone "${zone}"; ${hint}`
    throw new SluiceError('DEFINITION_INVALID', message[0]!.toUpperCase() + message.slice(1), {
      cause,
      faults: [{ where: 'zone', message }],
    })
  }
}

/** Zones are often called by their city alone, so a part of the name may be what was mistyped. */
function meantZone(zone: string): string | undefined {
  const names = ['UTC', ...Intl.supportedValuesOf('timeZone')]
  const cities = new Map(names.map((name) => [name.slice(name.lastIndexOf('/') + 1), name]))
  const spelled = zone.trim().replaceAll(' ', '_')
  const city = nearest(spelled, cities.keys())
  return nearest(spelled, names) ?? (city === undefined ? undefined : cities.get(city))
}

/** Days kept per zone: asking the engine costs 0.8 us, and finding a transition within its day 20 us. */
const keptDays = 2_048

/**
 * A day is asked for at both of its ends; where the offsets differ, the one transition between them is found by
 * bisection. No zone has two transitions in one UTC day.
 */
function zoneOf(formatter: Intl.DateTimeFormat): LocalTime {
  const days = new Map<number, readonly Stretch[]>()
  const stretchesOf = (day: number): readonly Stretch[] => {
    const start = day * dayMs
    const end = start + dayMs
    const before = offsetOf(formatter, start)
    const after = offsetOf(formatter, end)
    if (before === after) return [{ start, end, offset: before }]
    let [last, first] = [start, end]
    while (first - last > 1) {
      const middle = Math.floor((first + last) / 2)
      if (offsetOf(formatter, middle) === before) last = middle
      else first = middle
    }
    return [
      { start, end: first, offset: before },
      { start: first, end, offset: after },
    ]
  }
  return {
    stretchAt(instant) {
      const day = Math.floor(instant / dayMs)
      let stretches = days.get(day)
      if (stretches === undefined) {
        stretches = stretchesOf(day)
        if (days.size >= keptDays) days.clear()
        days.set(day, stretches)
      }
      return stretches.find((stretch) => instant < stretch.end)!
    },
  }
}

/** Reads `GMT+05:45` or `GMT-00:44:30` at the end of what the formatter writes. */
function offsetOf(formatter: Intl.DateTimeFormat, instant: number): number {
  const text = formatter.format(instant)
  const at = text.lastIndexOf('GMT')
  const sign = text[at + 3] === '-' ? -1 : 1
  const [hours, minutes, seconds = 0] = text
    .slice(at + 4)
    .split(':')
    .map(Number)
  return sign * (hours! * 3600 + minutes! * 60 + seconds) * 1000
}
