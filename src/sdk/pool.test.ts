import { describe, expect, it } from 'vitest'
import { action } from './action.ts'
import { pool, rate } from './pool.ts'
import { z } from './schema.ts'
import { run, wait } from './waits.ts'
import { graphOf, workflow } from './workflow.ts'

const load = action('load', { input: z.object({ n: z.number() }), run: () => null })
const etl = pool('etl', 3)
const params = z.object({ customer: z.string(), list: z.array(z.object({ id: z.number() })) })

const limitsIn = (define: (given: { params: never }) => unknown) =>
  graphOf(workflow('w', { params, define: define as never }) as never).nodes.map(({ limits }) => limits)

describe('limits of a call', () => {
  it('become those of its node, with references as templates', () => {
    const api = rate('api', { limit: 100, per: '1m' })
    const options = { pool: etl, slots: 2, key: ['customer', 'eu', 7], keyLimit: 3, rate: api } as const
    const [limits] = limitsIn(() => load({ n: 1 }, options))
    expect(limits).toEqual({
      pool: { name: 'etl', of: 3, slots: 2 },
      key: { name: 'customer', of: 3, parts: ['eu', 7] },
      rate: { name: 'api', limit: 100, perMs: 60_000, burst: 2 },
    })
  })

  it('have keys of parameters, and of the item where it is mapped', () => {
    const define = ({ params: given }: { params: { customer: string; list: { id: number }[] } }) => {
      load({ n: 1 }, { key: ['customer', given.customer] })
      load.map(given.list as never, () => ({ n: 1 }), { key: (item: { id: number }) => ['order', item.id] } as never)
    }
    const keys = limitsIn(define as never).map((limits) => limits?.key?.parts)
    expect(keys).toEqual([
      [{ $ref: { from: 'param', path: ['customer'] } }],
      [{ $ref: { from: 'item', path: ['id'] } }],
    ])
  })

  const wrong: readonly (readonly [string, () => unknown, string])[] = [
    ['a pool of no number', () => pool('etl', 1.5), 'the slots of pool etl is 1.5'],
    ['a pool below zero', () => pool('etl', -1), 'the slots of pool etl is -1'],
    ['a pool without a name', () => pool('E T L', 1), '"E T L" is not a name for a pool'],
    ['a rate of nothing', () => rate('api', { limit: 0, per: '1m' }), 'the limit of rate api is 0'],
    ['a rate in no time', () => rate('api', { limit: 1, per: '0s' }), '"0s" is not a duration'],
    ['a burst of nothing', () => rate('api', { limit: 1, per: '1s', burst: 0 }), 'the burst of rate api is 0'],
    [
      'more slots than the pool has',
      () => limitsIn(() => load({ n: 1 }, { pool: etl, slots: 4 })),
      'slots of action load is 4; allowed are whole numbers from 1 to 3',
    ],
    ['slots of no pool', () => limitsIn(() => load({ n: 1 }, { slots: 2 })), 'slots of action load need a pool'],
    [
      'a pool by its name',
      () => limitsIn(() => load({ n: 1 }, { pool: 'etl' as never })),
      'the pool of action load must be what pool(name, slots) gives',
    ],
    [
      'a key about nothing',
      () => limitsIn(() => load({ n: 1 }, { key: ['customer'] })),
      'the key of action load must be a name and what it is about',
    ],
    ['a limit of no key', () => limitsIn(() => load({ n: 1 }, { keyLimit: 2 })), 'keyLimit of action load needs a key'],
    [
      'a key limit of nothing',
      () => limitsIn(() => load({ n: 1 }, { key: ['c', 1], keyLimit: 0 })),
      'keyLimit of action load is 0',
    ],
    [
      'a key of an item where there is none',
      () => limitsIn(() => load({ n: 1 }, { key: (() => ['c', 1]) as never })),
      'only map has one',
    ],
    [
      'a rate by its name',
      () => limitsIn(() => load({ n: 1 }, { rate: 'api' as never })),
      'the rate of action load must be what rate(name',
    ],
    [
      'limits of what needs no runner',
      () => limitsIn(() => wait.for('1d', { pool: etl } as never)),
      'needs no runner, so it takes no pool',
    ],
    [
      'limits of a run',
      () => limitsIn(() => run(workflow('x', { define: () => load({ n: 1 }) }), {}, { pool: etl } as never)),
      'needs no runner, so it takes no pool',
    ],
  ]
  it.each(wrong)('refuse %s', (_, define, message) => {
    expect(define).toThrow(message)
  })
})
