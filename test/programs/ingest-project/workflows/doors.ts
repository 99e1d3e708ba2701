import { connection, endpoint, http, reply, stream, table, z } from 'sluice'

const warehouse = connection('warehouse', 'postgres')

const passages = table('doors.passages', {
  schema: z.object({ event: z.string(), door: z.string(), people: z.int(), received_at: z.date() }),
})

export const passed = stream('passed', {
  from: http('POST /doors', {
    schema: z.object({ id: z.string().optional(), door: z.string().min(1), people: z.int().min(0) }),
    batch: 'POST /doors/batch',
    auth: 'open',
  }),
  id: (event) => event.id,
  row: ({ door, people }, { id, receivedAt }) => ({ event: id, door, people, received_at: receivedAt }),
  to: passages,
})

/** What is stored, and the process that serves. */
export const seen = endpoint('GET /doors/seen', {
  summary: 'The events that are stored',
  auth: 'open',
  async handle({ connection }) {
    const rows = await connection(warehouse).query<{ event: string }>('select event from doors.passages order by seq')
    return reply(200, { pid: process.pid, events: rows.map(({ event }) => event) })
  },
})
