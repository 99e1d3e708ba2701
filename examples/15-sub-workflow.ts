// A workflow runs another: `run` starts a run of it and waits for its end, `run.map` one for each item of a list. What
// the other's `define` returns is the result. The runs have pages, logs and retries of their own.
import { action, run, workflow, z } from 'sluice'

const copy = action('copy', {
  input: z.object({ table: z.string() }),
  output: z.int(),
  run: ({ input }) => input.table.length * 100,
})
const sum = action('sum', {
  input: z.object({ rows: z.array(z.object({ table: z.string(), rows: z.int() })) }),
  output: z.int(),
  run: ({ input }) => input.rows.reduce((all, { rows }) => all + rows, 0),
})

export const copyTable = workflow('copy-table', {
  params: z.object({ table: z.string() }),
  define: ({ params }) => ({ table: params.table, rows: copy({ table: params.table }) }),
})

export const copyAll = workflow('copy-all', {
  params: z.object({ tables: z.array(z.string()) }),
  define({ params }) {
    const first = run(copyTable, { table: 'settings' })
    const copied = run.map(copyTable, params.tables, (table) => ({ table }), { after: first })
    return { settings: first.rows, rows: sum({ rows: copied }) }
  },
})
