import type { IncomingHttpHeaders } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Dispatcher } from 'undici'
import { SluiceError } from '../../errors.ts'
import { Body } from './body.ts'
import { FetchFailure, transportFailure } from './fetch-failure.ts'
import { redirectLocation } from './hop.ts'
import { type LeastPace, Pace } from './pace.ts'
import { alreadyOpen, type Connection, type Opening } from './pinned-connections.ts'

export interface Asked {
  readonly path: string
  readonly headers: Record<string, string>
  /** A longer body ends the exchange with BODY_TOO_LARGE. */
  readonly maxBytes: number
  /** A slower body ends the exchange with a FetchFailure `timeout`. */
  readonly leastPace: LeastPace
  /** Ends the exchange with its reason, which must be a SluiceError. */
  readonly signal: AbortSignal
  /** The final head has come. */
  readonly onHead: (head: Head) => void
  /** Takes the body, so that what came of one that did not end well is there too. */
  readonly body?: Body
  /** Nothing follows on this connection. */
  readonly last?: boolean
}

export interface Head {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** `performance.now()` when it was there. */
  readonly firstByteAt: number
}

export interface Exchanged extends Head {
  /** As sent; of a redirect what was read of it. */
  readonly body: Buffer
  readonly opening: Opening
}

/**
 * One GET over one connection, answered whole or not at all, but for the body of a redirect, which nobody needs. After a
 * failure of ours (cap, signal) the connection is destroyed, since the rest of the answer is still on its way.
 */
export function exchange(connection: Connection, asked: Asked): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    const { client } = connection
    const pace = new Pace(asked.leastPace, (failure) => breakOff(failure))
    const fail = (error: unknown) => {
      pace.stop()
      asked.signal.removeEventListener('abort', abort)
      reject(error)
    }
    const give = (exchanged: Exchanged) => {
      pace.stop()
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
    client.dispatch(
      { path: asked.path, method: 'GET', headers: asked.headers, ...(asked.last ? { reset: true } : {}) },
      new Answering(connection, asked, pace, {
        give,
        fail,
        breakOff,
        giveEarly(exchanged) {
          give(exchanged)
          client.destroy().catch(() => {})
        },
      }),
    )
  })
}

/** What of the body of a redirect is read, in bytes, so that the connection can be used again. */
const redirectBytes = 65_536
/** Answers of status 1xx before the final one. */
const maxInformational = 20

interface Outcome {
  give(exchanged: Exchanged): void
  /** Gives it, and leaves the rest of the body unread. */
  giveEarly(exchanged: Exchanged): void
  fail(error: unknown): void
  breakOff(error: Error): void
}

class Answering implements Dispatcher.DispatchHandler {
  readonly #connection: Connection
  readonly #maxBytes: number
  readonly #onHead: Asked['onHead']
  readonly #pace: Pace
  readonly #outcome: Outcome
  #body: Body
  #informational = 0
  #redirects = false
  #status = 0
  #headers: IncomingHttpHeaders = {}
  #firstByteAt = 0

  constructor(connection: Connection, { maxBytes, onHead, body }: Asked, pace: Pace, outcome: Outcome) {
    this.#connection = connection
    this.#body = body ?? new Body()
    this.#maxBytes = maxBytes
    this.#onHead = onHead
    this.#pace = pace
    this.#outcome = outcome
  }

  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) {
      this.#informational += 1
      if (this.#informational > maxInformational) {
        this.#outcome.breakOff(new FetchFailure('protocol', `more than ${maxInformational} answers of status 1xx`))
      }
      return
    }
    this.#status = status
    this.#headers = headers
    this.#firstByteAt = performance.now()
    this.#redirects = redirectLocation(status, headers) !== undefined
    this.#onHead({ status, headers, firstByteAt: this.#firstByteAt })
    this.#pace.start()
    const coding = headers['transfer-encoding']
    const announced = Number(headers['content-length'])
    if (coding !== undefined && String(coding).toLowerCase() !== 'chunked') {
      // the parser takes it for chunks, or for a body up to the end, and undoes none
      const found = String(coding).slice(0, 50)
      this.#outcome.breakOff(new FetchFailure('protocol', `the Transfer-Encoding "${found}" was not asked for`))
    } else if (this.#redirects && announced > redirectBytes) this.#outcome.giveEarly(this.#exchanged())
    else if (announced > this.#maxBytes) this.#tooLarge(`${announced} bytes announced`)
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#pace.came(chunk.length)
    const bytes = this.#body.bytes + chunk.length
    if (this.#redirects && bytes > redirectBytes) this.#outcome.giveEarly(this.#exchanged())
    else if (bytes > this.#maxBytes && !this.#redirects) {
      this.#body.add(chunk.subarray(0, this.#maxBytes - this.#body.bytes))
      this.#tooLarge(`${bytes} bytes so far`)
    } else this.#body.add(chunk)
  }

  onResponseEnd(): void {
    const announced = this.#headers['content-length']
    const bodiless = this.#status === 204 || this.#status === 304
    if (announced !== undefined && !bodiless && Number(announced) !== this.#body.bytes) {
      this.#outcome.breakOff(new FetchFailure('truncated', `${this.#body.bytes} of ${announced} bytes came`))
      return
    }
    this.#outcome.give(this.#exchanged())
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#outcome.fail(transportFailure(error, this.#status !== 0))
  }

  #exchanged(): Exchanged {
    return {
      status: this.#status,
      headers: this.#headers,
      body: this.#body.whole(),
      opening: this.#connection.opening,
      firstByteAt: this.#firstByteAt,
    }
  }

  #tooLarge(found: string): void {
    this.#body = new Body()
    this.#outcome.breakOff(new SluiceError('BODY_TOO_LARGE', `the body is over ${this.#maxBytes} bytes (${found})`))
  }
}
