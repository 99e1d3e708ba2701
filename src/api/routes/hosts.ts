import { z } from '../../sdk/schema.ts'
import { type FetchHost, listHosts } from '../../store/fetch-hosts.ts'
import type { ApiContext } from '../context.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { pageOf, pageQuery, type Route, route } from '../route.ts'

const count = z.int()
const circuit = z.enum(['closed', 'open', 'half-open'])

const fetchHost = z.object({
  host: z.string().meta({ description: 'Name and port, as its Host header has them' }),
  connection: z.string(),
  node: z.uuid().meta({ description: 'The process that asks it' }),
  circuit: circuit.meta({
    description: 'open: it failed so often that nobody asks it; half-open: one asks whether it is back',
  }),
  inFlight: count,
  queued: count.meta({ description: 'Fetches that wait for their turn' }),
  requests: count.meta({ description: 'Fetches begun since the process knows the host' }),
  lastError: z.string().nullable().meta({ description: 'Of the latest failure since it last answered' }),
  retryAt: z.iso.datetime().nullable().meta({ description: 'Nobody asks it before' }),
})

const query = z.strictObject({
  ...pageQuery,
  circuit: circuit.optional().meta({ description: 'Only those whose circuit is so' }),
})

const place = z.tuple([z.string(), z.string(), z.string()])

export function hostRoutes(context: ApiContext): Route[] {
  return [
    route<unknown, { limit: number; cursor?: string; circuit?: FetchHost['circuit'] }>({
      method: 'GET',
      path: '/api/v1/hosts',
      tag: 'streams',
      summary: 'Hosts that are being asked, or left alone, by shard processes',
      description:
        'As each process said on its last beat, a third of a lease ago at most. Hosts at rest are left out, and of one process all but 200: those in trouble come first.',
      query: query as never,
      answers: { 200: { description: 'A page, by host', schema: pageOf(fetchHost, 'hosts') } },
      errors: ['INVALID_CURSOR'],
      async handle({ query: { limit, cursor, circuit = null } }) {
        const after = cursor === undefined ? (['', '', ''] as const) : decodeCursor('hosts', place, cursor)
        const found = await listHosts(context.db, {
          circuit,
          after: after as [string, string, string],
          limit: limit + 1,
        })
        const items = found.slice(0, limit)
        const last = items.at(-1)
        const more = found.length > limit && last !== undefined
        return { items, nextCursor: more ? encodeCursor('hosts', [last.host, last.connection, last.node]) : null }
      },
    }),
  ]
}
