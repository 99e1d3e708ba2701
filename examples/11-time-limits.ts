// Three time limits: `timeout` of an action is that of one attempt, `within` that of a task over all its attempts and the
// waits between them, and `timeout` of a workflow that of a run. `signal` tells an attempt that its time is over.
import { setTimeout as delay } from 'node:timers/promises'
import { action, workflow, z } from 'sluice'

const slow = action('slow', {
  input: z.object({ ms: z.number() }),
  timeout: '200ms',
  retry: { attempts: 2, errors: { TIMEOUT: { attempts: 2, base: '1s' } } },
  run: ({ input, signal }) => delay(input.ms, 'done', { signal }),
})
const stubborn = action('stubborn', {
  within: '1h',
  retry: { attempts: 100, base: '10m', max: '10m' },
  run() {
    throw new Error('not yet')
  },
})

export const timeLimits = workflow('time-limits', {
  params: z.object({ ms: z.number().default(1) }),
  timeout: '2h',
  define({ params }) {
    slow({ ms: params.ms })
    stubborn({})
  },
})
