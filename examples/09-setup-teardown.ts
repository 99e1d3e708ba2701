// Something is set up before work and torn down after it, however the work ends, also when the run is cancelled. How
// the teardown ends does not change how the run ends.
import { action, using, workflow, z } from 'sluice'

const open = action('open-cluster', { output: z.object({ name: z.string() }), run: () => ({ name: 'cluster-7' }) })
const close = action('close-cluster', {
  input: z.object({ name: z.string() }),
  run: ({ input, log }) => log.info(`${input.name} is closed`),
})
const query = action('query', {
  input: z.object({ cluster: z.string(), sql: z.string() }),
  output: z.string(),
  run({ input }) {
    if (input.sql === '') throw new Error('there is nothing to ask')
    return `${input.cluster}: ${input.sql}`
  },
})

export const setup = workflow('setup', {
  params: z.object({ sql: z.string() }),
  define({ params }) {
    using(
      () => open(),
      ({ name }) => {
        query({ cluster: name, sql: 'select 1' }, { id: 'warm-up' })
        query({ cluster: name, sql: params.sql }, { id: 'ask' })
      },
      ({ name }) => close({ name }),
    )
  },
})
