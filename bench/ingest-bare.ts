/** The peer of the ingest benchmark, as a process: bare Fastify, one COPY for what arrived meanwhile, answered after its commit. */
import { type FastifyReply, fastify } from 'fastify'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'

interface Event {
  readonly token: string
  readonly customer: string
  readonly content: string
  readonly timespan: number
  readonly p2p: number
  readonly cdn: number
  readonly sessionDuration: number
}

const text = { type: 'string', minLength: 1 }
const count = { type: 'integer', minimum: 0 }
const event = {
  type: 'object',
  required: ['token', 'customer', 'content', 'timespan', 'p2p', 'cdn', 'sessionDuration'],
  properties: {
    token: text,
    customer: text,
    content: text,
    timespan: count,
    p2p: count,
    cdn: count,
    sessionDuration: count,
  },
}

const client = new pg.Client(process.argv[2]!)
await client.connect()
await client.query("set application_name = 'bare'")

let waiting: { readonly lines: string; readonly reply: FastifyReply }[] = []
let committing = false

const escaped = (value: string) => (/[\\\t\n\r]/.test(value) ? value.replace(/[\\\t\n\r]/g, '\\$&') : value)
const lineOf = (one: Event, at: string) =>
  `${escaped(one.token)}\t${escaped(one.customer)}\t${escaped(one.content)}\t${one.timespan}\t${one.p2p}\t${one.cdn}\t${one.sessionDuration}\t${at}\n`

function copy(lines: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = client.query(
      copyFrom(
        'COPY bench_ingest.bare (token, customer, content, timespan, p2p, cdn, session_duration, received_at) FROM STDIN',
      ),
    )
    stream.on('finish', resolve)
    stream.on('error', reject)
    stream.end(lines)
  })
}

async function commit(): Promise<void> {
  committing = true
  while (waiting.length > 0) {
    const group = waiting
    waiting = []
    await copy(group.map(({ lines }) => lines).join(''))
    for (const { reply } of group) reply.code(202).send({ status: 'stored' })
  }
  committing = false
}

function take(lines: string, reply: FastifyReply): void {
  waiting.push({ lines, reply })
  if (!committing) void commit()
}

const app = fastify({ bodyLimit: 1_048_576 })
app.post('/stats', { schema: { body: event } }, (request, reply) => {
  take(lineOf(request.body as Event, new Date().toISOString()), reply)
})
app.post('/stats/batch', { schema: { body: { type: 'array', items: event } } }, (request, reply) => {
  const at = new Date().toISOString()
  take((request.body as Event[]).map((one) => lineOf(one, at)).join(''), reply)
})
await app.listen({ port: 0, host: '127.0.0.1' })
const address = app.server.address() as { port: number }
process.stdout.write(`${JSON.stringify({ port: address.port })}\n`)
process.on('SIGTERM', () => process.exit(0))
