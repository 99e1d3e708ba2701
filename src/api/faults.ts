/** Faults of an input: where (JSON pointer that starts with path, query, headers or body), and what. */
import { type Fault, SluiceError } from '../errors.ts'

export { faultsOf, isUnfit, pointer, unfitPart, unfitText } from '../core/input-faults.ts'

/** INVALID_INPUT whose message names the first fault. */
export function invalid(faults: readonly Fault[]): SluiceError {
  const [first] = faults
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : ''
  return new SluiceError('INVALID_INPUT', `${first?.where}: ${first?.message}${more}`, { faults: faults.slice(0, 100) })
}
