/** Workflows for the tests of limits. They wait for files, so that a test decides when what happens. */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, pool, rate, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })

/** Says `<name>.<attempt>.started` and goes on when `<name>.go` is there. */
const gate = action('gate', {
  input: place,
  async run({ input, attempt, signal }) {
    writeFileSync(`${input.dir}/${input.name}.${attempt.number}.started`, String(process.pid))
    while (!existsSync(`${input.dir}/${input.name}.go`)) await delay(5, undefined, { signal })
    return attempt.number
  },
})
const quick = action('quick', { input: z.object({ n: z.number() }), run: ({ input }) => input.n })
const alone = action('alone', { input: z.object({ n: z.number() }), isolation: 'process', run: ({ input }) => input.n })
const flaky = action('flaky', {
  retry: { attempts: 3, base: '1ms' },
  run({ attempt }) {
    if (attempt.number < 3) throw new Error(`not at ${attempt.number}`)
    return attempt.number
  },
})

const etl = pool('etl', 3)
const other = pool('other', 2)
const api = rate('api', { limit: 10, per: '1s', burst: 2 })

/** One task that holds slots of a pool until it is let go. */
export const holds = workflow('holds', {
  params: place,
  define: ({ params }) => gate({ dir: params.dir, name: params.name }, { pool: etl }),
})
export const holdsTwo = workflow('holds-two', {
  params: place,
  define: ({ params }) => gate({ dir: params.dir, name: params.name }, { pool: etl, slots: 2 }),
})
export const holdsKey = workflow('holds-key', {
  params: place.extend({ customer: z.string() }),
  define: ({ params }) =>
    gate({ dir: params.dir, name: params.name }, { key: ['customer', params.customer], id: 'keyed' }),
})

/** Many tasks over all sorts of limits. */
export const many = workflow('many', {
  params: z.object({ list: z.array(z.number()) }),
  workers: 5,
  define({ params }) {
    quick.map(params.list, (n) => ({ n }), { pool: etl, id: 'pooled' })
    quick.map(params.list, (n) => ({ n }), { pool: other, slots: 2, id: 'large' })
    quick.map(params.list, (n) => ({ n }), { key: (n) => ['digit', n], pool: etl, id: 'keyed' })
    alone.map([1, 2, 3], (n) => ({ n }), { pool: etl, id: 'alone' })
    flaky({}, { pool: other, key: ['flaky', 1] })
  },
})
export const paced = workflow('paced', {
  params: z.object({ list: z.array(z.number()) }),
  define: ({ params }) => quick.map(params.list, (n) => ({ n }), { rate: api, pool: etl }),
})
export const few = workflow('few', {
  params: place,
  maxActiveRuns: 2,
  define: ({ params }) => gate({ dir: params.dir, name: params.name }),
})
export const twoWorkers = workflow('two-workers', {
  params: place,
  workers: 2,
  define: ({ params }) => gate({ dir: params.dir, name: params.name }),
})
export const wide = workflow('wide', {
  params: z.object({ list: z.array(z.number()) }),
  define: ({ params }) => quick.map(params.list, (n) => ({ n }), { pool: etl }),
})
