// Two ways to do nothing: a short circuit skips the tasks inside of it when its value is false; an action that throws
// `skip(why)` ends as skipped, and by the default rule so do the tasks behind it. Neither is a failure of the run.
import { action, shortCircuit, skip, workflow, z } from 'sluice'

const newRows = action('new-rows', {
  input: z.object({ count: z.int() }),
  output: z.array(z.int()),
  run({ input }) {
    if (input.count === 0) throw skip('nothing came today')
    return Array.from({ length: input.count }, (_, row) => row)
  },
})
const load = action('load', {
  input: z.object({ rows: z.array(z.int()) }),
  output: z.int(),
  run: ({ input }) => input.rows.length,
})
const mail = action('mail', {
  input: z.object({ rows: z.int() }),
  run: ({ input, log }) => log.info(`${input.rows} rows`),
})

export const skips = workflow('skips', {
  params: z.object({ count: z.int(), tell: z.boolean().default(true) }),
  define({ params }) {
    const loaded = load({ rows: newRows({ count: params.count }) })
    shortCircuit(params.tell, () => mail({ rows: loaded }))
  },
})
