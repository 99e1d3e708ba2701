/**
 * Workflows in this process, with virtual time: a year of ticks, retries, sensors and approvals passes as fast as their
 * attempts take. The decisions are the engine's own; what it keeps in PostgreSQL is kept in memory here.
 */
import type { Defined, SimulateOptions } from './simulate-options.ts'
import { SimulatedWorld } from './simulated-world.ts'

/**
 * @param definitions the workflows, with those that they run, and topics that their plans name; paths of YAML workflows, with
 *   the actions that these call.
 * @throws SluiceError DEFINITION_INVALID with everything that is wrong in them; USAGE, CONFIGURATION
 */
export function simulate(
  definitions: readonly (Defined | string)[],
  options: SimulateOptions = {},
): Promise<SimulatedWorld> {
  return SimulatedWorld.open(definitions, options)
}
