// A fan-out over a list that is known when the run gets there: one task for each item, up to `workers` at once, each
// with retries of its own. The results keep the order of the list, and whoever uses them waits for all.
import { action, workflow, z } from 'sluice'

const listShops = action('list-shops', {
  output: z.array(z.object({ name: z.string(), sales: z.array(z.number()) })),
  run: () => [
    { name: 'lyon', sales: [3, 4] },
    { name: 'porto', sales: [5] },
    { name: 'lima', sales: [] },
  ],
})

const total = action('total', {
  input: z.object({ shop: z.string(), sales: z.array(z.number()) }),
  output: z.object({ shop: z.string(), total: z.number() }),
  run: ({ input }) => ({ shop: input.shop, total: input.sales.reduce((sum, sale) => sum + sale, 0) }),
})

const best = action('best', {
  input: z.object({ totals: z.array(z.object({ shop: z.string(), total: z.number() })) }),
  output: z.string(),
  run: ({ input }) => input.totals.reduce((one, other) => (other.total > one.total ? other : one)).shop,
})

export const fanOut = workflow('fan-out', {
  workers: 2,
  define() {
    const totals = total.map(listShops(), (shop) => ({ shop: shop.name, sales: shop.sales }))
    return { totals, best: best({ totals }) }
  },
})
