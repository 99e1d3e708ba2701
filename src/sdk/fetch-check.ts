import type { Duration } from '../time.ts'

/** Why a check has no whole answer of HTTP. */
export const checkFailures = [
  /** It is no http(s) URL, or carries credentials. */
  'invalid-url',
  /** Scheme, address or port may not be asked, also of a redirect: see `allow` of the connection. */
  'blocked',
  /** There is no such name, or no name server said so. */
  'dns',
  /** The connection was refused, or there is no way there. */
  'refused',
  /** The certificate (expired, not yet valid, signed by itself, of another name), or the handshake. */
  'tls',
  /** No whole answer in time, in whatever phase. */
  'timeout',
  /** Closed or reset before the head was whole. */
  'reset',
  /** Closed or reset within the body, or fewer bytes than announced. */
  'truncated',
  /** What came is not HTTP/1.x, or its coding is not known. */
  'protocol',
  /** Back to where it came from, or too many of them. */
  'redirect-loop',
  /** The body is over `maxBytes`. */
  'body-limit',
] as const

export type CheckFailure = (typeof checkFailures)[number]

/**
 * Milliseconds, each a sum over redirects; null: it did not come to the end of it, or (`tlsMs`) nothing was encrypted. Those
 * that are there make up `totalMs`, but for what a phase took that did not end.
 */
export interface CheckTimings {
  /** Looking up the name; 0 for an address. */
  readonly dnsMs: number | null
  readonly connectMs: number | null
  readonly tlsMs: number | null
  /** From the open connection to the head of the answer. */
  readonly processingMs: number | null
  /** From the head to the end of the body. */
  readonly transferMs: number | null
  /** From the start to the last head that came. */
  readonly firstByteMs: number | null
  readonly totalMs: number
}

/** What one GET found. */
export interface FetchCheck {
  /** null: a whole answer came, whatever its status. */
  readonly failure: CheckFailure | null
  /** What went wrong, in a sentence of at most 600 characters; null without a failure. */
  readonly detail: string | null
  /** What was asked last, after redirects. */
  readonly url: string
  /** Of the last head that came, also where the rest did not; null where none did. */
  readonly status: number | null
  /** Of that head, as of a `FetchResponse`. */
  readonly headers: Readonly<Record<string, string>>
  /** Without its coding; with a failure what came of it, at most `maxBytes`. */
  readonly body: Uint8Array
  readonly redirects: number
  /** When it began, milliseconds since the epoch. */
  readonly checkedAt: number
  readonly timings: CheckTimings
  /**
   * When the first certificate of the servers that were asked ends (roots left out), milliseconds since the epoch, also of one that
   * was refused; null without TLS.
   */
  readonly certificateEndsAt: number | null
}

export interface FetchCheckOptions {
  /** Gives up, with CANCELLED. */
  readonly signal?: AbortSignal
  /** The `Accept` header; any by default. */
  readonly accept?: string
  /** For the whole check; that of the connection by default, and never more. */
  readonly timeout?: Duration
  /** False: a redirect is an answer like any other. Default true, up to `maxRedirects` of the connection. */
  readonly redirects?: boolean
}
