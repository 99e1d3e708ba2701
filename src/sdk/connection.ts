import type { FetchCheck, FetchCheckOptions } from './fetch-check.ts'
import type { PostgresClient } from './postgres.ts'

/** What a connection of kind `fetch` gives: guarded HTTP(S) GET with limits per host. */
export interface FetchResponse {
  readonly status: number
  /** After redirects, as the catalog would name it (a rewrite rule is not shown). */
  readonly url: string
  /** `content-type`, `content-length`, `content-encoding`, `etag`, `last-modified`, `cache-control`; no other is kept. */
  readonly headers: Readonly<Record<string, string>>
  /** No content coding is asked for; one that was used all the same is undone. */
  readonly body: Uint8Array
  /** Milliseconds since the epoch. */
  readonly fetchedAt: number
  /** What `Retry-After` asks for, in milliseconds; at most `maxRetryAfter` of the connection, an hour by default. */
  readonly retryAfterMs?: number
  /** How many redirects were followed. */
  readonly redirects: number
  readonly timings: { readonly totalMs: number; readonly firstByteMs: number }
}

export interface FetchGetOptions {
  /** Gives up, with CANCELLED. */
  readonly signal?: AbortSignal
  /** The `Accept` header; any by default. */
  readonly accept?: string
}

export interface FetchClient {
  /**
   * Every whole HTTP answer is a result, whatever its status.
   * @throws SluiceError INVALID_INPUT, ADDRESS_BLOCKED, BODY_TOO_LARGE, CANCELLED, CONNECTION_UNKNOWN, CONFIGURATION;
   *   FETCH_FAILED, whose text opens with dns, refused, tls, timeout, reset, truncated, protocol, redirect-loop or
   *   circuit-open; HOST_RESTING when the host is to be left alone for `retryAfterMs`: thrown out of a stream's step, the
   *   record waits that long and has used up no attempt.
   */
  get(url: string, options?: FetchGetOptions): Promise<FetchResponse>
  /**
   * Whether a site answers, as a result always: one GET over connections of its own, on which the limits, the rests and the
   * circuit of its host have no say, and which is not tried again. The address is judged as for `get`. Settings that apply:
   * `timeout` (from the call on), `maxBytes`, `maxRedirects`, `userAgent`, `contact`, `rewrite`, `allow`.
   * @throws SluiceError CANCELLED, CONNECTION_UNKNOWN, CONFIGURATION; INVALID_INPUT for options.
   */
  check(url: string, options?: FetchCheckOptions): Promise<FetchCheck>
}

/** The kinds of connection and what an author gets for each. */
export interface ConnectionClients {
  fetch: FetchClient
  postgres: PostgresClient
}

export type ConnectionKind = keyof ConnectionClients
export type ConnectionClient<Kind extends ConnectionKind> = ConnectionClients[Kind]

export interface ConnectionHandle<Kind extends ConnectionKind = ConnectionKind> {
  readonly kind: 'connection'
  readonly name: string
  readonly of: Kind
}

/** Names a connection of the deployment; its settings (addresses, limits, credentials) come from configuration. */
export function connection<Kind extends ConnectionKind>(name: string, of: Kind): ConnectionHandle<Kind> {
  return { kind: 'connection', name, of }
}
