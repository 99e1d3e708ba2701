// Limits hold over all workflows and machines: a pool of slots that tasks share, a key of which one attempt runs at once,
// a rate of starts. A task waits until all that it needs is free; `npx sluice why TASK` says for what, and for whom.
import { action, pool, rate, workflow, z } from 'sluice'

const warehouse = pool('warehouse', 3)
const mails = rate('mails', { limit: 2, per: '1m', burst: 1 })

const load = action('load', {
  input: z.object({ table: z.string() }),
  output: z.string(),
  run: ({ input }) => input.table,
})
const mail = action('mail', {
  input: z.object({ to: z.string() }),
  output: z.iso.datetime(),
  run: ({ now }) => now().toISOString(),
})

export const limits = workflow('limits', {
  params: z.object({ customer: z.string(), tables: z.array(z.string()) }),
  maxActiveRuns: 2,
  define({ params }) {
    const small = load.map(params.tables, (table) => ({ table }), {
      pool: warehouse,
      key: ['customer', params.customer],
    })
    const large = load({ table: 'everything' }, { id: 'large', pool: warehouse, slots: 3, priority: 5 })
    const mailed = mail.map(small, (to) => ({ to }), { rate: mails, after: large })
    return { loaded: small, mailed }
  },
})
