// A sensor looks again and again until it finds something. Between two looks it holds no runner, so that thousands may
// wait at once. Pure waits, such as `wait.for('2h')` and `wait.until(time)`, need no code at all.
import { action, sensor, wait, workflow, z } from 'sluice'

const exported = sensor('export-is-there', {
  input: z.object({ day: z.string() }),
  output: z.object({ file: z.string(), bytes: z.int() }),
  every: '5m',
  within: '6h',
  async check({ input, documents }) {
    const found = await documents<{ file: string; bytes: number }>('exports').get(input.day)
    return found && found.bytes > 0 ? found : undefined
  },
})
const load = action('load', {
  input: z.object({ file: z.string() }),
  output: z.string(),
  run: ({ input }) => `${input.file} is loaded`,
})

export const waits = workflow('waits', {
  params: z.object({ day: z.string() }),
  define({ params }) {
    const found = exported({ day: params.day })
    const settled = wait.for('15m', { after: found })
    return load({ file: found.file }, { after: settled })
  },
})
/** Stands for whoever exports. */
export const exports = workflow('exports', {
  params: z.object({ day: z.string(), bytes: z.int() }),
  define: ({ params }) => put({ day: params.day, bytes: params.bytes }),
})
const put = action('put', {
  input: z.object({ day: z.string(), bytes: z.int() }),
  run: ({ input, documents }) => documents('exports').put(input.day, { file: `${input.day}.csv`, bytes: input.bytes }),
})
