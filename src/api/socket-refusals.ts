/** Refusals of what Fastify never sees: answered on the bare socket, which is then destroyed. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ErrorCode, SluiceError } from '../errors.ts'
import { securityHeaders } from './guard.ts'
import { problemOf, problemType } from './problem.ts'

const unreadable: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['REQUEST_TIMEOUT', 'The request did not arrive in time'],
  HPE_HEADER_OVERFLOW: ['HEADERS_TOO_LARGE', 'The line and headers of the request are over their limit'],
}

/** The last answer of each connection, so that none is written into it or behind its end. */
const answers = new WeakMap<Duplex, ServerResponse>()

/** A request that HTTP itself cannot read. */
export function refuseUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const before = answers.get(socket)
  const isLast = before?.getHeader('connection') === 'close' || before?.shouldKeepAlive === false
  if (before?.headersSent && (isLast || !before.writableFinished)) {
    socket.destroySoon()
    return
  }
  const [code, detail] = unreadable[error.code ?? ''] ?? ['USAGE', 'This is not HTTP that can be read']
  refuse(socket, new SluiceError(code, detail))
}

/** What Node would answer itself, or with nothing. */
export function refuseOddities(server: Server): void {
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    answers.set(request.socket, response)
  })
  server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => socket.destroy())
    refuse(socket, new SluiceError('METHOD_NOT_ALLOWED', 'CONNECT is not allowed here: this is no proxy'))
  })
  server.on('checkExpectation', (request: IncomingMessage) => {
    refuse(request.socket, new SluiceError('USAGE', 'Nothing but 100-continue may be expected'))
  })
}

const reasons: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
}

function refuse(socket: Duplex, problem: SluiceError): void {
  const body = JSON.stringify(problemOf(problem, '#'))
  const head = Object.entries({
    ...securityHeaders,
    'content-type': problemType,
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  const line = `HTTP/1.1 ${problem.status} ${reasons[problem.status]}\r\n`
  socket.end(`${line}${head.join('')}\r\n${body}`, () => socket.destroy())
}
