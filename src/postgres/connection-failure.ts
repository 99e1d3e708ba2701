import { SluiceError } from '../errors.ts'

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

/** Server is stopping (57P01), crashed (57P02), starting (57P03), was dropped (57P04), has no connection left (53300). */
const serverStates = new Set(['57P01', '57P02', '57P03', '57P04', '53300'])

/** The driver has no codes for these. */
const driverTexts =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed)/

/** Whether a failure is about reaching the server (then the outcome of what was under way is unknown), not about the statement. */
export function isConnectionFailure(thrown: unknown): thrown is Error {
  if (!(thrown instanceof Error)) return false
  const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
  return networkCodes.has(code) || serverStates.has(code) || code.startsWith('08') || driverTexts.test(thrown.message)
}

/** SQLSTATE of a wrong login or of a database that does not exist: nothing to reach either, but waiting does not help. */
const refusedLogins = new Set(['28000', '28P01', '3D000'])

/** Gives what to throw for `thrown`: DATABASE_UNREACHABLE naming `place` for failures of the connection, else `thrown` itself. */
export function nameConnectionFailure(thrown: unknown, place: string): unknown {
  if (thrown instanceof SluiceError || !(thrown instanceof Error)) return thrown
  const code = 'code' in thrown ? thrown.code : undefined
  const refused = typeof code === 'string' && refusedLogins.has(code)
  if (!refused && !isConnectionFailure(thrown)) return thrown
  const detail = thrown.message || String(code)
  return new SluiceError('DATABASE_UNREACHABLE', `The database at ${place} cannot be reached: ${detail}`, {
    cause: thrown,
  })
}
