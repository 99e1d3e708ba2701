import { checkName } from './name.ts'

export interface SecretHandle {
  readonly kind: 'secret'
  readonly name: string
}

/**
 * Names a secret of the deployment, for `context.secret(token)`. Its text comes from `SLUICE_SECRET_<NAME>` or the secrets
 * file, and is redacted in every log. @throws SluiceError DEFINITION_INVALID
 */
export function secret(name: string): SecretHandle {
  checkName('secret', name)
  return { kind: 'secret', name }
}
