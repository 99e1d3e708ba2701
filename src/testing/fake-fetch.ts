/** Stands for a connection of the kind `fetch`: answers from a table, or from a function, and remembers what was asked. */
import { messageOf, SluiceError } from '../errors.ts'
import type { FetchClient, FetchResponse } from '../sdk/connection.ts'
import { checkFailures, type FetchCheck } from '../sdk/fetch-check.ts'

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
  const client: FakeFetch = {
    asked,
    check: (url) =>
      client.get(url).then(
        ({ status, headers, body }) => ({ ...nothingFound(url), status, headers, body }),
        (thrown) => ({ ...nothingFound(url), ...failureOf(thrown) }),
      ),
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
  return client
}

const timings = { dnsMs: 0, connectMs: 0, tlsMs: null, processingMs: 0, transferMs: 0, firstByteMs: 0, totalMs: 0 }

const nothingFound = (url: string): FetchCheck => ({
  ...{ failure: null, detail: null, url, status: null, headers: {}, body: Buffer.alloc(0), redirects: 0 },
  ...{ checkedAt: 0, timings, certificateEndsAt: null },
})

/** The class is the word with which the text opens. @throws what names none. */
function failureOf(thrown: unknown): Pick<FetchCheck, 'failure' | 'detail'> {
  const detail = messageOf(thrown)
  const failure = checkFailures.find((name) => detail.startsWith(`${name}: `))
  if (failure === undefined) throw thrown
  return { failure, detail: detail.slice(failure.length + 2) }
}
