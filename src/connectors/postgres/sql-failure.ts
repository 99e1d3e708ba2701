/** What a statement or a connection failed of, by the names that authors see. */
import { messageOf, SluiceError } from '../../errors.ts'
import { SqlError } from '../../sdk/postgres.ts'

/** When to ask again for a server that was not there. */
const retryAfterMs = 5_000

const stateOf = (thrown: unknown): string | undefined => {
  const code = (thrown as { readonly code?: unknown } | undefined)?.code
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code) ? code : undefined
}

/** The statement was ended: by the server's limit to its time, or because somebody asked for it. */
const isEnded = (state: string): boolean => state === '57014'

/**
 * Classes 40 (rolled back for the sake of others), 53 (no room, no connection), 57 (the server stops), 58 (its files fail), 08
 * (the connection), and a lock that did not come, a standby, an idle transaction that was ended.
 */
const mayPass = (state: string): boolean =>
  (/^(40|53|57|58|08)/.test(state) && state !== '08P01') || ['55P03', '25006', '25P03'].includes(state)

/** Class 22: data exception, 23: constraint, 44: check option of a view. */
const isAboutData = (state: string): boolean => /^(22|23|44)/.test(state)

/** A statement failed. `limitMs` is what it may take. */
export function sqlFailure(thrown: unknown, name: string, limitMs: number): Error {
  if (thrown instanceof SluiceError) return thrown
  const state = stateOf(thrown)
  const where = `connection ${name}`
  if (state === undefined) {
    const detail = `${where}: the connection broke, and what was under way may have been done: ${messageOf(thrown)}`
    return new SqlError('POSTGRES_FAILED', detail, { cause: thrown })
  }
  if (isEnded(state)) {
    return new SluiceError('TIMEOUT', `${where}: the server ended a statement that took longer than ${limitMs} ms`, {
      cause: thrown,
    })
  }
  const { constraint } = thrown as { readonly constraint?: string }
  const code = mayPass(state) ? 'POSTGRES_FAILED' : isAboutData(state) ? 'POSTGRES_REFUSED' : 'POSTGRES_INVALID'
  return new SqlError(code, `${where}: ${messageOf(thrown)} (SQLSTATE ${state})`, {
    sqlState: state,
    constraint,
    cause: thrown,
  })
}

/** A connection could not be had. */
export function connectFailure(thrown: unknown, name: string, pool: number): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  const state = stateOf(thrown)
  const where = `connection ${name}`
  // A wrong login (28...), and a database that is not there: waiting does not help.
  if (state !== undefined && (state.startsWith('28') || state === '3D000')) {
    return new SluiceError(
      'CONFIGURATION',
      `${where}: the server refuses it: ${messageOf(thrown)} (SQLSTATE ${state})`,
      { cause: thrown },
    )
  }
  const busy =
    messageOf(thrown) === 'timeout exceeded when trying to connect'
      ? ` (or all ${pool} connections of this process were busy)`
      : ''
  const detail = messageOf(thrown) || String((thrown as NodeJS.ErrnoException).code)
  return new SluiceError('POSTGRES_UNREACHABLE', `${where}: ${detail}${busy}`, { cause: thrown, retryAfterMs })
}
