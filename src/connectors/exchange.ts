import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Dispatcher } from 'undici'
import { SluiceError } from '../errors.ts'
import { FetchFailure, transportFailure } from './fetch-failure.ts'
import { alreadyOpen, type Connection, type Opening } from './pinned-connections.ts'

export interface Asked {
  readonly path: string
  readonly headers: Record<string, string>
  /** A longer body ends the exchange with BODY_TOO_LARGE. */
  readonly maxBytes: number
  /** Ends the exchange with its reason, which must be a SluiceError. */
  readonly signal: AbortSignal
}

export interface Exchanged {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly opening: Opening
  /** `performance.now()` when the head was there. */
  readonly firstByteAt: number
}

/**
 * One GET over one connection, answered whole or not at all. After a failure of ours (cap, signal) the connection is
 * destroyed, since the rest of the answer is still on its way.
 */
export function exchange(connection: Connection, asked: Asked): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const { client } = connection
    const fail = (error: unknown) => {
      asked.signal.removeEventListener('abort', abort)
      reject(error)
    }
    const give = (exchanged: Exchanged) => {
      asked.signal.removeEventListener('abort', abort)
      resolve(exchanged)
    }
    const breakOff = (error: Error) => {
      fail(error)
      client.destroy(error).catch(() => {})
    }
    const abort = () => breakOff(asked.signal.reason)
    if (asked.signal.aborted) return fail(asked.signal.reason)
    asked.signal.addEventListener('abort', abort, { once: true })
    connection.opening = alreadyOpen
    connection.used += 1
    client.dispatch(
      { path: asked.path, method: 'GET', headers: asked.headers },
      new Answering(connection, asked.maxBytes, { give, fail, breakOff }),
    )
  })
}

interface Outcome {
  give(exchanged: Exchanged): void
  fail(error: unknown): void
  breakOff(error: Error): void
}

class Answering implements Dispatcher.DispatchHandler {
  readonly #connection: Connection
  readonly #maxBytes: number
  readonly #outcome: Outcome
  readonly #chunks: Buffer[] = []
  #bytes = 0
  #status = 0
  #headers: IncomingHttpHeaders = {}
  #firstByteAt = 0

  constructor(connection: Connection, maxBytes: number, outcome: Outcome) {
    this.#connection = connection
    this.#maxBytes = maxBytes
    this.#outcome = outcome
  }

  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return
    this.#status = status
    this.#headers = headers
    this.#firstByteAt = performance.now()
    if (Number(headers['content-length']) > this.#maxBytes)
      this.#tooLarge(`${headers['content-length']} bytes announced`)
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) this.#tooLarge(`${this.#bytes} bytes so far`)
    else this.#chunks.push(chunk)
  }

  onResponseEnd(): void {
    const announced = this.#headers['content-length']
    if (announced !== undefined && this.#status !== 304 && Number(announced) !== this.#bytes) {
      this.#outcome.breakOff(new FetchFailure('truncated', `${this.#bytes} of ${announced} bytes came`))
      return
    }
    this.#outcome.give({
      status: this.#status,
      headers: this.#headers,
      body: Buffer.concat(this.#chunks, this.#bytes),
      opening: this.#connection.opening,
      firstByteAt: this.#firstByteAt,
    })
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#outcome.fail(transportFailure(error, this.#status !== 0))
  }

  #tooLarge(found: string): void {
    this.#chunks.length = 0
    this.#outcome.breakOff(new SluiceError('BODY_TOO_LARGE', `the body is over ${this.#maxBytes} bytes (${found})`))
  }
}
