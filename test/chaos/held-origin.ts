/**
 * The origin of pictures, whose answers can be held back: so that whoever kills knows that records are in flight. It
 * answers as the origin of the app does, after a pause, and remembers the sha256 of every picture that it gave.
 */

import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { type Origin, startOrigin } from '../../apps/images/origin/origin.ts'
import { listening } from '../loopback.ts'

export interface HeldOrigin {
  readonly url: string
  /** Requests that have come and have no answer yet: each is a record in flight. */
  readonly inFlight: number
  /** From now on nothing is answered. */
  hold(): void
  letGo(): void
  /** sha256 of the body that this path has. */
  sha256Of(path: string): Promise<string>
  close(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** @param pauseMs how long the next answer takes, beside being held. */
export async function startHeldOrigin(pauseMs: () => number): Promise<HeldOrigin> {
  const inner = await startOrigin()
  const kept = new Map<string, Promise<Answer>>()
  let inFlight = 0
  let gate: { readonly open: Promise<void>; readonly letGo: () => void } | undefined

  const ask = (path: string): Promise<Answer> => {
    // What counts how often it was asked is asked each time.
    if (path.includes('flaky=')) return answerOf(inner, path)
    const known = kept.get(path) ?? answerOf(inner, path)
    kept.set(path, known)
    return known
  }
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    inFlight += 1
    response.once('close', () => {
      inFlight -= 1
    })
    const [answer] = await Promise.all([ask(request.url ?? '/'), delay(pauseMs())])
    await gate?.open
    response.writeHead(answer.status, answer.headers).end(answer.body)
  }
  const server = createServer((request, response) => {
    serve(request, response).catch((thrown: unknown) => response.writeHead(500).end(String(thrown)))
  })
  const port = await listening(server)
  const letGo = () => {
    gate?.letGo()
    gate = undefined
  }
  return {
    url: `http://127.0.0.1:${port}`,
    get inFlight() {
      return inFlight
    },
    hold() {
      if (gate !== undefined) return
      const { promise, resolve } = Promise.withResolvers<void>()
      gate = { open: promise, letGo: resolve }
    },
    letGo,
    async sha256Of(path) {
      return createHash('sha256')
        .update((await ask(path)).body)
        .digest('hex')
    },
    async close() {
      letGo()
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
      await inner.close()
    },
  }
}

async function answerOf(inner: Origin, path: string): Promise<Answer> {
  const response = await fetch(inner.url + path)
  const body = Buffer.from(await response.arrayBuffer())
  const type = response.headers.get('content-type') ?? 'text/plain'
  return { status: response.status, headers: { 'content-type': type, 'content-length': String(body.length) }, body }
}
