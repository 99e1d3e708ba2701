// Trigger rules: whether a task runs is judged by how the tasks that it waits for have ended. Without a rule all of them
// must have succeeded. `after` names tasks whose results are not used.
import { action, workflow, z } from 'sluice'

const load = action('load', {
  input: z.object({ table: z.string(), fails: z.boolean().default(false) }),
  run({ input }) {
    if (input.fails) throw new Error(`${input.table} is locked`)
  },
})
const note = action('note', { input: z.object({ text: z.string() }), run: ({ input, log }) => log.info(input.text) })

export const rules = workflow('rules', {
  params: z.object({ broken: z.boolean().default(false) }),
  define({ params }) {
    const orders = load({ table: 'orders' }, { id: 'orders' })
    const customers = load({ table: 'customers', fails: params.broken }, { id: 'customers' })
    const after = [orders, customers]
    note({ text: 'everything is there' }, { id: 'all-well', after })
    note({ text: 'something is missing' }, { id: 'alarm', after, rule: 'one_failed' })
    note({ text: 'at least a part is there' }, { id: 'partly', after, rule: 'one_success' })
    note({ text: 'whatever happened' }, { id: 'always-last', after, rule: 'all_done' })
  },
})
