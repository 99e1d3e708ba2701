/** Errors as problem documents (RFC 9457). What is an error of ours is told to the log, and to nobody else. */
import { type ErrorCode, errorTable, messageOf, SluiceError } from '../errors.ts'
import { z } from '../sdk/schema.ts'

export const problemType = 'application/problem+json'

export const problemSchema = z.object({
  type: z.string().meta({ description: 'A URI that names the kind of problem' }),
  title: z.string(),
  status: z.int(),
  code: z.string().meta({ description: 'A stable code of the table of errors' }),
  detail: z.string(),
  instance: z
    .string()
    .meta({ description: 'This occurrence: the path and the id of the request, which the log has too' }),
  errors: z.array(
    z.object({
      where: z.string().meta({ description: 'JSON pointer that starts with path, query, headers or body' }),
      message: z.string(),
    }),
  ),
})

export type Problem = z.infer<typeof problemSchema>

/** `instance` is the path and the id of the request. */
export function problemOf(error: SluiceError, instance: string): Problem {
  return {
    type: `urn:sluice:error:${error.code.toLowerCase().replaceAll('_', '-')}`,
    title: errorTable[error.code].title,
    status: error.status,
    code: error.code,
    detail: isOurs(error)
      ? `${errorTable[error.code].title}. The log has it under the instance of this document`
      : error.message,
    instance,
    errors: [...error.faults],
  }
}

/** Their messages name where the database and the store are. */
const ofOurPlaces: ReadonlySet<ErrorCode> = new Set([
  'DATABASE_UNREACHABLE',
  'DATABASE_READ_ONLY',
  'STORAGE_FULL',
  'STORAGE_FAILED',
])

/** Whether the cause lies with us, so that its message is for the log only. */
export function isOurs(error: SluiceError): boolean {
  return error.status === 500 || ofOurPlaces.has(error.code)
}

const ofFastify: Readonly<Record<string, readonly [ErrorCode, string?]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['BODY_TOO_LARGE'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'UNSUPPORTED_MEDIA_TYPE',
    'This content type is not taken here; /docs says which are, mostly application/json',
  ],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['MALFORMED_JSON', 'The content type is application/json, but the body is empty'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['MALFORMED_JSON'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['USAGE', 'The body is not as long as Content-Length says'],
  FST_ERR_BAD_URL: ['USAGE', 'The path is not a valid URL path'],
  FST_ERR_MAX_PARAM_LENGTH: ['NOT_FOUND', 'A part of the path is too long'],
}

/** What was thrown while a request was handled, as an error of the table. */
export function errorOf(thrown: unknown): SluiceError {
  if (thrown instanceof SluiceError) return thrown
  const { code, statusCode } = (typeof thrown === 'object' && thrown !== null ? thrown : {}) as {
    code?: unknown
    statusCode?: unknown
  }
  const known = typeof code === 'string' ? ofFastify[code] : undefined
  if (known) return new SluiceError(known[0], known[1] ?? messageOf(thrown), { cause: thrown })
  // SQLSTATE: the statement took longer than the pool allows; a value the database cannot hold (such as NUL in a text).
  if (code === '57014') return new SluiceError('TIMEOUT', 'Reading took too long; ask for less', { cause: thrown })
  // Rolled back for the sake of others, or a lock that did not come.
  if (typeof code === 'string' && /^(40...|55P03)$/.test(code)) {
    const detail = 'The database was busy with others who want the same; ask again'
    return new SluiceError('UNAVAILABLE', detail, { cause: thrown, retryAfterMs: 1_000 })
  }
  if (code === '22021' || code === '22P05') {
    return new SluiceError('INVALID_INPUT', 'A text has a character that cannot be stored (NUL)', { cause: thrown })
  }
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new SluiceError('USAGE', messageOf(thrown), { cause: thrown })
  }
  return new SluiceError('INTERNAL', messageOf(thrown), { cause: thrown })
}
