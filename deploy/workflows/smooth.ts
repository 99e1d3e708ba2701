// The first workflow of a new deployment: one action, a tag, no schedule. It starts by hand and shows that everything from
// the engine to the log works.
import { action, workflow, z } from 'sluice'

const smooth = action('smooth', {
  input: z.object({ values: z.array(z.number()), window: z.int() }),
  output: z.array(z.number()),
  run({ input, log }) {
    const half = Math.floor(input.window / 2)
    const smoothed = input.values.map((_, at) => {
      const around = input.values.slice(Math.max(0, at - half), at + half + 1)
      return around.reduce((sum, value) => sum + value, 0) / around.length
    })
    log.info(`smoothed ${input.values.length} values over windows of ${input.window}`, { smoothed })
    return smoothed
  },
})

export default workflow('smooth', {
  description: 'Smooths a series of numbers by a moving average.',
  tags: ['sample'],
  params: z.object({
    values: z.array(z.number()).max(10_000).default([3, 1, 4, 1, 5, 9, 2, 6]),
    window: z.int().min(1).max(999).default(3),
  }),
  define: ({ params }) => smooth({ values: params.values, window: params.window }),
})
