/**
 * One table of every error that Sluice names: code, HTTP status, whether trying again can help, one sentence.
 * Every part throws `SluiceError` with a code of this table; the faces (HTTP, CLI) only translate.
 */
export const errorTable = {
  // wrong usage and configuration
  USAGE: { status: 400, retryable: false, title: 'The command or request was used wrongly' },
  CONFIGURATION: { status: 500, retryable: false, title: 'The configuration is not valid' },
  DEFINITION_INVALID: { status: 422, retryable: false, title: 'A definition is not valid' },
  BUILD_NOT_REPRODUCIBLE: { status: 422, retryable: false, title: 'Two builds of the same files differ' },
  // requests
  MALFORMED_JSON: { status: 400, retryable: false, title: 'The body is not JSON' },
  INVALID_INPUT: { status: 422, retryable: false, title: 'The input does not fit its schema' },
  INVALID_CURSOR: { status: 400, retryable: false, title: 'The cursor is not one of ours' },
  BODY_TOO_LARGE: { status: 413, retryable: false, title: 'The body is over its limit' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, retryable: false, title: 'The content type is not accepted here' },
  NOT_FOUND: { status: 404, retryable: false, title: 'There is nothing by that name' },
  METHOD_NOT_ALLOWED: { status: 405, retryable: false, title: 'The method is not allowed here' },
  CONFLICT: { status: 409, retryable: false, title: 'The request does not fit the present state' },
  SIGNATURE_INVALID: { status: 401, retryable: false, title: 'The signature of the delivery is not valid' },
  FORBIDDEN_HOST: { status: 403, retryable: false, title: 'The Host or Origin header is not allowed' },
  IDEMPOTENCY_KEY_REUSED: { status: 422, retryable: false, title: 'The idempotency key was used for another request' },
  REQUEST_TIMEOUT: { status: 408, retryable: true, title: 'The request did not arrive in time' },
  HEADERS_TOO_LARGE: { status: 431, retryable: false, title: 'The headers are over their limit' },
  UNAVAILABLE: { status: 503, retryable: true, title: 'A part that is needed is not available now' },
  NOT_READY: { status: 503, retryable: true, title: 'Not ready yet' },
  INTERNAL: { status: 500, retryable: false, title: 'An error of ours' },
  // database
  DATABASE_UNREACHABLE: { status: 503, retryable: true, attempt: false, title: 'The database cannot be reached' },
  DATABASE_READ_ONLY: { status: 503, retryable: true, attempt: false, title: 'The database takes no writes now' },
  DATABASE_IN_USE: { status: 409, retryable: false, title: 'Another Sluice holds this data folder' },
  DATABASE_UNSUPPORTED: { status: 500, retryable: false, title: 'The database server is not supported' },
  EMBEDDED_UNAVAILABLE: { status: 500, retryable: false, title: 'There is no embedded PostgreSQL for this machine' },
  MIGRATION_FAILED: { status: 500, retryable: false, title: 'A migration failed' },
  // objects
  OBJECT_NOT_FOUND: { status: 404, retryable: false, title: 'No object has this hash' },
  OBJECT_CORRUPT: { status: 500, retryable: false, title: 'An object no longer has its hash' },
  STORAGE_FULL: { status: 507, retryable: true, attempt: false, title: 'There is no room left in the store' },
  STORAGE_FAILED: { status: 503, retryable: true, attempt: false, title: 'The store cannot be read or written now' },
  BACKUP_INVALID: { status: 422, retryable: false, title: 'The file is not a sound backup' },
  // execution
  ACTION_FAILED: { status: 500, retryable: true, title: "The author's function failed" },
  PROGRAM_FAILED: { status: 500, retryable: true, title: 'The program did not end with success' },
  PROGRAM_REFUSED: { status: 500, retryable: false, title: 'The program cannot succeed, however often it is tried' },
  INPUT_MISMATCH: { status: 422, retryable: false, title: 'An argument does not fit the input schema of its action' },
  OUTPUT_MISMATCH: { status: 422, retryable: false, title: 'A result does not fit the output schema of its action' },
  TIMEOUT: { status: 504, retryable: true, title: 'The time limit passed' },
  CANCELLED: { status: 409, retryable: false, title: 'It was cancelled' },
  RUNNER_LOST: { status: 500, retryable: true, title: 'The runner ended during the attempt' },
  RUN_FAILED: { status: 500, retryable: true, title: 'The run that a task started did not succeed' },
  APPROVAL_REFUSED: { status: 409, retryable: false, title: 'Somebody refused the approval' },
  WORK_BEHIND: { status: 503, retryable: false, title: 'Work is further behind than it may be' },
  VERSION_MISSING: { status: 500, retryable: true, title: 'The code of a version is not on this machine' },
  NOT_REPRODUCIBLE: { status: 409, retryable: false, title: 'The run cannot be reproduced' },
  FENCED: { status: 409, retryable: false, title: 'The writer is no longer the owner' },
  // connections
  CONNECTION_UNKNOWN: { status: 500, retryable: false, title: 'No connection has this name' },
  SECRET_UNKNOWN: { status: 500, retryable: false, title: 'No secret has this name' },
  ADDRESS_BLOCKED: { status: 403, retryable: false, title: 'The address is not allowed by policy' },
  FETCH_FAILED: { status: 502, retryable: true, title: 'The fetch failed' },
  HOST_RESTING: { status: 503, retryable: true, attempt: false, title: 'The host is left alone for a while' },
  POSTGRES_UNREACHABLE: {
    status: 503,
    retryable: true,
    attempt: false,
    title: 'The server of a connection cannot be reached',
  },
  POSTGRES_FAILED: { status: 503, retryable: true, title: 'A statement failed and may succeed when it is tried again' },
  POSTGRES_REFUSED: { status: 422, retryable: false, title: 'The server does not take the data of a statement' },
  POSTGRES_INVALID: { status: 500, retryable: false, title: 'A statement is wrong, or not allowed' },
  RECORD_TOO_LARGE: { status: 413, retryable: false, title: 'The record is over its limit' },
} as const satisfies Readonly<Record<string, ErrorEntry>>

interface ErrorEntry {
  readonly status: number
  readonly retryable: boolean
  readonly title: string
  /** False: nothing was tried, so that a record that waits for another try has not used one up. */
  readonly attempt?: false
}

export type ErrorCode = keyof typeof errorTable

/** One thing wrong with one part of an input: where (JSON pointer or file:line:column) and what. */
export interface Fault {
  readonly where: string
  readonly message: string
}

/** `where: what; where: what`; the whole of a value is `/`. */
export function inOneLine(faults: readonly Fault[]): string {
  return faults.map(({ where, message }) => `${where || '/'}: ${message}`).join('; ')
}

export class SluiceError extends Error {
  override readonly name = 'SluiceError'
  readonly code: ErrorCode
  readonly faults: readonly Fault[]
  /** Milliseconds after which trying again makes sense, if the thrower knows. */
  readonly retryAfterMs: number | undefined

  constructor(
    code: ErrorCode,
    detail: string,
    options: { cause?: unknown; faults?: readonly Fault[]; retryAfterMs?: number } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.faults = options.faults ?? []
    this.retryAfterMs = options.retryAfterMs
  }

  get status(): number {
    return errorTable[this.code].status
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable
  }

  /** Whether something was tried and failed; false when it has to wait before it can be tried. */
  get isAttempt(): boolean {
    const entry: ErrorEntry = errorTable[this.code]
    return entry.attempt !== false
  }
}

/** The text of anything thrown, without a stack. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
