/** What one client may take of the server. Tests pass smaller ones. */
export interface HttpLimits {
  /** Time for all headers of a request to arrive. */
  readonly headersMs: number
  /** Time for the whole request to arrive. */
  readonly requestMs: number
  /** A connection on which no byte moves for this long is destroyed; longer than a long poll and the pulse of an event stream. */
  readonly idleMs: number
  /** How long a connection is kept for the next request. */
  readonly keepAliveMs: number
  /** How often these times are looked at. */
  readonly checkEveryMs: number
  readonly headerBytes: number
  readonly connections: number
  /** JSON bodies; uploads have the limit of their endpoint. */
  readonly bodyBytes: number
  /** Arrays and objects within one another in a JSON body. */
  readonly jsonDepth: number
  /** Requests that wait for news (long polls and event streams) at once. */
  readonly waits: number
  /** How long requests that are under way may go on when the server closes. */
  readonly closeMs: number
}

export const defaultHttpLimits: HttpLimits = {
  headersMs: 10_000,
  requestMs: 300_000,
  idleMs: 60_000,
  keepAliveMs: 30_000,
  checkEveryMs: 5_000,
  headerBytes: 16_384,
  connections: 1_024,
  bodyBytes: 1_048_576,
  jsonDepth: 64,
  waits: 256,
  closeMs: 5_000,
}

/** The longest `wait` of a long poll; below `idleMs`. */
export const longestWaitMs = 30_000
/** Who waits for news looks again this often, since a notification can be lost; also the pulse of event streams. */
export const recheckMs = 5_000
