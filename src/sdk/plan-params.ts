/**
 * What a plan gives its runs as parameters: JSON with fields of the tick or the event inside, such as
 * `{ day: tick.date, region: 'eu' }` or `{ branch: event('body.ref') }`. In the manifest a field is `{ "$tick": "date" }` or
 * `{ "$event": ["body", "ref"] }`, and an object of the author's with a key that starts with `$` is `{ "$literal": ... }`.
 */
import { SluiceError } from '../errors.ts'

declare const ofTick: unique symbol

/** A text that is known when the plan fires. */
export interface TickField {
  readonly [ofTick]: string
}

/** The JSON of a plan's parameters, with fields of the tick or event. */
export type PlanParams = Readonly<Record<string, unknown>>

/** As the manifest holds it. */
export type PlanTemplate =
  | null
  | boolean
  | number
  | string
  | readonly PlanTemplate[]
  | { readonly [key: string]: unknown }

/** What there is to know of a tick of `cron` and `every`. */
export const tickFields = ['time', 'date', 'start', 'startDate', 'end'] as const

export type TickFieldName = (typeof tickFields)[number]

const fieldOf = (name: TickFieldName): TickField => Object.freeze({ $tick: name }) as unknown as TickField

/**
 * The tick that starts a run, for the parameters of `cron` and `every`. Its data interval is the time since the tick before
 * it: `start <= t < end`, and `end` is the tick itself.
 */
export const tick: { readonly [Name in TickFieldName]: TickField } = {
  /** When it was due, however late it fires: RFC 3339 in UTC, `2026-03-29T00:00:00.000Z`. */
  time: fieldOf('time'),
  /** The day that the clocks of the plan's zone show at `time`: `2026-03-29`. */
  date: fieldOf('date'),
  /** The tick before: RFC 3339 in UTC. */
  start: fieldOf('start'),
  /** The day that the clocks of the plan's zone show at `start`: for a daily plan, the day that is over. */
  startDate: fieldOf('startDate'),
  /** The same as `time`. */
  end: fieldOf('end'),
}

declare const ofEvent: unique symbol

/** A value that is known when the event comes. */
export interface EventField {
  readonly [ofEvent]: unknown
}

/**
 * A field of the event that starts a run, for the parameters of the other plans: `event('body.ref')`, or
 * `event(['body', 'ref'])` where names have dots.
 *
 * | plan           | fields                                                              | without `params` a run gets |
 * |----------------|---------------------------------------------------------------------|-----------------------------|
 * | fileArrival    | `file`                                                              | `{ file }`                  |
 * | webhook        | `body` (and any field in it), `delivery`, `time`                    | the body                    |
 * | topicRecord    | `record` (and any field in it), `id`, `key`, `partition`, `offset`  | the record                  |
 * | ... in batches | `records`, `count`                                                  | `{ records }`               |
 * | datasetWritten | `dataset`, `version`, `datasets` (versions by name)                 | nothing                     |
 */
export function event(path: string | readonly string[]): EventField {
  return Object.freeze({ $event: typeof path === 'string' ? path.split('.') : [...path] }) as unknown as EventField
}

/** @throws SluiceError DEFINITION_INVALID for what JSON cannot hold. */
export function planTemplate(value: unknown, where = 'params', depth = 0): PlanTemplate {
  if (depth > 64) throw invalid(`${where} is nested deeper than 64 levels, or contains itself`)
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (Array.isArray(value)) return value.map((item, index) => planTemplate(item, `${where}[${index}]`, depth + 1))
  if (typeof value === 'object') {
    if (isField(value)) return { ...value }
    if (Object.getPrototypeOf(value) === Object.prototype) return objectTemplate(value, where, depth)
  }
  const what = typeof value === 'object' ? `a ${value?.constructor?.name ?? 'object'}` : typeof value
  throw invalid(`${where} is ${what}; JSON values, and fields of tick or event, can be given`)
}

/** An object that an author wrote is not frozen, or has keys besides. */
function isField(value: object): boolean {
  const [key, ...rest] = Object.keys(value)
  return rest.length === 0 && Object.isFrozen(value) && (key === '$tick' || key === '$event')
}

function objectTemplate(value: object, where: string, depth: number): PlanTemplate {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined)
  const fields = entries.map(([key, field]) => [key, planTemplate(field, `${where}.${key}`, depth + 1)] as const)
  const object = Object.fromEntries(fields)
  return entries.some(([key]) => key.startsWith('$')) ? { $literal: object } : object
}

function invalid(message: string): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message)
}
