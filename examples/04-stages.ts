// Stages, the plainest order of work: one after another, and what is inside of a stage in parallel. A stage starts when
// all of the stage before it has succeeded.
import { action, stage, workflow, z } from 'sluice'

const work = action('work', {
  input: z.object({ on: z.string() }),
  output: z.string(),
  run({ input, log }) {
    log.info(input.on)
    return `${input.on} done`
  },
})

export const stages = workflow('stages', {
  define() {
    stage('extract', () => {
      work({ on: 'orders' }, { id: 'orders' })
      work({ on: 'customers' }, { id: 'customers' })
    })
    stage('load', () => {
      work({ on: 'warehouse' }, { id: 'warehouse' })
    })
    stage('tell', () => {
      work({ on: 'mail' }, { id: 'mail' })
      work({ on: 'chat' }, { id: 'chat' })
    })
  },
})
