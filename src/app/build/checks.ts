/** Checks that several kinds of definitions share. */
import { policyOf, type RetryPolicy } from '../../core/retry.ts'
import { SluiceError } from '../../errors.ts'
import type { RetryOptions } from '../../sdk/action-definition.ts'
import { type Schema, z } from '../../sdk/schema.ts'
import type { ObjectSchema } from './plans-of.ts'

/** The platform's own HTTP paths, and what lies below them. */
export const ownPaths =
  /^\/(healthz|readyz|metrics|docs|openapi\.json|api\/v1\/(datasets|workflows|runs|tasks|limits|plans|hooks|streams|logs|events|query|approvals))(\/|$)/

export function jsonSchema(schema: Schema, what: string): ObjectSchema {
  if (typeof schema !== 'object' || schema === null || !('_zod' in schema))
    throw invalid(`${what} must be a zod schema`)
  return z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' }) as ObjectSchema
}

export function checkedPolicy(options: RetryOptions, attempts: number, whose: string): RetryPolicy {
  checkWhole(`retry.attempts of ${whose}`, options.attempts ?? attempts, 1, 100)
  return policyOf(options, attempts)
}

export function checkWhole(what: string, value: unknown, from: number, to: number): void {
  if (Number.isInteger(value) && (value as number) >= from && (value as number) <= to) return
  throw invalid(`${what} is ${JSON.stringify(value)}; allowed are whole numbers from ${from} to ${to}`)
}

export function invalid(message: string): SluiceError {
  return new SluiceError('DEFINITION_INVALID', message)
}
