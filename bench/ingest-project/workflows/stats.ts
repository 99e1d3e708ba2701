import { http, stream, table, z } from 'sluice'

const count = z.int().min(0)
const text = z.string().min(1)

const raw = table('bench_ingest.raw', {
  schema: z.object({
    token: z.string(),
    customer: z.string(),
    content: z.string(),
    timespan: z.int(),
    p2p: z.int(),
    cdn: z.int(),
    session_duration: z.int(),
    received_at: z.date(),
  }),
})

export default stream('stats-events', {
  from: http('POST /stats', {
    schema: z.object({
      id: z.string().optional(),
      token: text,
      customer: text,
      content: text,
      timespan: count,
      p2p: count,
      cdn: count,
      sessionDuration: count,
    }),
    batch: 'POST /stats/batch',
    auth: 'open',
  }),
  id: (event) => event.id,
  row: (event, { receivedAt }) => ({
    token: event.token,
    customer: event.customer,
    content: event.content,
    timespan: event.timespan,
    p2p: event.p2p,
    cdn: event.cdn,
    session_duration: event.sessionDuration,
    received_at: receivedAt,
  }),
  to: raw,
})
