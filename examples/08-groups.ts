// Groups name tasks together: ids begin with the name of the group, and whoever is after a group is after all of it. A
// group is made by a function call, so that it can be written once and called for each table.
import { action, group, workflow, z } from 'sluice'

const extract = action('extract', {
  input: z.object({ table: z.string() }),
  output: z.string(),
  run: ({ input }) => `${input.table}.csv`,
})
const load = action('load', {
  input: z.object({ file: z.string() }),
  output: z.string(),
  run: ({ input }) => input.file,
})
const refresh = action('refresh', { output: z.string(), run: () => 'refreshed' })

const copy = (table: string) => group(table, () => load({ file: extract({ table }) }))

export const groups = workflow('groups', {
  define() {
    const dimensions = group('dimensions', () => {
      copy('customers')
      copy('shops')
    })
    const facts = group('facts', () => copy('orders'), { after: dimensions })
    return refresh({}, { after: facts })
  },
})
