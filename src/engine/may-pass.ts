import { SluiceError } from '../errors.ts'

/** SQLSTATE classes: rolled back for others' sake, no room, not in the right state, stopped by an operator, system error. */
const passing = /^(40|53|55|57|58)/

/** Whether the same may go well later; what is about the run itself never does. */
export function mayPass(error: unknown): boolean {
  if (error instanceof SluiceError) return error.retryable
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && passing.test(error.code)
}
