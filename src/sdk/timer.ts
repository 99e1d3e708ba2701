import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import type { Capabilities } from './context.ts'
import { checkName } from './name.ts'
import { type Schema, z } from './schema.ts'

/** What a stream from a timer receives: an item, and the tick of its schedule that the record is for, RFC 3339 in UTC. */
export interface TimerRecord<Item> {
  readonly item: Item
  readonly scheduledAt: string
}

export interface TimerOptions<Item, Input = Item> {
  /** Of an item, as JSON gives it back: dates are text, for example. */
  readonly schema: Schema<Item, Input>
  /**
   * All items that are active now; asked again every `refresh`, once per process. One that the schema does not take, whose id
   * came before, or whose `every` is no allowed interval is left out and reported. When it throws, the last list stands.
   */
  readonly items: (context: Capabilities) => Promise<readonly unknown[]> | readonly unknown[]
  /** Unique among the items: text of 1 to 1,000 bytes, or a number. It decides the shard of an item and when it is due. */
  readonly id: (item: Item) => string | number
  /** 1 s to 24 h. Each item is due once in its interval, at a point in it that its id decides. */
  readonly every: (item: Item) => Duration
  /** 1 s to 1 h; default `5s`. What is added, changed or taken out is effective with the next tick after. */
  readonly refresh?: Duration
  /** Parts that processes share: 1 to 256, default 16. It can grow later, never shrink. */
  readonly shards?: number
  /**
   * Items per process, 1 to 1,000,000: as many processes as are needed hold shards of the stream, and no more. Default: every
   * process holds some.
   */
  readonly perProducer?: number
}

/** A source of records at times: one for every tick of every item. */
export interface Timer<Record = unknown> {
  readonly kind: 'timer'
  readonly name: string
  /** Of its records. */
  readonly schema: Schema<Record>
  readonly itemSchema: Schema
  readonly items: (context: Capabilities) => Promise<readonly unknown[]> | readonly unknown[]
  readonly id: (item: unknown) => string | number
  readonly every: (item: unknown) => Duration
  readonly refreshMs: number
  readonly shards: number
  readonly perProducer: number | undefined
}

/** Of an item: the shortest and the longest interval. */
export const itemInterval = { fromMs: 1_000, toMs: 86_400_000 } as const

/** @throws SluiceError DEFINITION_INVALID */
export function timer<Item, Input = Item>(name: string, options: TimerOptions<Item, Input>): Timer<TimerRecord<Item>> {
  checkName('timer', name)
  const { schema, items, id, every, refresh = '5s', shards = 16, perProducer } = options
  if (typeof schema !== 'object' || schema === null || !('_zod' in schema)) throw wrong(name, 'schema', 'a zod schema')
  for (const [what, given] of Object.entries({ items, id, every }))
    if (typeof given !== 'function') throw wrong(name, what, 'a function')
  checkWhole(name, 'shards', shards, 256)
  if (perProducer !== undefined) checkWhole(name, 'perProducer', perProducer, 1_000_000)
  return {
    kind: 'timer',
    name,
    schema: z.object({ item: schema, scheduledAt: z.string() }) as unknown as Schema<TimerRecord<Item>>,
    itemSchema: schema as Schema,
    items,
    id: id as Timer['id'],
    every: every as Timer['every'],
    refreshMs: refreshOf(name, refresh),
    shards,
    perProducer,
  }
}

function refreshOf(name: string, refresh: Duration): number {
  const allowed = 'a duration from 1s to 1h'
  if (typeof refresh !== 'string') throw wrong(name, 'refresh', allowed, refresh)
  try {
    const ms = parseDuration(refresh)
    if (ms >= 1_000 && ms <= 3_600_000) return ms
  } catch {
    // Said below.
  }
  throw wrong(name, 'refresh', allowed, refresh)
}

function checkWhole(name: string, what: string, value: number, to: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= to) return
  throw wrong(name, what, `a whole number from 1 to ${to.toLocaleString('en')}`, value)
}

function wrong(name: string, what: string, allowed: string, given?: unknown): SluiceError {
  const found = given === undefined ? '' : `, not ${JSON.stringify(given)}`
  return new SluiceError('DEFINITION_INVALID', `${what} of the timer "${name}" must be ${allowed}${found}`)
}
