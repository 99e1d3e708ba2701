/** Servers on loopback, clients for them, and what they throw; everything is closed after each test. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createRawServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, vi } from 'vitest'
import { SluiceError } from '../../errors.ts'
import type { FetchClient, FetchOptions } from './fetch.ts'
import { fetchSettings, openFetch } from './fetch.ts'
import { FetchFailure } from './fetch-failure.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

export const atEnd = (close: () => unknown) => void closing.push(close)

export const clock = { now: () => Date.UTC(2024, 0, 1) }

/** An HTTP server; gives its origin, what it was asked, and the connections it had. */
export async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const seen: IncomingMessage[] = []
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    seen.push(request)
    answer(request, response)
  })
  server.on('connection', (socket) => sockets.add(socket))
  return { ...(await listening(server, sockets)), seen, sockets }
}

/** A server that does with each connection as it is told. */
export async function serveSocket(handle: (socket: Socket, request: number) => void, host = '127.0.0.1') {
  const sockets = new Set<Socket>()
  const state = { requests: 0 }
  const server = createRawServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      // a request of ours comes in one piece
      if (!String(chunk).startsWith('GET ')) return
      state.requests += 1
      handle(socket, state.requests)
    })
  })
  return { ...(await listening(server, sockets, host)), sockets, state }
}

/** A server that answers each connection with fixed bytes and then closes it. */
export const serveRaw = async (text: string | Buffer) => (await serveSocket((socket) => socket.end(text))).origin

export async function listening(server: Server, sockets: ReadonlySet<Socket>, host = '127.0.0.1') {
  server.listen(0, host)
  await once(server, 'listening')
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    if (!server.listening) return
    server.close()
    await once(server, 'close')
  }
  atEnd(close)
  const { port } = server.address() as AddressInfo
  return { origin: `http://${host.includes(':') ? `[${host}]` : host}:${port}`, port, close }
}

export function open(given: Record<string, unknown> = {}, options: Partial<FetchOptions> = {}): FetchClient {
  const client = openFetch(fetchSettings.parse({ kind: 'fetch', ...given }), { clock, random: () => 0.5, ...options })
  atEnd(() => client.close())
  return client
}

/** A client that asks `to` for everything under https://pictures.test. */
export const openTo = (to: string, given: Record<string, unknown> = {}, options: Partial<FetchOptions> = {}) =>
  open({ rewrite: [{ from: 'https://pictures.test', to }], ...given }, options)

export async function thrownBy(work: Promise<unknown>): Promise<SluiceError> {
  const thrown = await work.then(
    (value) => value,
    (error) => error,
  )
  expect(thrown).toBeInstanceOf(SluiceError)
  return thrown as SluiceError
}

/** The class of a failure, or the code of another error. */
export async function failureOf(work: Promise<unknown>): Promise<string> {
  const thrown = await thrownBy(work)
  return thrown instanceof FetchFailure ? thrown.failure : thrown.code
}

/** Waits until a condition holds, or fails after 30 s. */
export function until(holds: () => boolean): Promise<void> {
  return vi.waitFor(() => expect(holds(), String(holds)).toBe(true), { timeout: 30_000, interval: 5 })
}
