/** What limits how many attempts run at once, or how often they start, over all runs and engines. */
import { SluiceError } from '../errors.ts'
import { type Duration, parseDuration } from '../time.ts'
import { checkName } from './name.ts'
import { type Arg, type Pointer, type Ref, type Template, toTemplate } from './reference.ts'

/** So many slots, which attempts of any workflow share. */
export interface Pool {
  readonly kind: 'pool'
  readonly name: string
  readonly slots: number
}

/**
 * A pool of slots: `extract({ ... }, { pool: pool('warehouse', 3) })`. `sluice pools set` goes before what is said here.
 * @param slots 0 to 1,000,000; 0: closed, nothing starts.
 * @throws SluiceError DEFINITION_INVALID
 */
export function pool(name: string, slots: number): Pool {
  checkName('pool', name)
  return { kind: 'pool', name, slots: whole(`the slots of pool ${name}`, slots, 0, 1_000_000) }
}

export interface RateOptions {
  /** So many starts in each `per`; 1 to 1,000,000. */
  readonly limit: number
  readonly per: Duration
  /** Starts at once after a pause; 1 to 1,000,000. Default: what comes in a second, at least 1. */
  readonly burst?: number
}

/** How often attempts may start. In any time T at most `burst + limit * T / per` do. */
export interface Rate {
  readonly kind: 'rate'
  readonly name: string
  readonly limit: number
  readonly perMs: number
  readonly burst: number
}

/** @throws SluiceError DEFINITION_INVALID, USAGE for a duration that is none */
export function rate(name: string, { limit, per, burst }: RateOptions): Rate {
  checkName('rate', name)
  const perMs = parseDuration(per)
  whole(`the limit of rate ${name}`, limit, 1, 1_000_000)
  const fallback = Math.max(1, Math.ceil((limit * 1_000) / perMs))
  return {
    kind: 'rate',
    name,
    limit,
    perMs,
    burst: whole(`the burst of rate ${name}`, burst ?? fallback, 1, 1_000_000),
  }
}

/** A name, and what it is about: `['customer', params.id]`. */
export type Key = readonly [name: string, ...about: Arg<string | number | boolean>[]]

/** What an attempt needs to start. It waits until all of it is free, and holds it until it ends. */
export interface LimitOptions {
  readonly pool?: Pool
  /** Of the pool; 1 to its own number. Default 1. */
  readonly slots?: number
  /** Of all attempts of tasks with the same key, `keyLimit` run at once. */
  readonly key?: Key
  /** 1 to 10,000; default 1. */
  readonly keyLimit?: number
  readonly rate?: Rate
}

/** Of mapped tasks the key may be about the item: `(order) => ['customer', order.customer]`. */
export interface MappedKey<Item> {
  readonly key?: Key | ((item: Ref<Item>) => Key)
}

/** The limits of a task, in the manifest. */
export interface NodeLimits {
  readonly pool?: { readonly name: string; readonly of: number; readonly slots: number }
  readonly key?: { readonly name: string; readonly of: number; readonly parts: readonly Template[] }
  readonly rate?: { readonly name: string; readonly limit: number; readonly perMs: number; readonly burst: number }
}

/** @throws SluiceError DEFINITION_INVALID */
export function limitsOf(
  called: string,
  { inRunner, item }: { readonly inRunner: boolean; readonly item: unknown },
  options: Omit<LimitOptions, 'key'> & MappedKey<unknown>,
  see: (pointer: Pointer) => unknown,
): NodeLimits | undefined {
  const { pool: given, slots, key, keyLimit, rate: pace } = options
  const used = Object.entries({ pool: given, slots, key, keyLimit, rate: pace }).filter(
    ([, value]) => value !== undefined,
  )
  if (used.length === 0) return undefined
  if (!inRunner) throw invalid(`${called} needs no runner, so it takes no ${used.map(([name]) => name).join(', ')}`)
  if (slots !== undefined && given === undefined) throw invalid(`slots of ${called} need a pool`)
  if (keyLimit !== undefined && key === undefined) throw invalid(`keyLimit of ${called} needs a key`)
  return {
    ...(given === undefined ? {} : { pool: poolOf(called, given, slots) }),
    ...(key === undefined
      ? {}
      : { key: keyOf(called, typeof key === 'function' ? keyFor(called, key, item) : key, keyLimit, see) }),
    ...(pace === undefined ? {} : { rate: rateOf(called, pace) }),
  }
}

function poolOf(called: string, { kind, name, slots: of }: Pool, slots = 1): NonNullable<NodeLimits['pool']> {
  if (kind !== 'pool') throw invalid(`the pool of ${called} must be what pool(name, slots) gives`)
  whole(`slots of ${called}`, slots, 1, Math.max(1, of))
  return { name, of, slots }
}

function keyFor(called: string, key: (item: Ref<unknown>) => Key, item: unknown): Key {
  if (item === undefined) throw invalid(`the key of ${called} is a function, and there is no item: only map has one`)
  return key(item as Ref<unknown>)
}

function keyOf(
  called: string,
  key: Key,
  limit: number | undefined,
  see: (pointer: Pointer) => unknown,
): NonNullable<NodeLimits['key']> {
  if (!Array.isArray(key) || key.length < 2)
    throw invalid(`the key of ${called} must be a name and what it is about, such as ['customer', params.id]`)
  const [name, ...about] = key as [string, ...unknown[]]
  checkName('key', name)
  const parts = about.map((part, index) => toTemplate(part, see, `key[${index + 1}] of ${called}`))
  return { name, of: whole(`keyLimit of ${called}`, limit ?? 1, 1, 10_000), parts }
}

function rateOf(called: string, { kind, name, limit, perMs, burst }: Rate): NonNullable<NodeLimits['rate']> {
  if (kind !== 'rate') throw invalid(`the rate of ${called} must be what rate(name, { limit, per }) gives`)
  return { name, limit, perMs, burst }
}

function whole(what: string, value: number, from: number, to: number): number {
  if (Number.isInteger(value) && value >= from && value <= to) return value
  throw invalid(`${what} is ${JSON.stringify(value)}; allowed are whole numbers from ${from} to ${to}`)
}

function invalid(message: string): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message)
}
