import { type ErrorCode, SluiceError } from '../errors.ts'

const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'EACCES',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])

/**
 * Server is stopping (57P01), crashed (57P02), starting (57P03), was dropped (57P04), ended an idle session (57P05) or
 * transaction (25P03), has no connection left (53300).
 */
const serverStates = new Set(['57P01', '57P02', '57P03', '57P04', '57P05', '25P03', '53300'])

/** The driver has no codes for these. */
const driverTexts =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed)/

/** Whether a failure is about reaching the server (then the outcome of what was under way is unknown), not about the statement. */
export function isConnectionFailure(thrown: unknown): thrown is Error {
  if (!(thrown instanceof Error)) return false
  const code = codeOf(thrown)
  return networkCodes.has(code) || serverStates.has(code) || code.startsWith('08') || driverTexts.test(thrown.message)
}

function codeOf(thrown: Error): string {
  return 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
}

/** Whether a server was there to say that it takes nobody yet: it stops (57P01), crashed (57P02), starts or recovers (57P03). */
export function isComingBack(thrown: unknown): boolean {
  const cause = thrown instanceof SluiceError ? thrown.cause : thrown
  return cause instanceof Error && ['57P01', '57P02', '57P03'].includes(codeOf(cause))
}

/** SQLSTATE of a wrong login or of a database that does not exist: nothing to reach either, but waiting does not help. */
const refusedLogins = new Set(['28000', '28P01', '3D000'])

/** What the server says of itself, not of a statement: its disk is full, its files fail, it takes no writes. */
const serverTroubles: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  53100: ['STORAGE_FULL', 'has no room left on its disk'],
  58030: ['DATABASE_UNREACHABLE', 'cannot read or write its files'],
  25006: ['DATABASE_READ_ONLY', 'takes no writes now: it is a standby, or was made read-only'],
}

/** When those who were turned away should ask again. */
const retryAfterMs = 5_000

/**
 * Gives what to throw for `thrown`: DATABASE_UNREACHABLE naming `place` for failures of the connection, STORAGE_FULL and
 * DATABASE_READ_ONLY for a server that can be reached and cannot write, else `thrown` itself.
 */
export function nameConnectionFailure(thrown: unknown, place: string): unknown {
  if (thrown instanceof SluiceError || !(thrown instanceof Error)) return thrown
  const detail = thrown.message || codeOf(thrown)
  const [code, what] = serverTroubles[codeOf(thrown)] ?? ['DATABASE_UNREACHABLE', 'cannot be reached']
  const known = codeOf(thrown) in serverTroubles || refusedLogins.has(codeOf(thrown)) || isConnectionFailure(thrown)
  if (!known) return thrown
  return new SluiceError(code, `The database at ${place} ${what}: ${detail}`, { cause: thrown, retryAfterMs })
}
