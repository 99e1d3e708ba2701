/** Batch work for the chaos command: several tasks, some of which fail at first, and steps that must happen once. */
import { setTimeout as delay } from 'node:timers/promises'
import { action, workflow, z } from 'sluice'

const numbers = action('numbers', {
  input: z.object({ n: z.number() }),
  run: ({ input }) => Array.from({ length: input.n }, (_, index) => index + 1),
})
const square = action('square', {
  input: z.object({ value: z.number() }),
  output: z.number(),
  async run({ input, signal }) {
    await delay(20 + 30 * (input.value % 5), undefined, { signal })
    return input.value ** 2
  },
})
const alone = action('square-alone', {
  input: z.object({ value: z.number() }),
  output: z.number(),
  isolation: 'process',
  run: ({ input }) => input.value ** 2,
})
const total = action('total', {
  input: z.object({ values: z.array(z.number()), last: z.number() }),
  output: z.object({ sum: z.number(), first: z.number() }),
  retry: { attempts: 3, base: '10ms' },
  async run({ input, attempt, step }) {
    // What the step gave the first time is what every attempt sees.
    const first = await step('which attempt', () => attempt.number)
    if (attempt.number === 1) throw new Error('the first attempt fails')
    return { sum: input.values.reduce((sum, value) => sum + value, input.last), first }
  },
})

export const sums = workflow('sums', {
  params: z.object({ n: z.number() }),
  workers: 4,
  define: ({ params }) => {
    const values = square.map(numbers({ n: params.n }), (value) => ({ value }))
    total({ values, last: alone({ value: params.n }) })
  },
})
