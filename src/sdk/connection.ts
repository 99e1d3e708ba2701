/** What a connection of kind `fetch` gives: guarded HTTP(S) GET with limits per host. */
export interface FetchResponse {
  readonly status: number
  /** After redirects, as the catalog would name it (a rewrite rule is not shown). */
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** Milliseconds since the epoch. */
  readonly fetchedAt: number
  /** What `Retry-After` asks for, in milliseconds; at most a day. */
  readonly retryAfterMs?: number
  /** How many redirects were followed. */
  readonly redirects: number
  readonly timings: { readonly totalMs: number; readonly firstByteMs: number }
}

export interface FetchClient {
  /** Every HTTP answer is a result, whatever its status. @throws SluiceError ADDRESS_BLOCKED, FETCH_FAILED, BODY_TOO_LARGE, TIMEOUT */
  get(url: string, options?: { readonly signal?: AbortSignal }): Promise<FetchResponse>
}

/** The kinds of connection and what an author gets for each. */
export interface ConnectionClients {
  fetch: FetchClient
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
