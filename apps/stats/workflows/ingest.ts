/** What players report, `POST /stats` and `POST /stats/batch`, to `stats.stats_raw`. */
import { http, stream, table, z } from 'sluice'

const bytes = z.int().min(0)
const milliseconds = z.int().min(0)

/** Texts of up to 256 characters are keys of the sums; a token is hashed. */
export const statsEvent = z.object({
  id: z
    .union([z.string().min(1).max(200), z.int()])
    .optional()
    .meta({ description: 'Of the event: it is stored once, however often it comes' }),
  token: z
    .string()
    .min(1)
    .max(1_024)
    .meta({ description: 'Of the video session', example: 'c98arf53-ae39-4c9d-af44-c6957ee2f748' }),
  customer: z.string().min(1).max(256).meta({ example: 'Customer1' }),
  content: z.string().min(1).max(256).meta({ example: 'channel1' }),
  timespan: milliseconds.meta({ description: 'Milliseconds since the report before', example: 30_000 }),
  p2p: bytes.meta({ description: 'Bytes from peers since the report before', example: 560_065 }),
  cdn: bytes.meta({ description: 'Bytes from the CDN since the report before', example: 321_123 }),
  sessionDuration: milliseconds.meta({ description: 'Milliseconds since the session began', example: 120_000 }),
})

/** The transaction of a row and its lane are columns that the table fills itself. */
const statsRaw = table('stats.stats_raw', {
  schema: z.object({
    received_at: z.string(),
    token: z.string(),
    customer: z.string(),
    content: z.string(),
    timespan: z.int(),
    p2p: z.int(),
    cdn: z.int(),
    session_duration: z.int(),
  }),
  recordId: 'event_id',
})

export const statsEvents = stream('stats-events', {
  from: http('POST /stats', { schema: statsEvent, batch: 'POST /stats/batch', auth: 'open' }),
  id: ({ id }) => id,
  row: ({ token, customer, content, timespan, p2p, cdn, sessionDuration }, { receivedAt }) => ({
    received_at: receivedAt.toISOString(),
    ...{ token, customer, content, timespan, p2p, cdn },
    session_duration: sessionDuration,
  }),
  to: statsRaw,
})
