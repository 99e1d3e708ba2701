/** What is wrong with a JSON value: where (a JSON pointer below the start that the caller names), and what. */
import type { Fault } from '../errors.ts'
import type { z } from '../sdk/schema.ts'

/** One fault for each field that is wrong; a field that is unknown is named itself. */
export function faultsOf(error: z.ZodError, where: string): Fault[] {
  return error.issues.flatMap((issue) => {
    const at = pointer(where, issue.path)
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ where: pointer(at, [key]), message: 'is not known here' }))
    }
    return [{ where: at, message: issue.message }]
  })
}

/** JSON pointer (RFC 6901); each part is cut at 100 characters. */
export function pointer(start: string, path: readonly PropertyKey[]): string {
  const parts = path.map((part) => String(part).replaceAll('~', '~0').replaceAll('/', '~1').slice(0, 100))
  return [start, ...parts].join('/')
}

export const unfitText = 'has a character that cannot be stored: NUL, or half of a surrogate pair'

export const isUnfit = (text: string) => text.includes('\0') || !text.isWellFormed()

/** The first part of a JSON value that cannot be kept as it is: a text, or a number beyond all numbers. */
export function unfitPart(value: unknown, where: string): Fault | undefined {
  if (typeof value === 'string') return isUnfit(value) ? { where, message: unfitText } : undefined
  if (value === Number.POSITIVE_INFINITY || value === Number.NEGATIVE_INFINITY) {
    return { where, message: 'is beyond the numbers that can be kept (1.8e308)' }
  }
  if (typeof value !== 'object' || value === null) return undefined
  for (const [name, inner] of Object.entries(value)) {
    const found = isUnfit(name) ? { where, message: unfitText } : unfitPart(inner, pointer(where, [name]))
    if (found !== undefined) return found
  }
  return undefined
}
