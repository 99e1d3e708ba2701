import { messageOf, SluiceError } from '../errors.ts'

/** What went wrong before a whole answer was there. */
export type FailureClass = 'dns' | 'refused' | 'tls' | 'timeout' | 'reset' | 'truncated' | 'protocol' | 'redirect-loop'

/** FETCH_FAILED with its class; the text opens with it. Trying again can help. */
export class FetchFailure extends SluiceError {
  readonly failure: FailureClass

  constructor(failure: FailureClass, detail: string, cause?: unknown) {
    super('FETCH_FAILED', `${failure}: ${detail}`, cause === undefined ? {} : { cause })
    this.failure = failure
  }
}

const refused = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL', 'EACCES', 'EHOSTDOWN'])
const timedOut = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])
const certificate = /^(CERT_|ERR_TLS_|ERR_SSL_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|EPROTO)/

/** The failure that a transport error stands for. `started`: the head of the answer had come. */
export function transportFailure(thrown: unknown, started: boolean): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  return new FetchFailure(classOf(thrown, started), messageOf(thrown) || codeOf(thrown) || 'no reason given', thrown)
}

function classOf(thrown: unknown, started: boolean): FailureClass {
  const code = codeOf(thrown)
  if (refused.has(code)) return 'refused'
  if (timedOut.has(code)) return 'timeout'
  if (certificate.test(code) || /secure TLS connection/.test(messageOf(thrown))) return 'tls'
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return 'truncated'
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'protocol'
  // undici leaves the code of its parser errors empty
  if (thrown instanceof Error && thrown.name === 'HTTPParserError') {
    return started && /EOF/.test(thrown.message) ? 'truncated' : 'protocol'
  }
  return started ? 'truncated' : 'reset'
}

function codeOf(thrown: unknown): string {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : ''
}
