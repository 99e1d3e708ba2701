/** For the tests of topics in Kafka: orders are published by a run, billed by a stream, and each paid bill starts a run. */
import { action, documents, event, stream, topic, topicRecord, workflow, z } from 'sluice'

const order = z.object({ id: z.string(), cents: z.number() })
export const orders = topic('orders', { schema: order, key: ({ id }) => id, partitions: 2 })
const bill = z.object({ id: z.string(), euros: z.number() })
export const bills = topic('bills', { schema: bill, key: ({ id }) => id, partitions: 2 })

const enter = action('enter', {
  input: z.object({ count: z.number() }),
  async run({ input, publish }) {
    const all = Array.from({ length: input.count }, (_, n) => ({ id: `order-${n}`, cents: n * 100 }))
    return publish(orders, all)
  },
})
export const entry = workflow('entry', {
  params: z.object({ count: z.number() }),
  define: ({ params }) => enter({ count: params.count }),
})

export const billing = stream('billing', {
  from: orders,
  id: ({ id }) => id,
  steps: (records) => records.step(({ id, cents }) => ({ id, euros: cents / 100 })),
  to: bills,
})
export const filing = stream('filing', {
  from: bills,
  id: ({ id }) => id,
  steps: (records) => records.step((row) => row),
  to: documents('bills', { key: 'id' }),
})

const remember = action('remember', {
  input: z.object({ id: z.string() }),
  run: async ({ input, documents }) => documents('remembered').put(input.id, { id: input.id }),
})
export const reminder = workflow('reminder', {
  params: z.object({ id: z.string() }),
  plans: [topicRecord(bills, { match: { euros: 7 }, params: { id: event('record.id') } })],
  define: ({ params }) => remember({ id: params.id }),
})
