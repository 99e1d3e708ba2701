/** For the tests of streams on Kafka that are killed: documents by key that show what is lost, doubled, or out of order. */
import { setTimeout as delay } from 'node:timers/promises'
import { action, documents, stream, topic, workflow, z } from 'sluice'

/** Of each key the numbers ascend; a record may take its time. */
const line = z.object({ key: z.string(), n: z.number(), ms: z.number().default(0) })
type Line = z.infer<typeof line>
export const lines = topic('lines', { schema: line, key: ({ key }) => key, partitions: 2 })

interface Account {
  readonly key: string
  readonly lines: readonly number[]
}

export const accounts = stream('accounts', {
  from: lines,
  id: ({ key, n }) => `${key}/${n}`,
  key: ({ key }) => key,
  steps: (records) =>
    records.step(async ({ key, n, ms }: Line): Promise<Account> => {
      if (ms > 0) await delay(ms)
      return { key, lines: [n] }
    }),
  to: documents('accounts', {
    key: 'key',
    merge: (document: Account, record: Line): Account => ({ ...document, lines: [...document.lines, record.n] }),
  }),
})

const post = action('post', {
  input: z.object({ keys: z.number(), count: z.number(), from: z.number() }),
  async run({ input: { keys, count, from }, publish }) {
    const all = Array.from({ length: count }, (_, n) => ({ key: `key-${(from + n) % keys}`, n: from + n, ms: 0 }))
    return publish(lines, all)
  },
})
export const posting = workflow('posting', {
  params: z.object({ keys: z.number(), count: z.number(), from: z.number().default(0) }),
  define: ({ params }) => post({ keys: params.keys, count: params.count, from: params.from }),
})
