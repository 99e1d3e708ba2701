/** A trivial stream: one record of ten reaches one of 1,000 documents, so that nothing but what was received grows. */
import { documents, stream, topic, z } from 'sluice'

const records = topic('records', { schema: z.object({ n: z.number() }) })

export default stream('records', {
  from: records,
  id: ({ n }) => n,
  key: ({ n }) => `lane-${n % 1_000}`,
  steps: (lines) =>
    lines.step(({ n }, { filter }) => {
      if (n % 10 !== 0) filter()
      return { id: `lane-${n % 1_000}`, n }
    }),
  to: documents('records', {
    key: 'id',
    merge: (document: { id: string; n: number }, record: { n: number }) => ({ ...document, n: record.n }),
  }),
})
