/**
 * Keep-alive load on one path, from a process of its own: `node ingest-load.ts <json>`. Each connection sends its next request
 * when its answer has come. It looks at no more of an answer than its status and its end, so that what is measured is the server.
 */
import { connect } from 'node:net'

export interface Load {
  readonly port: number
  readonly path: string
  /** JSON of an event. */
  readonly event: string
  /** Events in each request; 0 for a single one without an array. */
  readonly batch: number
  /** Each event has an id of its own. */
  readonly ids: boolean
  /** Asks for no answer of each event. */
  readonly minimal: boolean
  readonly connections: number
  readonly warmMs: number
  readonly ms: number
}

export interface LoadFigures {
  readonly requests: number
  readonly seconds: number
  /** Statuses other than 202. */
  readonly others: Readonly<Record<string, number>>
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
}

const load = JSON.parse(process.argv[2]!) as Load
const idPlace = '000000000000000000000000000000000000'
const startedAt = process.hrtime.bigint().toString(36)

function requestText(): string {
  const event = load.ids ? `{"id":"${idPlace}",${load.event.slice(1)}` : load.event
  const body = load.batch === 0 ? event : `[${Array.from({ length: load.batch }, () => event).join(',')}]`
  return [
    `POST ${load.path} HTTP/1.1`,
    `Host: localhost:${load.port}`,
    'Content-Type: application/json',
    ...(load.minimal ? ['Prefer: return=minimal'] : []),
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n')
}

const parts = requestText().split(idPlace)
const whole = Buffer.from(parts.join(idPlace))
let ids = 0
function nextRequest(): Buffer | string {
  if (!load.ids) return whole
  let text = parts[0]!
  for (let at = 1; at < parts.length; at += 1) {
    ids += 1
    text += `${startedAt}-${ids}`.padStart(36, '0') + parts[at]!
  }
  return text
}

let counting = false
let requests = 0
const others: Record<string, number> = {}
const times: number[] = []

function open(): void {
  const socket = connect(load.port, '127.0.0.1')
  socket.setNoDelay(true)
  let head = ''
  let left = -1
  let sentAt = 0
  const send = () => {
    sentAt = performance.now()
    socket.write(nextRequest())
  }
  const answered = () => {
    const status = head.slice(9, 12)
    if (counting) {
      requests += 1
      if (status !== '202') others[status] = (others[status] ?? 0) + 1
      times.push(performance.now() - sentAt)
    }
    head = ''
    left = -1
    send()
  }
  socket.on('connect', send)
  socket.on('data', (chunk) => {
    if (left >= 0) {
      left -= chunk.length
      if (left <= 0) answered()
      return
    }
    head += chunk.toString('latin1')
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    const at = head.toLowerCase().indexOf('content-length: ')
    left = Number.parseInt(head.slice(at + 16), 10) - (head.length - end - 4)
    if (left <= 0) answered()
  })
  socket.on('error', (error) => {
    others[error.message] = (others[error.message] ?? 0) + 1
  })
}

for (let n = 0; n < load.connections; n += 1) open()
setTimeout(() => {
  counting = true
  const from = performance.now()
  setTimeout(() => {
    times.sort((a, b) => a - b)
    const at = (q: number) => times[Math.floor(times.length * q)] ?? 0
    const figures: LoadFigures = {
      requests,
      seconds: (performance.now() - from) / 1_000,
      others,
      p50: at(0.5),
      p99: at(0.99),
    }
    process.stdout.write(JSON.stringify(figures), () => process.exit(0))
  }, load.ms)
}, load.warmMs)
