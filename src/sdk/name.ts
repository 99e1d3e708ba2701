import { SluiceError } from '../errors.ts'

const allowed = /^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$/

/** Names appear in URLs, file names and tables. @throws SluiceError DEFINITION_INVALID */
export function checkName(kind: string, name: string): void {
  if (typeof name !== 'string' || name.length > 60 || !allowed.test(name)) {
    throw new SluiceError(
      'DEFINITION_INVALID',
      `${JSON.stringify(name)} is not a name for a ${kind}; use a-z, 0-9 and single - or _ inside, starting with a letter, at most 60 characters`,
    )
  }
}
