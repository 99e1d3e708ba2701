// A body of several tasks for each item of a list, and in it a body for each item of another: every task waits for its
// own item only. Bodies see what is around them; what they return comes out as lists, in order.
import { action, each, workflow, z } from 'sluice'

const shops = action('shops', { output: z.array(z.string()), run: () => ['lyon', 'porto'] })
const days = action('days', {
  input: z.object({ shop: z.string() }),
  output: z.array(z.string()),
  run: ({ input }) => (input.shop === 'lyon' ? ['mon', 'tue'] : ['wed']),
})
const sales = action('sales', {
  input: z.object({ shop: z.string(), day: z.string(), rate: z.number() }),
  output: z.number(),
  run: ({ input }) => (input.shop.length + input.day.length) * input.rate,
})
const rate = action('rate', { output: z.number(), run: () => 2 })

export const nested = workflow('nested', {
  define() {
    const factor = rate()
    return each(shops(), (shop) => ({
      shop,
      sales: each(days({ shop }), (day) => sales({ shop, day, rate: factor })),
    }))
  },
})
