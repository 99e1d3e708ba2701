import { messageOf, SluiceError } from '../../errors.ts'

/** What went wrong before a whole answer was there. */
export const failureClasses = [
  'dns',
  'refused',
  'tls',
  'timeout',
  'reset',
  'truncated',
  'protocol',
  'redirect-loop',
  'circuit-open',
] as const

export type FailureClass = (typeof failureClasses)[number]

/** A text may quote the other side, a certificate of many names for example: no more of it than this is kept. */
const maxDetail = 500

/** FETCH_FAILED with its class; the text opens with it. Trying again can help. */
export class FetchFailure extends SluiceError {
  readonly failure: FailureClass

  constructor(failure: FailureClass, detail: string, options: { cause?: unknown; retryAfterMs?: number } = {}) {
    super('FETCH_FAILED', `${failure}: ${detail.slice(0, maxDetail)}`, options)
    this.failure = failure
  }
}

/** Classes that say that a host does not answer, when its answer had not begun. */
const ofConnections: ReadonlySet<FailureClass> = new Set(['dns', 'refused', 'tls', 'timeout', 'reset', 'protocol'])

export function isConnectionFailure(error: unknown): boolean {
  return error instanceof FetchFailure && ofConnections.has(error.failure)
}

const refused = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL', 'EACCES', 'EHOSTDOWN'])
const timedOut = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])
const certificate =
  /^(CERT_|ERR_TLS_|ERR_SSL_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|EPROTO)/

/** The failure that a transport error stands for. `started`: the head of the answer had come. */
export function transportFailure(thrown: unknown, started: boolean): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  const detail = messageOf(thrown) || codeOf(thrown) || 'no reason given'
  return new FetchFailure(classOf(thrown, started), detail, { cause: thrown })
}

function classOf(thrown: unknown, started: boolean): FailureClass {
  const code = codeOf(thrown)
  const text = messageOf(thrown)
  if (refused.has(code)) return 'refused'
  if (timedOut.has(code)) return 'timeout'
  if (certificate.test(code) || /secure TLS connection/.test(text)) return 'tls'
  // before the head is there, it means that the parser refused what the head says of the length
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return started ? 'truncated' : 'protocol'
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'protocol'
  // so undici calls an unasked "100 Continue" and "101 Switching Protocols"
  if (code === 'UND_ERR_SOCKET' && /^bad (response|upgrade)$/.test(text)) return 'protocol'
  // undici leaves the code of its parser errors empty
  if (thrown instanceof Error && thrown.name === 'HTTPParserError') {
    return started && /EOF/.test(text) ? 'truncated' : 'protocol'
  }
  return started ? 'truncated' : 'reset'
}

function codeOf(thrown: unknown): string {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : ''
}
