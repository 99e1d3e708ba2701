/** Pools and rates that a file declares, and what its tasks need of them. */
import { checkName } from '../../../sdk/name.ts'
import { type LimitOptions, type Pool, pool, type Rate, rate } from '../../../sdk/pool.ts'
import { readExpressions } from './expression.ts'
import { below } from './pointer.ts'
import { type Fields, type Reader, unknownName } from './reader.ts'

/** By name. */
export interface Declared {
  readonly pools: ReadonlyMap<string, Pool>
  readonly rates: ReadonlyMap<string, Rate>
}

/** What a task needs; what its key is about may be expressions. */
export type Limits = Omit<LimitOptions, 'key'> & { readonly key?: readonly [name: string, ...about: unknown[]] }

export const limitKeys = ['pool', 'slots', 'key', 'keyLimit', 'rate']

/** `pools: { warehouse: 3 }`, `rates: { api: { limit: 10, per: 1s, burst: 5 } }`. */
export function readDeclared(fields: Fields, reader: Reader): Declared {
  const pools = Object.entries(fields.pools === undefined ? {} : (reader.map(fields.pools, '/pools', 'pools') ?? {}))
  const rates = Object.entries(fields.rates === undefined ? {} : (reader.map(fields.rates, '/rates', 'rates') ?? {}))
  return {
    pools: new Map(pools.flatMap(([name, slots]) => named(name, readPool(name, slots, reader)))),
    rates: new Map(rates.flatMap(([name, pace]) => named(name, readRate(name, pace, reader)))),
  }
}

const named = <Limit>(name: string, limit: Limit | undefined): [string, Limit][] =>
  limit === undefined ? [] : [[name, limit]]

function readPool(name: string, value: unknown, reader: Reader): Pool | undefined {
  const at = below('/pools', name)
  const slots = reader.whole(value, at, `the slots of pool ${name}`, 0, 1_000_000)
  return slots === undefined ? undefined : reader.attempt(at, () => pool(name, slots))
}

function readRate(name: string, value: unknown, reader: Reader): Rate | undefined {
  const at = below('/rates', name)
  const what = `rate ${name}`
  const before = reader.count
  const given = reader.fields(value, at, what, ['limit', 'per', 'burst'])
  if (!given) return undefined
  const limit = reader.whole(given.limit, below(at, 'limit'), `limit of ${what}`, 1, 1_000_000)
  const per = reader.duration(given.per, below(at, 'per'), `per of ${what}`)
  const burst =
    given.burst === undefined
      ? undefined
      : reader.whole(given.burst, below(at, 'burst'), `burst of ${what}`, 1, 1_000_000)
  if (reader.count > before || limit === undefined || per === undefined) return undefined
  return reader.attempt(at, () => rate(name, { limit, per, ...(burst === undefined ? {} : { burst }) }))
}

export function readLimits(given: Fields, at: string, what: string, declared: Declared, reader: Reader): Limits {
  const { slots, keyLimit } = given
  const from = findIn(declared.pools, 'pool', given, at, what, reader)
  const pace = findIn(declared.rates, 'rate', given, at, what, reader)
  const key = given.key === undefined ? undefined : readKey(given.key, below(at, 'key'), what, reader)
  if (slots !== undefined && given.pool === undefined)
    reader.fault(below(at, 'slots'), `slots of ${what} need a pool`, 'key')
  else if (slots !== undefined && from !== undefined)
    reader.whole(slots, below(at, 'slots'), `slots of ${what}`, 1, Math.max(1, from.slots))
  if (keyLimit !== undefined && given.key === undefined)
    reader.fault(below(at, 'keyLimit'), `keyLimit of ${what} needs a key`, 'key')
  else if (keyLimit !== undefined) reader.whole(keyLimit, below(at, 'keyLimit'), `keyLimit of ${what}`, 1, 10_000)
  const all = { pool: from, slots, key, keyLimit, rate: pace }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

function findIn<Limit>(
  known: ReadonlyMap<string, Limit>,
  word: 'pool' | 'rate',
  given: Fields,
  at: string,
  what: string,
  reader: Reader,
): Limit | undefined {
  if (given[word] === undefined) return undefined
  const place = below(at, word)
  const name = reader.text(given[word], place, `${word} of ${what}`)
  if (name === undefined || known.has(name)) return name === undefined ? undefined : known.get(name)
  const example = word === 'pool' ? '3' : '{ limit: 10, per: 1s }'
  return reader.fault(place, () =>
    known.size === 0
      ? `the file declares no ${word}s; write ${word}s: { ${name}: ${example} } at its top`
      : unknownName(`the file declares no ${word}`, name, known.keys()),
  )
}

function readKey(value: unknown, at: string, what: string, reader: Reader): Limits['key'] {
  const list = reader.list(value, at, `key of ${what}`)
  if (list === undefined) return undefined
  const [name, ...about] = list
  if (about.length === 0)
    return reader.fault(at, `key of ${what} is a name and what it is about: [customer, "\${{ params.id }}"]`)
  const called = reader.text(name, below(at, 0), `the name of the key of ${what}`)
  if (called === undefined) return undefined
  reader.attempt(below(at, 0), () => checkName('key', called))
  const read = about.map((part, index) => {
    const place = below(at, index + 1)
    if (typeof part === 'object')
      reader.fault(place, `a part of the key of ${what} is a text, a number, true, false or a reference`)
    return readExpressions(part, place, reader)
  })
  return [called, ...read]
}
