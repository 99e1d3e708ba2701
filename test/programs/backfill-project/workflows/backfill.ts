/** A workflow with a plan by the clock; its runs wait for files, so that a test decides when what happens. */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, cron, workflow, z } from 'sluice'

/** Says `<name>.<run>.begun` and goes on when `<name>.go` is there; at once without a folder. */
const gate = action('gate', {
  input: z.object({ dir: z.string(), name: z.string() }),
  async run({ input, run, signal }) {
    if (input.dir === '') return
    writeFileSync(`${input.dir}/${input.name}.${run.id}.begun`, '')
    while (!existsSync(`${input.dir}/${input.name}.go`)) await delay(5, undefined, { signal })
  },
})

export const yearly = workflow('yearly', {
  params: z.object({ dir: z.string().default(''), name: z.string().default('regular') }),
  plans: [cron('0 0 1 1 *', { name: 'new-year' })],
  define: ({ params }) => void gate({ dir: params.dir, name: params.name }),
})
