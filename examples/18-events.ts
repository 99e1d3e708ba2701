// Plans by events, one leading to the next: a file arrives, its lines are published to a topic, each paid one starts a run that
// writes a dataset, and the dataset starts the last. A signed webhook starts the same as a line does.
import {
  action,
  dataset,
  datasetWritten,
  event,
  fileArrival,
  secret,
  topic,
  topicRecord,
  webhook,
  workflow,
  z,
} from 'sluice'

export const orders = topic('orders', {
  schema: z.object({ id: z.string(), paid: z.boolean() }),
  key: (order) => order.id,
})
const sales = dataset('mart.sales', { doc: 'One version for each paid order.' })

const publishLines = action('publish-lines', {
  input: z.object({ file: z.string() }),
  output: z.object({ published: z.int(), known: z.int() }),
  async run({ input, objects, publish }) {
    const { sha256 } = await objects.putFile(input.file)
    const lines = (await objects.read(sha256)).toString().trim().split('\n')
    return publish(
      orders,
      lines.map((line) => ({ id: line.slice(1), paid: line.startsWith('+') })),
    )
  },
})
const record = action('record', {
  input: z.object({ id: z.string() }),
  run: ({ dataset: open, input }) => open(sales).write({ rows: 1, metadata: { order: input.id } }),
})
const report = action('report', { run: async ({ dataset: open }) => (await open(sales).read())?.version })

export const intake = workflow('intake', {
  params: z.object({ file: z.string() }),
  plans: [fileArrival('in/*.txt')],
  define: ({ params }) => publishLines({ file: params.file }),
})
export const paid = workflow('paid', {
  params: z.object({ id: z.string() }),
  plans: [
    topicRecord(orders, { match: { paid: true }, params: { id: event('record.id') } }),
    webhook('paid', { secret: secret('shop') }),
  ],
  define: ({ params }) => record({ id: params.id }),
})
export const daily = workflow('report-sales', { plans: [datasetWritten(sales)], define: () => report() })
