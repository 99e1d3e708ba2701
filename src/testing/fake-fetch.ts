/** Stands for a connection of the kind `fetch`: answers from a table, or from a function, and remembers what was asked. */
import { SluiceError } from '../errors.ts'
import type { FetchClient, FetchResponse } from '../sdk/connection.ts'

/** What a fake answers; `body` as text or bytes. Default: status 200 and no body. */
export interface FakeAnswer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  readonly retryAfterMs?: number
}

type Answers = Readonly<Record<string, FakeAnswer | string | Error>> | ((url: string) => FakeAnswer | string | Error)

export interface FakeFetch extends FetchClient {
  /** Every URL that was asked for, in order. */
  readonly asked: readonly string[]
}

/**
 * A text stands for a body, an error is thrown. A URL that a table does not name is an error FETCH_FAILED which says so.
 */
export function fakeFetch(answers: Answers): FakeFetch {
  const asked: string[] = []
  return {
    asked,
    async get(url): Promise<FetchResponse> {
      asked.push(url)
      const answer =
        typeof answers === 'function' ? answers(url) : Object.hasOwn(answers, url) ? answers[url] : undefined
      if (answer === undefined) throw new SluiceError('FETCH_FAILED', `refused: the fake has no answer for ${url}`)
      if (answer instanceof Error) throw answer
      const {
        status = 200,
        headers = {},
        body = '',
        retryAfterMs,
      } = typeof answer === 'string' ? { body: answer } : answer
      return {
        ...{ status, url, headers, redirects: 0, fetchedAt: 0, timings: { totalMs: 0, firstByteMs: 0 } },
        body: typeof body === 'string' ? Buffer.from(body) : body,
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      }
    },
  }
}
